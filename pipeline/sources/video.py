"""Frames of videos: a video, or a folder of them with whatever labels lie beside, in folders of folders as the user has it.

A frame becomes `<video without its suffix>/frame_000012.jpg`, by its number in the video counted from 0, as CVAT counts and
names frames; so labels made of the whole video find theirs. All frames of a video are one group, which a split does not divide.
Images and label files come along as from a folder; YOLO's of single frames are brought under the frame's name.

Videos are only read. The fingerprint is that of their bytes and of the decoder; nothing is decoded for it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import Field

from pipeline.errors import DataError
from pipeline.fingerprint import FolderIndex, of_value
from pipeline.ledger import Ledger
from pipeline.paths import VIDEO_SUFFIXES, is_image, is_video
from pipeline.sources import Fetched, Origin, _video, _video_decoder, _video_labels, folder, is_wanted, local_path
from pipeline.sources._video_frames import Bar, Frames, Saving
from pipeline.sources._video_labels import FrameLabels
from pipeline.sources._video_memory import Memory
from pipeline.stage import Context

VERSION = 2
"""Raise it whenever the same videos and options would give other files."""


class Options(Saving):
    """`collect.options` of videos: those of `Saving` and `Choice`, and one more."""

    first_number: Literal[0, 1] | None = Field(
        default=None,
        description="by which number label files of single frames call the first; None where that is to be found out",
    )


@dataclass(frozen=True)
class _Found:
    """What lies at the location: paths below `root`, sorted, and the `hashes` of all files by path."""

    root: Path
    videos: list[str]
    others: list[str]
    hashes: dict[str, str]
    dangling: list[str] = field(default_factory=list)


def fingerprint(location: str, options: Options, seed: int, context: Context) -> str:
    """The content of the videos and of what comes with them, and the decoder."""
    found = _find(location, context)
    return f"video {VERSION}, {_video_decoder.decoder_version()}: {of_value([found.hashes, found.dangling])}"


def fetch(location: str, options: Options, seed: int, out: Path, context: Context) -> Fetched:
    """Write the frames that are not in `out` yet, and copy what comes with the videos.

    Raises:
        DataError: there are no videos, none of them can be read, or it is not clear which frames labels are of.
    """
    found, ledger = _find(location, context), Ledger()
    for path in found.dangling:
        ledger.add("file", "dropped", "dangling_link", path=path)
    labels, folders = _video_labels.of_videos(found.others, found.videos), _frame_folders(found)
    origins: list[Origin] = []
    targets = {path: path for path in found.others}  # where each file that comes along goes
    held, problems = folder.held(context.previous), []
    recipe = of_value([VERSION, _video_decoder.decoder_version(), options.model_dump()])
    memory = Memory(context.cache / "videos", recipe, held, out)
    sizes = {path: max(1, (found.root / path).stat().st_size >> 20) for path in found.videos}
    with context.progress("read videos (MB)", sum(sizes.values())) as advance:
        for path in found.videos:
            bar, own = Bar(advance, sizes[path]), Ledger()
            frames = Frames(path, folders[path], options.format)
            try:
                known = memory.recall(frames, found.hashes[path], own)
                if known is None:
                    frames.save(found.root / path, out, options, own, context.workers, bar)
                    memory.note(frames, found.hashes[path], own.entries)
                frames = known or frames
            except _video.NoVideo as error:
                problems.append(str(error))
                ledger.add("file", "dropped", error.reason, path=path, detail=error.message)
            else:
                ledger.entries += own.entries
                origins += frames.origins
                if path in labels:
                    _name_labels(labels[path], path, frames, options.first_number, targets, ledger)
            bar.end()
    if len(problems) == len(found.videos):
        raise DataError("Not one of the videos can be read:", "Save them as MP4 (H.264).", problems)
    origins += _copy(found, targets, out, ledger, held, context)
    name = f"the video '{PurePosixPath(found.videos[0]).name}'"
    description = name if len(found.videos) == 1 else f"{len(found.videos)} videos of the folder '{found.root.name}'"
    return Fetched(sorted(origins, key=lambda origin: origin.path), description=description, ledger=ledger)


def _find(location: str, context: Context) -> _Found:
    path = local_path(location, context)
    index = FolderIndex(context.cache)
    if path.is_file():
        beside = sorted(entry.name for entry in path.parent.iterdir() if entry.is_file())
        others = [name for name in beside if _video_labels.is_of_video(name, path.stem) and _is_label(name)]
        hashes = {name: index.file_digest(path.parent / name, context.progress) for name in (path.name, *others)}
        return _Found(path.parent, [path.name], others, hashes)
    root = folder.find(location, context)
    hashes, dangling = index.hashes(root, context.progress)
    videos = sorted(name for name in hashes if is_video(name))
    if not videos:
        suffixes = ", ".join(sorted(f".{suffix}" for suffix in VIDEO_SUFFIXES))
        raise DataError(f"collect.source: there is no video in {root}.", f"Videos are files with the suffix {suffixes}.")
    return _Found(root, videos, sorted(hashes.keys() - set(videos)), hashes, dangling)


def _is_label(name: str) -> bool:
    return is_wanted(name) and not is_image(name)


def _frame_folders(found: _Found) -> dict[str, str]:
    """Where the frames of each video go: its path without the suffix, or with it where another has a claim to that."""
    plain = {path: str(PurePosixPath(path).with_suffix("")) for path in found.videos}
    claims = Counter(name.casefold() for name in (*plain.values(), *found.others))
    claims.update({path.casefold().rpartition("/frame_")[0] for path in found.others if is_image(path)})
    return {path: name if claims[name.casefold()] == 1 else path for path, name in plain.items()}


def _name_labels(
    labels: FrameLabels, video: str, frames: Frames, first_number: int | None, targets: dict[str, str], ledger: Ledger
) -> None:
    """Set the targets of the label files of single frames beside their frames; those of other frames are not brought."""
    first = labels.first_number(video, frames.count, first_number)
    brought, taken = 0, set(targets.values())
    for number, paths in sorted(labels.numbers.items()):
        frame = number - first
        target = str(PurePosixPath(frames.path_of(frame)).with_suffix(".txt"))
        for path in paths:
            if frame in frames.kept and target not in taken:
                targets[path] = target
                taken.add(target)
                brought += 1
                continue
            del targets[path]
            reason = "second_label_file" if frame in frames.kept else "frame_not_kept"
            reason = reason if 0 <= frame < frames.count else "no_such_frame"
            ledger.add("file", "dropped", reason, path=path, detail=f"frame {frame} of {video}")
    detail = f"{brought} label files of single frames, numbered from {first}, bear the names of their frames"
    ledger.add("file", "converted", "named_after_frame", path=video, detail=detail)


def _copy(
    found: _Found, targets: dict[str, str], out: Path, ledger: Ledger, held: dict[str, Path], context: Context
) -> list[Origin]:
    """Bring what is no video, as the source `folder` does."""
    origins = []
    with context.progress("copy", len(targets)) as advance:
        for path, target in sorted(targets.items()):
            if is_wanted(path):
                digest = found.hashes[path]
                origins.append(Origin(target, path, hash=folder.bring(found.root / path, out / target, held.get(digest), digest)))
            else:
                ledger.add("file", "dropped", "not_an_image_nor_labels", path=path)
            advance()
    return origins
