"""Parquet ↔ columns; the only room that knows pyarrow.

A column is an array (rows,) or (rows, n) where every cell holds as many numbers, else a list.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fleet_runtime.datasets.items import Faulty

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Column: TypeAlias = "NDArray[Any] | list[Any]"
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""How LeRobot keeps an image in a cell."""
INDEX = "__index_level_0__"
"""What pandas calls an index without a name."""


def read(data: bytes, where: str, wanted: Sequence[str] | None = None) -> dict[str, Column]:
    """The columns of a Parquet file, of those `wanted` the ones that are there.

    Raises:
        Faulty: it is no whole Parquet file, or a cell is empty.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        names = file.schema_arrow.names
        table = file.read(names if wanted is None else [name for name in names if name in wanted])
    except (pa.ArrowException, OSError) as fault:
        raise Faulty(
            f"{where} is no whole Parquet file ({_short(fault)}): copy it again, or end its "
            "recording with finalize()"
        ) from fault
    return {name: _column(table.column(name), f"{where}: {name}") for name in table.schema.names}


def _column(column: Any, where: str) -> Column:
    array = column.combine_chunks()
    if array.null_count:
        raise Faulty(f"{where} has {array.null_count} empty cells, wanted none")
    kind = array.type
    if pa.types.is_primitive(kind):
        plain: NDArray[Any] = array.to_numpy(zero_copy_only=False)
        return plain
    if _lists(kind) and pa.types.is_primitive(kind.value_type):
        lengths = {len(cell) for cell in array} if not hasattr(kind, "list_size") else None
        if lengths is None or len(lengths) == 1:
            flat: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
            return flat.reshape(len(array), -1)
    cells: list[Any] = array.to_pylist()
    return cells


def _lists(kind: Any) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _short(fault: Exception) -> str:
    return str(fault).splitlines()[0].rstrip(".")[:120]


class Writer:
    """A Parquet file under construction, one row group for each `add`."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._writer: Any = None
        self.held = 0  # bytes of the columns so far, before packing

    def add(self, columns: Mapping[str, Column]) -> None:
        """Append rows; all calls give the same columns in the same order."""
        table = pa.table({name: _arrow(column) for name, column in columns.items()})
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._bytes, table.schema, compression="snappy")
        self._writer.write_table(table)
        self.held += table.nbytes

    def close(self) -> bytes:
        """The whole file, its footer included."""
        self._writer.close()
        return self._bytes.getvalue()


def whole(columns: Mapping[str, Column]) -> bytes:
    """A file of one row group."""
    writer = Writer()
    writer.add(columns)
    return writer.close()


def tasks(names: Sequence[str]) -> bytes:
    """`meta/tasks.parquet`: the task's words are the index of a pandas frame."""
    table = pa.table({"task_index": np.arange(len(names)), INDEX: pa.array(names, pa.string())})
    told = {
        "index_columns": [INDEX],
        "column_indexes": [],
        "columns": [_told("task_index", "task_index", "int64"), _told(None, INDEX, "unicode")],
        "pandas_version": "2.0.0",
    }
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(told)}), sink)
    return sink.getvalue()


def _told(name: str | None, field: str, kind: str) -> dict[str, str | None]:
    stored = "object" if kind == "unicode" else kind
    return {
        "name": name,
        "field_name": field,
        "pandas_type": kind,
        "numpy_type": stored,
        "metadata": None,
    }


def _arrow(column: Column) -> Any:
    if isinstance(column, list) and column and isinstance(column[0], bytes):
        return pa.array([{"bytes": cell, "path": None} for cell in column], IMAGE)
    if isinstance(column, np.ndarray) and column.ndim > 1:
        return pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), column.shape[1])
    return pa.array(column)
