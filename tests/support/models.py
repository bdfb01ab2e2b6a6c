"""What differs between the models and a migrated database: a migration that forgot, or a model.

Partitions are made at run time, months and spaces of vectors; Alembic would take each for a table too many.
"""

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, create_engine, text
from sqlalchemy.engine import Connection as SqlAlchemyConnection
from sqlalchemy.pool import NullPool

from db.connection import connect
from db.models import Base

_LEAVES = text("SELECT relnamespace::regnamespace || '.' || relname FROM pg_class WHERE relispartition")
_CHECKS = text("""
SELECT c.relnamespace::regnamespace || '.' || c.relname || '.' || k.conname FROM pg_constraint k
    JOIN pg_class c ON c.oid = k.conrelid
WHERE k.contype = 'c' AND NOT c.relispartition AND c.relnamespace::regnamespace::text <> ALL (
    ARRAY['public', 'pg_catalog', 'information_schema'])
""")


def differences_of_models(url: str) -> list[str]:
    """Return what differs between a database and the models, a line each."""
    engine = create_engine("postgresql+psycopg://", creator=lambda: connect(url, name="test"), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return [*_of_tables(connection), *_of_checks(connection)]
    finally:
        engine.dispose()


def _of_tables(connection: SqlAlchemyConnection) -> list[str]:
    leaves = set(connection.scalars(_LEAVES))

    def is_ours(item: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        if kind == "foreign_key_constraint":
            # a reference to a partitioned table has one to each of its partitions beside it
            return item.elements[0].target_fullname.rpartition(".")[0] not in leaves
        return kind != "table" or (f"{item.schema}.{name}" not in leaves and name != "alembic_version")

    options = {
        "include_schemas": True,
        "include_object": is_ours,
        "compare_type": True,
        "compare_server_default": True,
    }
    found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
    return [_line(each) for each in found]


def _of_checks(connection: SqlAlchemyConnection) -> list[str]:
    """Compare checks by their names, which Alembic does not look at."""
    declared = {
        f"{table.schema}.{table.name}.{constraint.name}"
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
        if isinstance(constraint, CheckConstraint)
    }
    there = set(connection.scalars(_CHECKS))
    lacking = [f"the check {name} is missing" for name in sorted(declared - there)]
    return lacking + [f"the check {name} is in the database alone" for name in sorted(there - declared)]


def _line(difference: Any) -> str:
    """Put Alembic's tuple, or the list of them that a column's is, into a line."""
    parts = difference[0] if isinstance(difference, list) else difference
    told = " ".join(str(getattr(part, "name", None) or part) for part in parts[1:] if part is not None)
    return f"{str(parts[0]).replace('_', ' ')}: {told}"
