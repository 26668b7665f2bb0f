from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline import images
from pipeline.errors import DataError
from pipeline.ledger import read as read_ledger
from pipeline.sources import _video, _video_decoder, _video_opencv
from pipeline.stage import Context
from pipeline.stages import collect
from tests.collecting import collected, origins

av = pytest.importorskip("av")

from tests.videos import content, entries, make_video, number_in, picture, run, scene, turn  # noqa: E402

# What is in the frames, and when


def test_each_frame_is_the_one_that_its_name_says(clips: Path, tmp_path: Path, context: Context, decoder: str) -> None:
    make_video(clips / "a.mp4", map(picture, range(60)))
    summary = run(tmp_path / "out", context, every_s=0)
    assert collected(tmp_path / "out") == [f"a/frame_{number:06d}.jpg" for number in range(60)]
    for number in range(60):
        assert number_in(images.decode(tmp_path / f"out/files/a/frame_{number:06d}.jpg")) == number
    assert (summary["images"], summary["groups"]) == (60, 1)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
def test_far_frames_are_the_right_ones_in_every_container(suffix: str, clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / f"a.{suffix}", map(picture, range(200)), gop=12)
    run(tmp_path / "out", context, frames=5, format="png")
    assert collected(tmp_path / "out") == [f"a/frame_{number:06d}.png" for number in (19, 59, 99, 139, 179)]
    for path in collected(tmp_path / "out"):
        assert number_in(images.decode(tmp_path / "out/files" / path)) == int(path[-10:-4])


