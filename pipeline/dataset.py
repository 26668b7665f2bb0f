"""A data set in memory: two tables, `images` and `boxes`, and the class names.

Tables rather than objects, because health checks, splits and evaluation over millions of boxes are then vector operations.
They are kept as columns, and a table of pandas is made of them when somebody asks for one: an import and a conversion need none,
and half of their time would go into loading pandas.
On disk: `images.parquet`, `boxes.parquet`, `classes.json`; the pixels lie in `images/<path>` beside them.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline import columns, files
from pipeline.boxes import Boxes
from pipeline.errors import ArtifactError
from pipeline.paths import is_safe_relative

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.columns import Table

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


class Dataset:
    """Images, their boxes, and what the classes are called. Never changed: a change makes another one.

    Attributes:
        class_names: position = class id.
        images: one row per image, the row number is the image number. `path` relative POSIX, unique; `width`, `height` in
            pixels of the upright image; `hash` BLAKE3 (hex) of the file; `source_id` the original's path, which survives tiling
            and augmentation; `group_id` the video, burst or scene that must stay on one side of a split; `split` "" or one of
            `SPLITS`; `dhash` perceptual hash (128 hex digits, "" before pixels were read).
        boxes: one row per box, sorted by `image`; pixel edges of the upright image. What is written into `images` or `boxes` does
            not reach the data set: change a copy.
        image_columns, box_columns: the same by column, which costs no pandas: texts as lists, numbers as read-only arrays.
    """

    def __init__(self, class_names: tuple[str, ...], images: Table, boxes: Table) -> None:
        """From tables, or from columns by name, with at least those of `IMAGE_COLUMNS` and `BOX_COLUMNS`.

        Raises:
            ValueError: what they hold is no sound data set.
        """
        self.class_names = class_names
        self.image_columns = columns.conform(images, IMAGE_COLUMNS, "images")
        self.box_columns = columns.conform(boxes, BOX_COLUMNS, "boxes")
        if (self.image_of_box[1:] < self.image_of_box[:-1]).any():
            order = np.argsort(self.image_of_box, kind="stable")
            ordered = {name: np.asarray(values)[order] for name, values in self.box_columns.items()}
            self.box_columns = columns.conform(ordered, BOX_COLUMNS, "boxes")
        self._validate()

    @cached_property
    def images(self) -> pd.DataFrame:
        return columns.frame(self.image_columns, IMAGE_COLUMNS)

    @cached_property
    def boxes(self) -> pd.DataFrame:
        return columns.frame(self.box_columns, BOX_COLUMNS)

    @property
    def paths(self) -> list[str]:
        return cast("list[str]", self.image_columns["path"])

    @property
    def splits(self) -> list[str]:
        return cast("list[str]", self.image_columns["split"])

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Width and height of every image (N, 2)."""
        return np.stack([np.asarray(self.image_columns[side]) for side in ("width", "height")], axis=1)

    @property
    def image_of_box(self) -> NDArray[np.int64]:
        return cast("NDArray[np.int64]", self.box_columns["image"])

    @property
    def class_ids(self) -> NDArray[np.int64]:
        return cast("NDArray[np.int64]", self.box_columns["class_id"])

    @cached_property
    def edges(self) -> Boxes:
        """(N, 4), read-only."""
        edges = np.stack([np.asarray(self.box_columns[edge]) for edge in EDGES], axis=1)
        edges.flags.writeable = False
        return edges

    def _validate(self) -> None:
        if len(set(self.paths)) < len(self.paths):
            path = next(path for path, count in Counter(self.paths).items() if count > 1)
            raise ValueError(f"images: path must be unique, but '{path}' occurs more than once")
        for path in self.paths:
            if not is_safe_relative(path):
                raise ValueError(f"images: '{path}' is not a relative POSIX path inside the data set")
        for column, values, limit in (
            ("image", self.image_of_box, len(self.paths)),
            ("class_id", self.class_ids, len(self.class_names)),
        ):
            if len(values) and (values.min() < 0 or values.max() >= limit):
                raise ValueError(f"boxes: {column} must be in [0, {limit}), got {values.min()} to {values.max()}")
        if not np.isfinite(self.edges).all():
            raise ValueError("boxes: edges must be finite numbers")
        unknown = set(self.splits) - {"", *SPLITS}
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
        table = {name: [row[name] for row in rows] for name in IMAGE_COLUMNS}
        box_array = np.array([tuple(row) for row in boxes], dtype=np.float64).reshape(-1, len(BOX_COLUMNS))
        return cls(tuple(class_names), table, dict(zip(BOX_COLUMNS, box_array.T, strict=True)))

    def image_rows(self, *names: str) -> Iterator[tuple[Any, ...]]:
        """The named columns of every image, in their order, as plain values of Python."""
        chosen = (self.image_columns[name] for name in names)
        return zip(*(values if isinstance(values, list) else values.tolist() for values in chosen), strict=True)

    def boxes_of(self, image: int) -> pd.DataFrame:
        """The rows of `boxes` that belong to one image number; a binary search, not a scan."""
        start, end = np.searchsorted(self.image_of_box, [image, image + 1])
        return self.boxes.iloc[start:end]

    def edges_of(self, image: int) -> tuple[Boxes, NDArray[np.int64]]:
        """Edges (N, 4) and class ids (N,) of one image."""
        start, end = np.searchsorted(self.image_of_box, [image, image + 1])
        return self.edges[start:end], self.class_ids[start:end]

    def by_image(self) -> list[tuple[Boxes, NDArray[np.int64]]]:
        """`edges_of` for every image, in their order; a hundred times as fast as calling it for each. Views of two arrays."""
        edges, class_ids = self.edges, self.class_ids
        return [(edges[start:end], class_ids[start:end]) for start, end in self.row_ranges()]

    def row_ranges(self) -> Iterable[tuple[int, int]]:
        """For every image, in their order, where its rows of `boxes` begin and end."""
        ends = np.searchsorted(self.image_of_box, np.arange(len(self.paths) + 1))
        return pairwise(ends.tolist())

    def select(self, keep: NDArray[np.bool_]) -> Dataset:
        """The images where `keep` (one bool per image) is true, with their boxes renumbered."""
        number = np.cumsum(keep) - 1
        boxes = columns.where(self.box_columns, keep[self.image_of_box])
        boxes["image"] = number[np.asarray(boxes["image"])]
        return Dataset(self.class_names, columns.where(self.image_columns, keep), boxes)

    def of_split(self, split: str) -> Dataset:
        return self.select(np.array([other == split for other in self.splits], dtype=bool))

    def boxes_per_class(self) -> dict[str, int]:
        counts = np.bincount(self.class_ids, minlength=len(self.class_names))
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def background(self) -> int:
        """How many images have no box."""
        return len(self.paths) - len(set(self.image_of_box.tolist()))

    def counts(self) -> dict[str, object]:
        """What a manifest and a table show: images, boxes, and boxes per class."""
        return {"images": len(self.paths), "boxes": len(self.class_ids), "classes": self.boxes_per_class()}

    def save(self, folder: Path) -> None:
        """Write the two tables and the class names; equal data sets give equal bytes."""
        for name, table in (("images", self.image_columns), ("boxes", self.box_columns)):
            with files.atomic_path(folder / f"{name}.parquet") as temporary:
                columns.write_parquet(table, temporary)
        files.write_text(folder / "classes.json", json.dumps(list(self.class_names), ensure_ascii=False, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Dataset:
        """What `save` wrote.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        try:
            names = _read_names(folder / "classes.json")
            images = columns.read_parquet(folder / "images.parquet", IMAGE_COLUMNS)
            return cls(names, images, columns.read_parquet(folder / "boxes.parquet", BOX_COLUMNS))
        except (OSError, ValueError) as error:
            raise ArtifactError(
                f"{folder} does not hold a whole data set: {error}", "Run `python -m pipeline verify` to see what is wrong."
            ) from error


def _read_names(path: Path) -> tuple[str, ...]:
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path.name}: a list of names is expected")
    return tuple(names)
