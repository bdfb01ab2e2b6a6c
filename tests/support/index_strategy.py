"""What each index of a database is for, from its catalogue, the guards of statements and the maps of the designs."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.support.coverage import Entry, designs, load
from tests.support.database import Database

_INDEXES = """
SELECT n.nspname, t.relname, c.relname, i.indisunique,
    ARRAY(SELECT pg_get_indexdef(c.oid, k, true) FROM generate_series(1, i.indnkeyatts) k),
    pg_get_expr(i.indpred, i.indrelid, true), m.amname
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid
JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am m ON m.oid = c.relam
WHERE NOT i.indisprimary AND NOT EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = c.oid)
    AND n.nspname NOT IN ('pg_catalog', 'pg_toast', 'information_schema')
ORDER BY n.nspname, t.relname, c.relname
"""
_KEYS = """
SELECT k.conrelid::regclass::text, a.attname, k.confrelid::regclass::text, k.confdeltype::text
FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
WHERE k.contype = 'f' AND k.conparentid = 0 AND (a.attname <> 'tenant_id' OR cardinality(k.conkey) = 1)
"""
_POLICIES = "SELECT table_schema || '.' || table_name, age_column, name FROM ops.retention_policies ORDER BY name"
_AT_DELETION = {"c": "go with", "n": "forget", "r": "keep", "a": "keep"}
Pair = tuple[str, str]


@dataclass(frozen=True)
class Index:
    """An index as the catalogue has it; `columns` may be expressions."""

    schema: str
    relation: str
    name: str
    is_unique: bool
    columns: tuple[str, ...]
    where: str | None
    method: str

    @property
    def table(self) -> str:
        """Its table, with the schema."""
        return f"{self.schema}.{self.relation}"

    @property
    def is_whole(self) -> bool:
        """Whether it holds all rows, in an order."""
        return self.where is None and self.method == "btree"

    def __str__(self) -> str:
        method = "" if self.method == "btree" else f"{self.method} "
        where = f" where {self.where}" if self.where else ""
        return " ".join(f"{method}({', '.join(self.columns)}){where}".split())


class Strategy:
    """The indexes of a database and what they serve; `queries` names, by index, the statements that are held to it."""

    def __init__(self, database: Database, queries: Mapping[str, Iterable[str]]) -> None:
        self.indexes = [
            Index(schema, relation, name, is_unique, tuple(columns), where, method)
            for schema, relation, name, is_unique, columns, where, method in database.rows(_INDEXES)
        ]
        self._queries = queries
        self._keys: dict[Pair, list[Pair]] = defaultdict(list)
        for table, column, target, action in database.rows(_KEYS):
            self._keys[table, column].append((target, action))
        self._policies: dict[Pair, list[str]] = defaultdict(list)
        for table, column, name in database.rows(_POLICIES):
            self._policies[table, column].append(name)
        self._designs = _asked()
        self._narrowest: dict[Pair, Index] = {}
        for index in sorted(self.indexes, key=lambda each: (len(each.columns), each.name)):
            if index.is_whole:
                self._narrowest.setdefault((index.table, index.columns[0]), index)

    def serves(self, index: Index) -> list[str]:
        """Return what an index is for, but for the designs."""
        lead, found = (index.table, index.columns[0]), []
        if index.is_unique:
            is_target = index.columns == ("id", "tenant_id")
            found.append("references of the same tenant's rows" if is_target else "rule: unique")
        if self._narrowest.get(lead) is index:
            found += [f"rows that {_AT_DELETION[action]} one of `{target}`" for target, action in self._keys[lead]]
            found += ["row security: a tenant's rows"] if index.columns[0] == "tenant_id" else []
        found += [f"`{name}`" for name in sorted(set(self._queries.get(index.name, ())))]
        return found + [f"retention `{name}`" for name in self._policies[lead]]

    def asked_by(self, index: Index) -> list[str]:
        """Return the designs that ask for an index or its rule."""
        return sorted(self._designs[index.table, index.name])

    def line(self, index: Index) -> str:
        """Return what an index is for, in words."""
        serves, asked = self.serves(index), ", ".join(self.asked_by(index))
        if not serves and not asked:
            return "no query of Greenroom's uses it yet"
        said = [f"asked by {asked}"] if asked else []
        return "; ".join([*serves, *said] if serves else [*said, "no query of Greenroom's uses it yet"])

    def idle(self) -> list[str]:
        """Return the indexes that neither a rule, nor a query, nor a design asks for."""
        return [index.name for index in self.indexes if not self.serves(index) and not self.asked_by(index)]


def _asked() -> dict[Pair, set[str]]:
    found: dict[Pair, set[str]] = defaultdict(set)
    for design in designs():
        for table in load(design)["tables"].values():
            for was, entry in _entries(table):
                for name in Entry.of(was, entry).is_at:
                    found[table["is"], name].add(design)
    return found


def _entries(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [*table.get("indexes", {}).items(), *table.get("rules", {}).items()]


_HEAD = """# Indexes

Every index of the database but primary keys, and what it serves, written from the catalogue by
`python -m tests.integration.test_index_strategy`. A statement of `db/sql`, a function or a view is named where its
guard holds it to the index (`tests/integration/test_plans_of_*.py`, `tests/integration/queue/test_*plans.py`): under
row security, with generic plans, among 60,000 rows and more. 000 to 004 are the designs; what one of them asks for
stands, whether a query uses it yet or not.

- A primary key serves look-ups of a row by its key.
- The index of a reference serves the deletion of what is referred to: rows that go with it, forget it or keep it.
- A tenant's rows are found by the narrowest index that its key leads: row security adds the tenant to every query.
- A month has its table's indexes, under names of its own.
- A space of vectors has an HNSW index over its partition (cosine, by the space's precision), for `knowledge.search` and
  for searches of its kind. It is made at run time.
"""


def page(strategy: Strategy) -> str:
    """Return the page of a database's indexes."""
    lines, schema = [_HEAD.rstrip("\n")], ""
    for index in strategy.indexes:
        if index.schema != schema:
            schema = index.schema
            lines += ["", f"## {schema}", "", "| index | of | serves |", "|---|---|---|"]
        lines.append(f"| `{index.name}` | {index.relation} {_cell(str(index))} | {strategy.line(index)} |")
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return f"`{re.sub('::(text|uuid)', '', text)}`".replace("|", "\\|")
