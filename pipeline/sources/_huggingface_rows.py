"""Rows of Parquet files through the library `datasets`: which columns hold images and boxes, and what a row says.

The files are a stranger's. What they hold is counted in their footers before anything is unpacked, see
`formats/_huggingface_footer.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import DataError, MissingDependency, ParamsError, did_you_mean, how_to_install
from pipeline.formats._huggingface_footer import count_values, read_footer
from pipeline.formats._huggingface_names import CLASS_KEYS
from pipeline.formats._huggingface_parquet import BOX_KEYS, MAX_ROWS, MAX_VALUES
from pipeline.labelling.fileset import FileSet

ROWS_AT_ONCE = 16
"""Each holds an image."""
CROWD_KEYS = ("iscrowd", "is_crowd")
_SIZES = ("width", "height")


@dataclass(frozen=True)
class Layout:
    """Which columns are read.

    Attributes:
        image: the column with the images.
        objects: the column with boxes and classes as parts of it; "" when they are columns themselves.
        boxes, classes, crowd: their names in `objects`, or as columns; "" for none.
        sizes: whether columns `width` and `height` tell the size of the image.
        class_names: in the order of their numbers, where the file has them.
    """

    image: str
    objects: str
    boxes: str
    classes: str
    crowd: str
    sizes: bool
    class_names: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        own = [self.objects] if self.objects else [name for name in (self.boxes, self.classes, self.crowd) if name]
        return [self.image, *own, *(_SIZES if self.sizes else ())]


@dataclass(frozen=True)
class Row:
    """One image.

    Attributes:
        number: from 0, in its split.
        data: the file; empty when there is none.
        name: the name that it had, or "".
        size: width and height in pixels that the data set tells.
        objects: lists `bbox`, and of the same length, where there is any, `category` and `iscrowd`.
    """

    number: int
    data: bytes
    name: str
    size: tuple[float, float] | None
    objects: dict[str, list[Any]]


def count_rows(paths: Sequence[Path]) -> int:
    """How many rows files have together.

    Raises:
        DataError: one is damaged, or promises more than a data set has.
    """
    import pyarrow.parquet as pq

    rows = values = 0
    for path in paths:
        footer = read_footer(FileSet(path.parent, (path.name,)), path.name)
        values += sum(count_values(footer, path.name).values())  # pyarrow would end the process over a damaged footer
        with _errors_of(path.name), pq.ParquetFile(path) as file:
            rows += file.metadata.num_rows
    if rows > MAX_ROWS or values > MAX_VALUES:
        raise DataError(f"{paths[0].name}: {rows:,} rows with {values:,} values are too many for a table of images.")
    return rows


def find_layout(path: Path, image_column: str, objects_column: str) -> Layout:
    """The columns of a table, by their types and names.

    Raises:
        ParamsError: a column that the user named is not there, or is not what it should be.
        DataError: no images, no boxes, or several columns that could be it.
    """
    datasets = load()
    import pyarrow.parquet as pq

    count_values(read_footer(FileSet(path.parent, (path.name,)), path.name), path.name)
    with _errors_of(path.name):
        features = datasets.Features.from_arrow_schema(pq.read_schema(path))
    for option, column in (("image_column", image_column), ("objects_column", objects_column)):
        if column and column not in features:
            raise ParamsError(f"collect.options.{option}: there is no column '{column}'.", did_you_mean(column, features))
    image = image_column or _image_column(datasets, features)
    objects = objects_column or _objects_column(features)
    inner = _parts(features[objects]) if objects else features
    boxes = _first(inner, BOX_KEYS)
    if not boxes and objects and objects in BOX_KEYS:
        objects, inner, boxes = "", features, objects
    if not boxes:
        raise ParamsError(
            f"collect.options.objects_column: '{objects}' has no boxes.",
            f"A part of it should be called {' or '.join(BOX_KEYS)}.",
        )
    classes = _first({key: value for key, value in inner.items() if key != image}, CLASS_KEYS)
    label = _innermost(inner[classes]) if classes else None
    names = tuple(label.names) if isinstance(label, datasets.ClassLabel) else ()
    sizes = all(column in features for column in _SIZES)
    return Layout(image, objects, boxes, classes, _first(inner, CROWD_KEYS), sizes, names)


def _image_column(datasets: Any, features: Mapping[str, Any]) -> str:
    found = [
        name
        for name, feature in features.items()
        if isinstance(feature, datasets.Image) or {"bytes", "path"} <= _parts(feature).keys()
    ]
    if len(found) == 1 or "image" in found:
        return found[0] if len(found) == 1 else "image"
    what = f"several columns of images ({', '.join(found)})" if found else f"no column of images among {', '.join(features)}"
    raise DataError(
        f"The table has {what}.", "Name it: collect.options.image_column; or collect the files: collect.options.kind=files."
    )


def _objects_column(features: Mapping[str, Any]) -> str:
    """The column whose parts are boxes; "" when boxes are a column themselves."""
    found = [name for name, feature in features.items() if _first(_parts(feature), BOX_KEYS)]
    if len(found) == 1 or "objects" in found:
        return found[0] if len(found) == 1 else "objects"
    if not found and _first(features, BOX_KEYS):
        return ""
    what = f"several columns of boxes ({', '.join(found)})" if found else f"no column of boxes among {', '.join(features)}"
    raise DataError(f"The table has {what}.", "Name it: collect.options.objects_column. Without boxes nothing can be trained.")


def _parts(feature: Any) -> Mapping[str, Any]:
    """The parts of a column of objects, whether it is an object of lists or a list of objects."""
    inner = _innermost(feature)
    return inner if isinstance(inner, dict) else {}


def _innermost(feature: Any) -> Any:
    while not isinstance(feature, dict) and hasattr(feature, "feature"):
        feature = feature.feature
    return feature


def _first(parts: Mapping[str, Any], keys: Sequence[str]) -> str:
    return next((key for key in keys if key in parts), "")


def rows_of(paths: Sequence[Path], layout: Layout) -> Iterator[Row]:
    """Every row of the files, in order.

    Raises:
        DataError: a part that cannot be read.
    """
    datasets = load()
    name = paths[0].name
    with _errors_of(name):
        table = datasets.IterableDataset.from_parquet(
            [str(path) for path in paths], columns=layout.columns, batch_size=ROWS_AT_ONCE
        )
        if isinstance(table.features[layout.image], datasets.Image):
            table = table.cast_column(layout.image, datasets.Image(decode=False))
        rows = iter(table)
    number = 0
    while True:
        with _errors_of(name):
            record = next(rows, None)
        if record is None:
            return
        yield _row(number, record, layout)
        number += 1


def _row(number: int, record: Mapping[str, Any], layout: Layout) -> Row:
    image = record[layout.image]
    data, name = (image.get("bytes"), image.get("path")) if isinstance(image, dict) else (image, "")
    sizes = [record[column] for column in _SIZES] if layout.sizes else []
    told = all(isinstance(value, (int, float)) and 0 < value < 1e6 for value in sizes)
    size = (float(sizes[0]), float(sizes[1])) if sizes and told else None
    return Row(
        number, data if isinstance(data, bytes) else b"", name if isinstance(name, str) else "", size, _objects(record, layout)
    )


def _objects(record: Mapping[str, Any], layout: Layout) -> dict[str, list[Any]]:
    value = record[layout.objects] if layout.objects else record
    keys = {"bbox": layout.boxes, "category": layout.classes, "iscrowd": layout.crowd}
    if isinstance(value, list):
        items = [item for item in value if isinstance(item, dict)]
        columns: dict[str, Any] = {name: [item.get(key) for item in items] for name, key in keys.items() if key}
    else:
        columns = {name: (value or {}).get(key) for name, key in keys.items() if key}
        boxes = columns["bbox"] or []
        is_one = bool(boxes) and not isinstance(boxes[0], (list, tuple, dict))  # a box in no list
        columns |= {name: [column] for name, column in columns.items() if is_one or not isinstance(column, list)}
        columns["bbox"] = columns["bbox"] if boxes else []
    return {name: column if name == "bbox" else [_plain(item) for item in column] for name, column in columns.items()}


def _plain(value: Any) -> Any:
    """A class or mark as JSON can hold it."""
    return value if value is None or isinstance(value, (str, int)) else str(value)


def load() -> Any:
    """The library `datasets`, without its progress bars.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingDependency(f"The source 'huggingface' needs `datasets` ({error}).", how_to_install("huggingface")) from error
    datasets.disable_progress_bars()
    datasets.config.TORCH_AVAILABLE = False  # else every table loads torch, to be of a class that torch knows
    return datasets


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Whatever `datasets` and pyarrow make of a damaged file, as one kind of error."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"{path}: malformed Parquet ({first_line[:200]})", "Choose another table or split of the data set."
        ) from error
