"""Rows of an archived file as the text that a page is written by, and the months that they belong to."""

import json
from collections.abc import Sequence
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from db.restores import File
from pipelines.retention.archive.columns import TEXT, to_text
from pipelines.retention.archive.columns import Column as ArchivedColumn

COPY, COPIES = "_copy", "_copies"
"""Of a row of a table without a key: the how-manieth of its equals it is, and how many have its key."""


def encode(rows: pa.Table, file: File) -> str:
    """Return rows as a JSON array of objects: Postgres' text of each value by its column's number, NULL left out.

    With them stand `copy` and `copies`, where rows have these.
    """
    texts = [
        to_text(rows[name].combine_chunks(), ArchivedColumn(name, kind)).cast(TEXT).to_pylist()
        for name, kind in file.columns
    ]
    names = [str(number) for number in range(1, len(texts) + 1)]
    counted = {COPY: "copy", COPIES: "copies"}
    for name in counted.keys() & set(rows.column_names):
        names.append(counted[name])
        texts.append(rows[name].to_pylist())
    objects = (
        {name: text for name, text in zip(names, row, strict=True) if text is not None}
        for row in zip(*texts, strict=True)
    )
    return json.dumps(list(objects), ensure_ascii=False)


def months_of(rows: pa.Table, column: str) -> list[date]:
    """Return the first days of the months (UTC) that a time of the rows lies in."""
    moments = rows[column].combine_chunks().cast(pa.timestamp("us"))
    return sorted(each.date() for each in pc.unique(pc.floor_temporal(moments, unit="month")).to_pylist())


def without_values(rows: pa.Table, columns: Sequence[str]) -> tuple[pa.Table, dict[str, int]]:
    """Return the rows that have no value in any of the columns, and by column how many of the others have one."""
    counted: dict[str, int] = {}
    for name in columns:
        is_null = pc.is_null(rows[name])
        if refused := len(rows) - int(pc.sum(is_null).as_py() or 0):
            counted[name] = refused
            rows = rows.filter(is_null)
    return rows, counted
