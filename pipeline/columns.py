"""Columns of a table without pandas, whose import takes longer than that of 50,000 boxes: text as lists, numbers as arrays.

To parquet and back too. What is written has the same columns, kinds and values as what pandas would write.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    Table = pd.DataFrame | Mapping[str, Sequence[object] | NDArray[Any]]

Column = list[str] | NDArray[Any]


def conform(table: Table, kinds: Mapping[str, str], name: str) -> dict[str, Column]:
    """The columns of a table by name, in the order and of the kinds wanted ("str", or a type of numpy's); numbers read-only.

    Raises:
        ValueError: a column is missing, another length than the first, or holds what is not of its kind; `name` is for the
            message.
    """
    missing = [column for column in kinds if column not in table]
    if missing:
        raise ValueError(f"{name}: expected columns {list(kinds)}, missing {missing}")
    columns = {column: _of_kind(table[column], kind, f"{name}: {column}") for column, kind in kinds.items()}
    if len(set(map(len, columns.values()))) > 1:
        lengths = {column: len(values) for column, values in columns.items()}
        raise ValueError(f"{name}: columns of one length are expected, got {lengths}")
    return columns


def _of_kind(values: Any, kind: str, name: str) -> Column:
    if kind != "str":
        numbers = np.asarray(values)
        if kind == "int64" and numbers.dtype.kind == "f" and not np.isfinite(numbers).all():
            raise ValueError(f"{name} must be whole numbers, and some are missing")
        try:
            column = numbers.astype(kind, copy=False).view()
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{name} must be numbers ({error})") from error
        column.flags.writeable = False  # of the view alone: the memory may be the caller's
        return column
    texts = values if isinstance(values, list) else list(values)
    for value in texts:
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, got {value!r}")
    return texts


def where(columns: Mapping[str, Column], keep: NDArray[np.bool_]) -> dict[str, Column]:
    """The rows where `keep` is true."""
    rows = np.flatnonzero(keep).tolist()
    return {name: [values[row] for row in rows] if isinstance(values, list) else values[keep] for name, values in columns.items()}


def frame(columns: Mapping[str, Column], kinds: Mapping[str, str]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(columns, columns=list(kinds)).astype(dict(kinds))


def write_parquet(columns: Mapping[str, Column], path: Path) -> None:
    """Equal columns give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_arrays([_to_arrow(values) for values in columns.values()], names=list(columns))
    pq.write_table(table, path, compression="zstd")


def _to_arrow(values: Column) -> pa.Array:
    """From the bare memory: `pyarrow.array` would import pandas to see whether it was given one of its tables."""
    import pyarrow as pa

    if not isinstance(values, list):
        values = np.ascontiguousarray(values)
        return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
    texts = [value.encode() for value in values]
    ends = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in texts], out=ends[1:])
    return pa.Array.from_buffers(pa.large_string(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(texts))])


def read_parquet(path: Path, kinds: Mapping[str, str]) -> dict[str, Column]:
    """The columns of a file that `write_parquet` or pandas wrote; those that it lacks are for `conform` to find.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or a damaged one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            table = file.read([name for name in kinds if name in file.schema_arrow.names])
        twice = [name for name, count in Counter(table.column_names).items() if count > 1]
        if twice:
            raise ValueError(f"{path.name}: column '{twice[0]}' occurs more than once")
        return {
            name: table.column(name).to_pylist() if kinds[name] == "str" else table.column(name).to_numpy()
            for name in table.column_names
        }
    except pa.ArrowException as error:
        raise ValueError(f"{path.name}: {error}") from error
