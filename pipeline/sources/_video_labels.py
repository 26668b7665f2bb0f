"""Label files that are named after a frame of a video: which frame they mean.

YOLO tools name them `clip_12.txt` or `clip_000012.txt` and know no folder `clip/` with `frame_000012.jpg` in it, so a file of
that kind is brought under the name of its frame. Other kinds are left as they are: they name images or frames inside.

Tools disagree about the first frame. Ultralytics and FFmpeg call it 1 (https://github.com/ultralytics/ultralytics, `frame` in
data/loaders.py), CVAT 0. A 0 among the numbers of a video, or the number of its frames, decides. Else numbers that begin with 1
are not guessed at: a box one frame late looks right and is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.errors import DataError
from pipeline.labelling.references import References

_NUMBERED = re.compile(r"(.+?)[ _.-](?:frame[ _.-]?)?([0-9]{1,9})", re.IGNORECASE)


@dataclass(frozen=True)
class FrameLabels:
    """The label files of one video: by the number that stands in their names, the paths of the files, sorted."""

    numbers: Mapping[int, list[str]]

    def first_number(self, video: str, frames: int, given: int | None) -> int:
        """The number by which the files call the first frame: 0 or 1.

        Args:
            frames: how many the video has.
            given: what the options say.

        Raises:
            DataError: nothing decides.
        """
        if given is not None:
            return given
        low, high = min(self.numbers), max(self.numbers)
        if low == 0 or (low > 1 and high != frames):
            return 0
        if high == frames:
            return 1
        raise DataError(
            f"{video}: its label files are numbered from {low} to {high} ({self.numbers[low][0]} …), and it has {frames} frames: "
            "nothing says whether they count from 0 or from 1.",
            "Set collect.options to {first_number: 1} for labels by Ultralytics or FFmpeg, to {first_number: 0} for CVAT's.",
        )


def of_videos(paths: Iterable[str], videos: Iterable[str]) -> dict[str, FrameLabels]:
    """The label files of each video that has any. What two videos of one name could both claim is left out."""
    references = References(videos)
    found: dict[str, dict[int, list[str]]] = {}
    for path in sorted(paths):
        match = _NUMBERED.fullmatch(path.rpartition("/")[2][:-4]) if path.lower().endswith(".txt") else None
        video = references.find(match[1], path).path if match else ""
        if match and video:
            found.setdefault(video, {}).setdefault(int(match[2]), []).append(path)
    return {video: FrameLabels(numbers) for video, numbers in found.items()}


def is_of_video(path: str, stem: str) -> bool:
    """Whether a file is called like a video, alone or with more behind it: `clip.xml`, `clip_12.txt`, `clip-labels.json`."""
    name = path.rpartition("/")[2]
    return name.startswith(stem) and re.match(r"[ _.-]", name[len(stem) :]) is not None
