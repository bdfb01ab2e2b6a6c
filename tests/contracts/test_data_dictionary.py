"""docs/data holds what the models have: a page a bounded context, with its diagram, columns, rules and indexes.

`python -m tests.contracts.test_data_dictionary` writes the pages anew. tests/integration/test_models.py holds the
models against the migrated database.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import CheckConstraint, Column, ForeignKeyConstraint, Index, Table, UniqueConstraint
from sqlalchemy.engine import make_url
from sqlalchemy.schema import CreateIndex

import db.models
from db.models import Base

PAGES = Path(__file__).resolve().parents[2] / "docs" / "data"
_DIALECT = make_url("postgresql+psycopg://").get_dialect()()
CONTEXTS = sorted({str(table.schema) for table in Base.metadata.tables.values()})


def page(context: str) -> str:
    """Return a context's page as the models want it."""
    tables = [table for table in Base.metadata.sorted_tables if table.schema == context]
    module = getattr(db.models, context)
    introduction = " ".join((module.__doc__ or "").split())
    parts = [f"# {context.capitalize()}", introduction, _diagram(tables), *map(_table, tables)]
    return "\n\n".join(parts) + "\n"


def _diagram(tables: list[Table]) -> str:
    lines = ["```mermaid", "erDiagram"]
    for table in tables:
        lines.append(f"    {table.name} {{")
        keys = [column for column in table.columns if _marks(column)]
        lines += [f"        {_plain(column)} {column.name}{_marks(column)}" for column in keys]
        lines.append("    }")
    lines += sorted(f"    {relation}" for table in tables for relation in _relations(table))
    return "\n".join([*lines, "```"])


def _relations(table: Table) -> Iterator[str]:
    for key in _keys(table):
        column = next(column for column in key.columns if column.name != "tenant_id")
        target = key.elements[0].column.table
        name = target.name if target.schema == table.schema else f'"{target.schema}.{target.name}"'
        yield f"{name} {'|o' if column.nullable else '||'}--o{{ {table.name} : {column.name}"


def _keys(table: Table) -> list[ForeignKeyConstraint]:
    """Return a table's references but for that of each tenant's row to its tenant."""
    found = [each for each in table.constraints if isinstance(each, ForeignKeyConstraint)]
    return sorted((key for key in found if list(key.column_keys) != ["tenant_id"]), key=lambda key: str(key.name))


def _plain(column: Column[object]) -> str:
    return _type(column).split("(")[0].replace(" ", "_").replace("[]", "s").lower()


def _marks(column: Column[object]) -> str:
    marks = [mark for mark, is_one in (("PK", column.primary_key), ("FK", bool(column.foreign_keys))) if is_one]
    return f" {', '.join(marks)}" if marks and column.name != "tenant_id" else ""


def _type(column: Column[object]) -> str:
    return str(column.type.compile(dialect=_DIALECT)).lower()


def _table(table: Table) -> str:
    lines = [f"## {table.schema}.{table.name}", "", table.comment or "", ""]
    lines += ["| column | type | default | |", "|---|---|---|---|"]
    for column in table.columns:
        required = "" if column.nullable else " not null"
        comment = column.comment or _reference_of(column)
        lines.append(f"| `{column.name}` | {_type(column)}{required} | {_default(column)} | {_cell(comment)} |")
    rules = [f"- `{name}`: {text}" for name, text in sorted(_rules(table))]
    sorted_indexes = sorted(table.indexes, key=lambda index: str(index.name))
    indexes = [f"- `{index.name}`: {_index(index)}" for index in sorted_indexes]
    if rules:
        lines += ["", "Rules:", "", *rules]
    if indexes:
        lines += ["", "Indexes:", "", *indexes]
    return "\n".join(lines)


def _default(column: Column[object]) -> str:
    if column.computed is not None:
        return f"always `{_cell(str(column.computed.sqltext))}`"
    if column.identity is not None:
        return "counts up"
    default = getattr(column.server_default, "arg", None)
    return "" if default is None else f"`{_cell(str(default))}`"


def _reference_of(column: Column[object]) -> str:
    if column.name == "tenant_id":
        return "whose row it is"
    targets = sorted({f"{key.column.table.schema}.{key.column.table.name}" for key in column.foreign_keys})
    return f"of {', '.join(f'`{target}`' for target in targets)}" if targets else ""


def _rules(table: Table) -> Iterator[tuple[str, str]]:
    for each in table.constraints:
        if isinstance(each, CheckConstraint):
            yield str(each.name), f"`{_cell(str(each.sqltext))}`"
        elif isinstance(each, UniqueConstraint):
            yield str(each.name), f"unique ({', '.join(column.name for column in each.columns)})"
        elif isinstance(each, ForeignKeyConstraint):
            target = each.elements[0].column.table
            action = f", at its deletion {each.ondelete}" if each.ondelete else ""
            yield str(each.name), f"({', '.join(each.column_keys)}) of `{target.schema}.{target.name}`{action}"


def _index(index: Index) -> str:
    statement = str(CreateIndex(index).compile(dialect=_DIALECT))
    return f"{'unique ' if index.unique else ''}`{_cell(statement.partition(' ON ')[2].partition(' ')[2])}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_context_s_page_holds_what_the_models_have(context: str) -> None:
    assert (PAGES / f"{context}.md").read_text(encoding="utf-8") == page(context)


def test_there_is_no_page_without_a_context() -> None:
    assert sorted(path.stem for path in PAGES.glob("*.md")) == CONTEXTS


if __name__ == "__main__":
    PAGES.mkdir(exist_ok=True)
    for found in CONTEXTS:
        (PAGES / f"{found}.md").write_text(page(found), encoding="utf-8")
