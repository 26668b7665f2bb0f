"""A data set in memory: two tables, `images` and `boxes`, and the class names.

Tables rather than objects, because health checks, splits and evaluation over millions of boxes are then vector operations.
On disk: `images.parquet`, `boxes.parquet`, `classes.json`; the pixels lie in `images/<path>` beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import files
from pipeline.boxes import Boxes
from pipeline.errors import ArtifactError
from pipeline.paths import is_safe_relative

SPLITS = ("train", "val", "test")

IMAGE_COLUMNS: dict[str, str] = {
    "path": "str",
    "width": "int64",
    "height": "int64",
    "hash": "str",
    "source_id": "str",
    "group_id": "str",
    "split": "str",
    "dhash": "str",
}
BOX_COLUMNS: dict[str, str] = {
    "image": "int64",
    "class_id": "int64",
    "x1": "float64",
    "y1": "float64",
    "x2": "float64",
    "y2": "float64",
}
EDGES = ["x1", "y1", "x2", "y2"]


@dataclass(frozen=True)
class Dataset:
    """Images, their boxes, and what the classes are called.

    Attributes:
        class_names: position = class id.
        images: one row per image, the row number is the image number. `path` relative POSIX, unique; `width`, `height` in
            pixels of the upright image; `hash` BLAKE3 (hex) of the file; `source_id` the original's path, which survives tiling
            and augmentation; `group_id` the video, burst or scene that must stay on one side of a split; `split` "" or one of
            `SPLITS`; `dhash` perceptual hash (128 hex digits, "" before pixels were read).
        boxes: one row per box, sorted by `image`; pixel edges of the upright image.
    """

    class_names: tuple[str, ...]
    images: pd.DataFrame
    boxes: pd.DataFrame

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", _conform(self.images, IMAGE_COLUMNS, "images"))
        boxes = _conform(self.boxes, BOX_COLUMNS, "boxes")
        if not boxes["image"].is_monotonic_increasing:
            boxes = boxes.sort_values("image", kind="stable", ignore_index=True)
        object.__setattr__(self, "boxes", boxes)
        self._validate()

    def _validate(self) -> None:
        duplicated = self.images["path"][self.images["path"].duplicated()]
        if len(duplicated):
            raise ValueError(f"images: path must be unique, but '{duplicated.iloc[0]}' occurs more than once")
        for path in self.images["path"]:
            if not is_safe_relative(path):
                raise ValueError(f"images: '{path}' is not a relative POSIX path inside the data set")
        for column, limit in (("image", len(self.images)), ("class_id", len(self.class_names))):
            values = self.boxes[column].to_numpy()
            if len(values) and (values.min() < 0 or values.max() >= limit):
                raise ValueError(f"boxes: {column} must be in [0, {limit}), got {values.min()} to {values.max()}")
        if not np.isfinite(self.boxes[EDGES].to_numpy()).all():
            raise ValueError("boxes: edges must be finite numbers")
        unknown = set(self.images["split"]) - {"", *SPLITS}
        if unknown:
            raise ValueError(f"images: split must be one of {('', *SPLITS)}, got {sorted(unknown)}")
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"class names must be unique, got {self.class_names}")

    @classmethod
    def from_rows(
        cls,
        class_names: Iterable[str],
        images: Iterable[Mapping[str, object]],
        boxes: Iterable[Iterable[float]],
    ) -> Dataset:
        """From plain rows.

        Args:
            images: mappings with at least `path`, `width`, `height`; `source_id` and `group_id` default to the path.
            boxes: rows `(image, class_id, x1, y1, x2, y2)`.
        """
        rows = [{"hash": "", "source_id": row["path"], "split": "", "dhash": "", **row} for row in images]
        rows = [{"group_id": row["source_id"], **row} for row in rows]
        image_frame = pd.DataFrame(rows, columns=list(IMAGE_COLUMNS))
        box_array = np.array([tuple(row) for row in boxes], dtype=np.float64).reshape(-1, len(BOX_COLUMNS))
        return cls(tuple(class_names), image_frame, pd.DataFrame(box_array, columns=list(BOX_COLUMNS)))

    def boxes_of(self, image: int) -> pd.DataFrame:
        """The rows of `boxes` that belong to one image number; a binary search, not a scan."""
        column = self.boxes["image"].to_numpy()
        start, end = np.searchsorted(column, [image, image + 1])
        return self.boxes.iloc[start:end]

    def edges_of(self, image: int) -> tuple[Boxes, NDArray[np.int64]]:
        """Edges (N, 4) and class ids (N,) of one image."""
        rows = self.boxes_of(image)
        return rows[EDGES].to_numpy(), rows["class_id"].to_numpy()

    def by_image(self) -> list[tuple[Boxes, NDArray[np.int64]]]:
        """`edges_of` for every image, in their order; a hundred times as fast as calling it for each. Views of two arrays."""
        edges = np.ascontiguousarray(self.boxes[EDGES].to_numpy())
        class_ids = self.boxes["class_id"].to_numpy()
        return [(edges[start:end], class_ids[start:end]) for start, end in self.row_ranges()]

    def row_ranges(self) -> Iterable[tuple[int, int]]:
        """For every image, in their order, where its rows of `boxes` begin and end."""
        ends = np.searchsorted(self.boxes["image"].to_numpy(), np.arange(len(self.images) + 1))
        return pairwise(ends.tolist())

    def select(self, keep: NDArray[np.bool_]) -> Dataset:
        """The images where `keep` (one bool per image) is true, with their boxes renumbered."""
        number = np.cumsum(keep) - 1
        boxes = self.boxes[keep[self.boxes["image"].to_numpy()]].copy()
        boxes["image"] = number[boxes["image"].to_numpy()]
        return Dataset(self.class_names, self.images[keep], boxes)

    def of_split(self, split: str) -> Dataset:
        return self.select((self.images["split"] == split).to_numpy())

    def boxes_per_class(self) -> dict[str, int]:
        counts = np.bincount(self.boxes["class_id"].to_numpy(), minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def background(self) -> int:
        """How many images have no box."""
        return len(self.images) - int(self.boxes["image"].nunique())

    def counts(self) -> dict[str, object]:
        """What a manifest and a table show: images, boxes, and boxes per class."""
        return {"images": len(self.images), "boxes": len(self.boxes), "classes": self.boxes_per_class()}

    def save(self, folder: Path) -> None:
        """Write the two tables and the class names; equal data sets give equal bytes."""
        for name, frame in (("images", self.images), ("boxes", self.boxes)):
            with files.atomic_path(folder / f"{name}.parquet") as temporary:
                frame.to_parquet(temporary, index=False, compression="zstd")
        files.write_text(folder / "classes.json", json.dumps(list(self.class_names), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        try:
            names = tuple(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
            return cls(names, pd.read_parquet(folder / "images.parquet"), pd.read_parquet(folder / "boxes.parquet"))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{folder} does not hold a whole data set: {error}", "Run `python -m pipeline verify` to see what is wrong."
            ) from error


def _conform(frame: pd.DataFrame, columns: dict[str, str], name: str) -> pd.DataFrame:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise ValueError(f"{name}: expected columns {list(columns)}, missing {missing}")
    return frame[list(columns)].reset_index(drop=True).astype(columns)
