"""What of an archive has no place in the schema of today: said before the first row is written."""

from collections.abc import Mapping, Sequence

from core.errors import PermanentError
from db.restores import Column, File, Part

Tables = Mapping[str, Sequence[Column]]
"""The columns of each table as it is today; none of one that is gone."""


def refuse_unfit(parts: Sequence[Part], tables: Tables, without: Sequence[str]) -> None:
    """Raise PermanentError, which names what does not fit and what can be done, where a file has no place any more."""
    files = {(file.table, file.kind, file.columns): file for part in parts for file in part.files}
    names = {name for file in files.values() for name, _ in file.columns} | {file.table for file in files.values()}
    if unknown := sorted(set(without) - names):
        raise PermanentError(f"the archives have no column and no table {unknown[0]}: leave it out of --without")
    for file in files.values():
        if file.table not in without:
            _refuse_unfit(file, parts[0].files[0].table, tables, without)


def gone_columns(file: File, tables: Tables, without: Sequence[str]) -> list[str]:
    """Return the columns of a file that its table has no more and that are not left out: a value of them is refused."""
    there = {column.name for column in tables[file.table]}
    return [name for name, _ in file.columns if name not in there and name not in without]


def _refuse_unfit(file: File, root: str, tables: Tables, without: Sequence[str]) -> None:
    columns = tables[file.table]
    if not columns and file.table == root:
        raise PermanentError(f"the table {root} is gone, so nothing can be restored to it: make it anew as it was")
    if not columns:
        raise PermanentError(f"the table {file.table} is gone, so its rows have no place: --without {file.table}")
    given = {name for name, _ in file.columns} - set(without)
    for column in columns:
        if column.is_key and column.name not in given:
            raise PermanentError(
                f"{file.table}.{column.name} is of the key, and the archive does not bring it: no row comes back so"
            )
        if file.kind == "rows" and column.is_required and column.name not in given:
            raise PermanentError(
                f"{file.table}.{column.name} takes no NULL and has no default, and the archive does not bring it: "
                "give the column a default until the rows are back"
            )
