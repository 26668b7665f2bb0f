"""The label part of a Parquet file of a Hugging Face data set: boxes, classes, sizes and names of images, but no pixels.

A Parquet file may come from anybody, and a small one can stand for a table of any size: what is read is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.formats._huggingface_footer import count_values, mentions, read_footer
from pipeline.formats._huggingface_names import CLASS_KEYS, names_in
from pipeline.formats._json import parse_bytes

if TYPE_CHECKING:
    import pyarrow as pa

    from pipeline.labelling.fileset import FileSet

BOX_KEYS = ("bbox", "bboxes", "boxes", "box")
NAME_KEYS = ("file_name", "image_file_name", "image_path", "filename", "image", "path")
"""What a column with the names of the images is called."""
MAX_ROWS = 10_000_000
MAX_VALUES = 100_000_000
"""Of all columns that are read."""
MAX_BATCH_BYTES = 64_000_000
ROWS_AT_ONCE = 256


def has_boxes(files: FileSet, path: str) -> bool:
    """Whether a file has a column of boxes and one that names images, by the names in its footer."""
    footer = read_footer(files, path)
    return all(any(mentions(footer, key) for key in keys) for keys in (BOX_KEYS, NAME_KEYS))


class ParquetTable:
    """One file, opened.

    Attributes:
        names: class names by number, where the schema has them.
        has_pixels: whether there is a column for images that lie in the file itself.
    """

    def __init__(self, files: FileSet, path: str) -> None:
        """
        Raises:
            DataError: no Parquet file.
        """
        import pyarrow.parquet as pq

        self._path, self._counts = path, count_values(read_footer(files, path), path)
        with _errors_of(path):
            self._file = pq.ParquetFile(files.root / path)
            schema = self._file.schema_arrow
            self._columns, self.has_pixels = _columns(schema)
            described = (schema.metadata or {}).get(b"huggingface")
        self.names = names_in(parse_bytes(described, path)) if described else None

    def rows(self) -> Iterator[dict[str, Any]]:
        """Every row, as a line of metadata.jsonl has it.

        Raises:
            DataError: a part that cannot be read, or that stands for more than labels ever take.
        """
        with self._file, _errors_of(self._path):
            self._refuse_bombs()
            for batch in self._file.iter_batches(ROWS_AT_ONCE, columns=self._columns):
                if batch.nbytes > MAX_BATCH_BYTES:
                    raise DataError(f"{self._path}: {batch.num_rows} rows hold {batch.nbytes} bytes without their pixels")
                yield from batch.to_pylist()

    def _refuse_bombs(self) -> None:
        wanted = tuple(f"{column}." for column in self._columns)
        values = sum(count for column, count in self._counts.items() if f"{column}.".startswith(wanted))
        rows = self._file.metadata.num_rows
        if rows > MAX_ROWS or values > MAX_VALUES:
            raise DataError(f"{self._path}: {rows} rows with {values} values in the columns of labels are too many")


def _columns(schema: pa.Schema) -> tuple[list[str], bool]:
    """The columns that hold boxes, classes, sizes and names of images, and whether one holds pixels."""
    import pyarrow.types as types

    wanted, has_pixels = [], False
    for field in schema:
        kind = field.type
        while types.is_list(kind) or types.is_large_list(kind):
            kind = kind.value_type
        inner = {part.name for part in kind} if types.is_struct(kind) else set()
        if inner >= {"bytes", "path"}:
            has_pixels = True
            wanted.append(f"{field.name}.path")
            continue
        is_text = types.is_string(kind) or types.is_large_string(kind)
        is_label = field.name in (*BOX_KEYS, *CLASS_KEYS, "width", "height") or not inner.isdisjoint(BOX_KEYS)
        if is_label or (is_text and field.name in NAME_KEYS):
            wanted.append(field.name)
    return wanted, has_pixels


@contextmanager
def _errors_of(path: str) -> Iterator[None]:
    """Whatever pyarrow makes of a damaged file, as one kind of error."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, OverflowError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: malformed Parquet ({first_line[:200]})") from error