def test_frames_that_are_not_kept_are_not_decoded(
    clips: Path, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.sources import _video_pyav

    make_video(clips / "a.mp4", map(picture, range(240)), gop=24)
    decoded = []
    numbered = _video_pyav._numbered

    def counting(*arguments: Any) -> Iterator[Any]:
        for pair in numbered(*arguments):
            decoded.append(pair[0])
            yield pair

    monkeypatch.setattr(_video_pyav, "_numbered", counting)
    run(tmp_path / "out", context, frames=3)  # frames 39, 119 and 199, of which the last key frames are 24, 96 and 192
    assert decoded == [*range(24, 40), *range(96, 120), *range(192, 200)]


def test_times_and_not_counts_decide_where_the_frame_rate_varies(
    clips: Path, tmp_path: Path, context: Context, decoder: str
) -> None:
    times = [*range(0, 1000, 100), *range(1000, 2000, 20), *range(2000, 8000, 500), 8000]
    make_video(clips / "a.mkv", map(picture, range(len(times))), times)
    run(tmp_path / "out", context, every_s=1)
    expected = [times.index(1000 * second) for second in range(9)]
    assert [row["origin"] for row in origins(tmp_path / "out")] == [
        f"a.mkv @ {second:.3f} s, frame {number}" for second, number in enumerate(expected)
    ]
    for number in expected:
        assert number_in(images.decode(tmp_path / f"out/files/a/frame_{number:06d}.jpg")) == number


@pytest.mark.parametrize(
    ("matrix", "orientation"), [((1, 0, 0, 1), 1), ((0, 1, -1, 0), 6), ((0, -1, 1, 0), 8), ((-1, 0, 0, -1), 3)]
)
def test_rotation_is_honoured(
    matrix: tuple[int, int, int, int], orientation: int, clips: Path, tmp_path: Path, context: Context, decoder: str
) -> None:
    turn(make_video(clips / "a.mp4", [picture(5)] * 3), matrix)
    run(tmp_path / "out", context, frames=1, format="png")
    found = images.decode(tmp_path / "out/files/a/frame_000001.png")
    expected = images.upright(picture(5), orientation)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 12


def test_both_decoders_agree_on_a_real_video(
    shared_data: Path, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"video:{shared_data / 'video/car-detection.mp4'}"
    assert run(tmp_path / "a", context, source, every_s=3)["images"] == 11
    monkeypatch.setattr(_video_decoder, "decoder", lambda: _video_opencv)
    run(tmp_path / "b", context, source, every_s=3)
    assert [row["origin"] for row in origins(tmp_path / "a")] == [row["origin"] for row in origins(tmp_path / "b")]
    for path in collected(tmp_path / "a"):
        a, b = (images.decode(tmp_path / side / "files" / path) for side in "ab")
        assert a.shape == (432, 768, 3)
        assert np.abs(a.astype(int) - b).max() <= 2


def test_a_real_video_has_all_its_frames(shared_data: Path, tmp_path: Path, context: Context) -> None:
    source = f"video:{shared_data / 'video/car-detection.mp4'}"
    assert run(tmp_path / "all", context, source, every_s=0)["images"] == 377
    assert run(tmp_path / "one", context, source)["images"] == 31
    last = origins(tmp_path / "all")[-1]
    assert last["origin"] == "car-detection.mp4 @ 30.080 s, frame 376"
    assert {row["group"] for row in origins(tmp_path / "all")} == {"car-detection.mp4"}
    shared = set(collected(tmp_path / "one"))
    assert all(content(tmp_path / "all")[path] == data for path, data in content(tmp_path / "one").items())
    assert len(shared) == 31


# Files that are damaged, or no videos


def test_a_cut_tail_ends_its_video_and_not_the_run(
    shared_data: Path, clips: Path, tmp_path: Path, context: Context, decoder: str
) -> None:
    whole = (shared_data / "video/car-detection.mp4").read_bytes()
    (clips / "cut.mp4").write_bytes(whole[: len(whole) * 7 // 10])
    make_video(clips / "good.mp4", map(picture, range(10)))
    run(tmp_path / "out", context, every_s=0)
    numbers = [int(path[-10:-4]) for path in collected(tmp_path / "out") if path.startswith("cut/")]
    assert numbers[:266] == list(range(266))
    assert len(numbers) <= 267
    (entry,) = entries(tmp_path / "out", "missing_frames")
    assert (entry.path, entry.item, entry.action) == ("cut.mp4", "image", "dropped")
    assert "declares 377 frames" in entry.detail
    assert sum(path.startswith("good/") for path in collected(tmp_path / "out")) == 10


def test_damage_in_the_middle_loses_the_frames_up_to_the_next_key_frame(
    shared_data: Path, clips: Path, tmp_path: Path, context: Context
) -> None:
    source = shared_data / "video/car-detection.mp4"
    data = bytearray(source.read_bytes())
    data[1_200_000:1_200_400] = np.random.default_rng(0).integers(0, 256, 400, dtype=np.uint8).tobytes()
    (clips / "car-detection.mp4").write_bytes(data)
    run(tmp_path / "out", context, every_s=0)
    run(tmp_path / "whole", context, f"video:{source}", every_s=0)
    numbers = [int(path[-10:-4]) for path in collected(tmp_path / "out")]
    assert numbers == [*range(151), *range(180, 377)]
    (entry,) = entries(tmp_path / "out", "damaged_frames")
    assert entry.detail == "frames 151 to 179, from 12.080 s on, cannot be decoded"
    whole = content(tmp_path / "whole")
    assert all(whole[path] == data for path, data in content(tmp_path / "out").items())


def test_what_is_no_video_stands_in_the_ledger(clips: Path, tmp_path: Path, context: Context, decoder: str) -> None:
    import wave

    make_video(clips / "good.mp4", [picture(3)])
    (clips / "text.mp4").write_text("#EXTM3U\nhttp://example.org/secret.ts\n")
    (clips / "empty.mov").touch()
    (clips / "noise.avi").write_bytes(np.random.default_rng(1).bytes(5000))
    with wave.open(str(clips / "sound.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(b"\0\1" * 8000)
    with av.open(str(clips / "sound.mp4"), "w") as container, av.open(str(clips / "sound.wav")) as given:
        stream = container.add_stream("aac", rate=8000)
        for frame in given.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    run(tmp_path / "out", context)
    assert collected(tmp_path / "out") == ["good/frame_000000.jpg"]
    reasons = {entry.path: entry.reason for entry in read_ledger(tmp_path / "out") if entry.action == "dropped"}
    assert reasons.pop("sound.mp4") in ("no_pictures", "unreadable_video")
    assert reasons == {
        "text.mp4": "not_a_video",
        "empty.mov": "empty_file",
        "noise.avi": "unreadable_video",
        "sound.wav": "not_an_image_nor_labels",
    }


def test_nothing_but_unreadable_videos_is_an_error(clips: Path, tmp_path: Path, context: Context) -> None:
    (clips / "notes.txt").write_text("no video")
    with pytest.raises(DataError, match="there is no video in"):
        run(tmp_path / "out", context)
    (clips / "a.mp4").write_bytes(b"\0\1\2" * 1000)
    with pytest.raises(DataError, match=r"Not one of the videos can be read:\n.*a\.mp4: not a video"):
        run(tmp_path / "out", context)
    with pytest.raises(DataError, match="There is no folder"):
        run(tmp_path / "out", context, "video:nowhere")


# Runs that are repeated


def test_the_same_bytes_on_every_machine(clips: Path, tmp_path: Path, context: Context) -> None:
    from dataclasses import replace

    make_video(clips / "a.mp4", map(picture, range(50)))
    run(tmp_path / "a", context, every_s=0.1)
    run(tmp_path / "b", replace(context, workers=1), every_s=0.1)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert origins(tmp_path / "a") == origins(tmp_path / "b")


@pytest.mark.parametrize("options", [{"every_s": 0.2}, {"every_s": 0.2, "drop_similar": True}, {"sharp": True, "frames": 8}])
def test_a_killed_run_goes_on(options: dict[str, object], clips: Path, tmp_path: Path, context: Context) -> None:
    make_video(clips / "a.mp4", map(picture, range(50)))
    run(tmp_path / "whole", context, **options)
    kept = collected(tmp_path / "whole")
    for path in kept[:4]:
        target = tmp_path / "again/files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((tmp_path / "whole/files" / path).read_bytes())
    before = {path: (tmp_path / "again/files" / path).stat().st_mtime_ns for path in kept[:4]}
    run(tmp_path / "again", context, **options)
    assert content(tmp_path / "again") == content(tmp_path / "whole")
    assert origins(tmp_path / "again") == origins(tmp_path / "whole")
    assert {path: (tmp_path / "again/files" / path).stat().st_mtime_ns for path in kept[:4]} == before


def test_the_fingerprint_follows_the_content_and_decodes_nothing(
    clips: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(clips / "a.mp4", map(picture, range(5)))
    monkeypatch.setattr(_video_decoder, "decoder", lambda: pytest.fail("decoded"))
    params = collect.Params(source="video:clips")
    first = collect.external(params, context)
    assert collect.external(params, context) == first
    (clips / "a.txt").write_text("more")
    assert collect.external(params, context) != first
    one = collect.Params(source="video:clips/a.mp4")
    before = collect.external(one, context)
    (clips / "b.txt").write_text("not of this video")
    assert collect.external(one, context) == before
    (clips / "a.xml").write_text("of this video")
    assert collect.external(one, context) != before


def test_one_more_video_is_one_videos_work(
    clips: Path, tmp_path: Path, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from pipeline import files
    from pipeline.fingerprint import checksums_text

    decoder, read = _video_decoder.decoder(), []

    class Watched:
        read = decoder.read

        @staticmethod
        def index(path: Path) -> _video.Index:
            read.append(path.name)
            return decoder.index(path)

    monkeypatch.setattr(_video_decoder, "decoder", lambda: Watched)
    for seed, name in enumerate(("a.mp4", "b.mp4")):
        make_video(clips / name, (scene(10 * seed + number // 10, 0) for number in range(30)))
    options = {"every_s": 0.2, "drop_similar": True}
    run(tmp_path / "v1", context, **options)
    files.write_text(
        tmp_path / "v1/checksums.b3", checksums_text({f"files/{row['path']}": row["hash"] for row in origins(tmp_path / "v1")})
    )
    make_video(clips / "c.mp4", map(picture, range(30)))
    make_video(clips / "b.mp4", map(picture, range(40)))
    read.clear()
    run(tmp_path / "v2", replace(context, previous=tmp_path / "v1"), **options)
    assert read == ["b.mp4", "c.mp4"]
    first = collected(tmp_path / "v1")[0]
    assert (tmp_path / "v2/files" / first).samefile(tmp_path / "v1/files" / first)
    run(tmp_path / "forced", context, **options)
    assert read == ["b.mp4", "c.mp4", "a.mp4", "b.mp4", "c.mp4"]
    for kept in (content, origins, read_ledger):
        assert kept(tmp_path / "forced") == kept(tmp_path / "v2")
