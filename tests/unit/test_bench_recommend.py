"""A choice for a wish: the fastest that meets it, why the others do not, and the Pareto front."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.bench.recommend import Recommendation, Wish, as_json, asked, recommend
from pipeline.errors import DataError, UsageError
from tests.bench_records import make_cell, make_record

JSON = dict[str, Any]

MODELS = {  # name: milliseconds, mAP50-95
    "n": (10.0, 0.40),
    "s": (20.0, 0.47),
    "slow": (30.0, 0.45),
    "m": (45.0, 0.52),
    "x": (120.0, 0.55),
}


def record(**changed: Any) -> JSON:
    made = [make_cell(ms, seed=number, model=name) for number, (name, (ms, _)) in enumerate(MODELS.items())]
    models = {name: {"map50_95": accuracy, "measured_on": "test of v3"} for name, (_, accuracy) in MODELS.items()}
    return make_record(made, models) | changed


def choose(**wish: Any) -> Recommendation:
    return recommend({"laptop": record()}, Wish(**wish))


@pytest.mark.parametrize(
    ("wish", "chosen"),
    [
        ({}, "n"),
        ({"target_fps": 30}, "n"),
        ({"min_map": 0.42}, "s"),
        ({"min_map": 0.5, "target_fps": 15}, "m"),
        ({"min_map": 0.5, "target_fps": 30}, None),
        ({"min_map": 0.53}, "x"),
        ({"device": "cpu", "max_memory_mib": 400}, "n"),
    ],
)
def test_the_fastest_that_meets_the_wish(wish: JSON, chosen: str | None) -> None:
    found = choose(**wish).chosen
    assert (found and found.cell.model_name) == chosen


def test_each_other_says_why_not() -> None:
    found = choose(min_map=0.5, target_fps=15)
    why = {each.cell.model_name: each.failures for each in found.candidates}
    assert why["n"] == ("not accurate enough: mAP50-95 0.400",)
    assert why["m"] == ()
    assert why["x"][0].startswith("too slow: 8.")
    assert found.summary.startswith("Take m · onnx · fp32 · cpu, 2 threads · 640 px of laptop: 2")
    assert "mAP50-95 0.520" in found.summary
    assert found.chosen
    assert found.chosen.notes == ("its mAP was measured on test of v3",)


def test_others_that_may_be_as_fast_are_named() -> None:
    speeds = {"n": 40.0, "twin": 40.05, "slow": 60.0, **{f"as fast {number}": 40.1 for number in range(3)}}
    uneven = np.repeat([[1.0], [1.05], [1.1], [1.05], [1]], 20, axis=1)
    cells = [make_cell(list(ms * uneven), model=name) for name, ms in speeds.items()]
    found = recommend({"laptop": make_record(cells)}, Wish())
    assert found.chosen
    assert found.chosen in found.candidates
    (note,) = found.chosen.notes
    place = "onnx · fp32 · cpu, 2 threads · 640 px of laptop"
    assert note == f"as fast, within the noise: twin · {place}; as fast 0 · {place}; as fast 1 · {place}; and 1 more"


def test_a_rate_that_is_met_by_luck_perhaps_is_told() -> None:
    uneven = make_cell([np.full(20, ms) for ms in (28.0, 36.0, 30.0, 37.0, 31.0)])
    found = recommend({"laptop": make_record([uneven])}, Wish(target_fps=30)).chosen
    assert found
    assert found.fps > 30
    assert found.notes[0].startswith("it may be too slow: the 95 % interval is 2")
    assert found.notes[0].endswith(" images per second")


def test_where_nothing_meets_the_wish_the_nearest_is_named() -> None:
    found = choose(min_map=0.5, target_fps=30)
    assert found.summary.startswith("Nothing measured offers 30 images per second, mAP50-95 of at least 0.5. Nearest is n ")
    assert found.summary.endswith("of laptop: not accurate enough: mAP50-95 0.400.")


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    assert [each.cell.model_name for each in choose().front] == ["n", "s", "m", "x"]
    twins = [make_cell([[20.0] * 9] * 2, model=name) for name in ("poor", "good")]
    models = {"poor": {"map50_95": 0.1}, "good": {"map50_95": 0.2}}
    front = recommend({"laptop": make_record(twins, models)}, Wish()).front
    assert [each.cell.model_name for each in front] == ["good"]


def test_what_is_not_known_does_not_pass_for_good() -> None:
    cells = [make_cell(10, memory_peak_mib=None)]
    found = recommend({"laptop": make_record(cells)}, Wish(min_map=0.1, max_memory_mib=100))
    assert found.candidates[0].failures == ("its mAP is not known: nobody measured this file", "its memory is not known")
    assert not found.front


def test_memory_of_the_gpu_counts_where_it_ran() -> None:
    cells = [make_cell(10, device="cuda:0", memory_peak_mib=5000, gpu_memory_peak_mib=300)]
    records = {"workstation": make_record(cells)}
    assert recommend(records, Wish(max_memory_mib=400, device="cuda")).chosen
    assert recommend(records, Wish(max_memory_mib=200)).candidates[0].failures == ("too large: 300 MiB of GPU memory",)


def test_slow_frames_are_told_though_the_mean_suffices() -> None:
    cells = [make_cell([[20.0] * 97 + [50.0] * 3] * 2)]
    chosen = recommend({"laptop": make_record(cells)}, Wish(target_fps=30)).chosen
    assert chosen
    assert chosen.notes == ("one image in a hundred takes 50.0 ms or more, longer than the 33.3 ms of a frame",)


def test_throughput_of_batches_is_no_promise_for_a_camera() -> None:
    cells = [make_cell(10, scenario="offline"), make_cell(10, batch=8)]
    with pytest.raises(DataError, match="one image after the other"):
        recommend({"laptop": make_record(cells)}, Wish())


def test_cells_that_are_not_valid_are_listed() -> None:
    made = record()
    made["cells"][0] |= {"status": "invalid", "reasons": ["drift of 9 %"]}
    found = recommend({"laptop": made}, Wish())
    assert found.chosen
    assert found.chosen.cell.model_name == "s"
    assert [(cell.status, cell.reasons) for cell in found.left_out] == [("invalid", ("drift of 9 %",))]


def test_several_tasks_need_a_word() -> None:
    made = {"laptop": make_record([make_cell(10), make_cell(5, task="pose")])}
    with pytest.raises(UsageError, match="several tasks: detect and pose"):
        recommend(made, Wish())
    assert recommend(made, Wish(task="pose")).task == "pose"
    with pytest.raises(UsageError, match="Did you mean 'detect'"):
        recommend(made, Wish(task="detection"))


def test_a_device_that_nobody_used() -> None:
    with pytest.raises(UsageError, match="No cell ran on cuda"):
        choose(device="cuda")


def test_no_cells_at_all() -> None:
    with pytest.raises(DataError, match="hold no cells"):
        recommend({"laptop": make_record([])}, Wish())


def test_the_wish_in_words() -> None:
    assert asked(Wish()) == "the fastest"
    assert asked(Wish(target_fps=30, min_map=0.5, max_memory_mib=512, device="cpu")) == (
        "30 images per second, mAP50-95 of at least 0.5, at most 512 MiB of memory, on cpu"
    )


def test_the_recommendation_as_json() -> None:
    told = json.loads(json.dumps(as_json(choose(min_map=0.5))))
    assert told["chosen"]["map50_95"] == 0.52
    assert [each["is_on_front"] for each in told["candidates"]] == [True, True, False, True, True]
