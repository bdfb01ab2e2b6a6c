"""What all models share: names of constraints, common columns, and the few words that columns are written in.

A table's schema is the module that it stands in (`db.models.identity` is `identity`), its comment the class's
docstring. A column's CHECK, and the foreign key and index of a reference, are made from its declaration. So is the
CHECK that a time is one that a reader can hold: products write times, and one `infinity` would keep a whole page of
rows from being read. The queue's times are the engine's, and a table parted by a time has bounds already.
"""

import inspect
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar
from uuid import UUID

from pgvector import Vector
from pgvector.sqlalchemy import VECTOR
from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    Constraint,
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedColumn, declared_attr, mapped_column

# As Postgres names what has no name.
_NAMES = {
    "pk": "%(table_name)s_pkey",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    "ck": "%(table_name)s_%(constraint_name)s_check",
}
EMAIL = r"{0} ~* '^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{{2,}}$' AND length({0}) <= 255"
"""The check of an e-mail address (002)."""
AMOUNT = "{0} >= 0 AND {0} < 'Infinity'"
"""The check of a number from 0 on that is one."""
IN_RANGE = "{0} >= '0002-01-01 00:00+00' AND {0} < '9999-01-01 00:00+00'"
"""The check of a time that every reader can hold, in its own time zone: drivers refuse rows with another."""
SLUG = "{0} ~ '^[a-z0-9](-?[a-z0-9])*$' AND length({0}) <= 100"
"""The check of a name that stands in a URL."""

Json = dict[str, Any]
JsonList = list[Any]


class Base(DeclarativeBase):
    """The declarative base; `Base.metadata` is what autogenerate compares with the database."""

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        UUID: Uuid(),
        datetime: TIMESTAMP(timezone=True),
        Decimal: Numeric(),
        Json: JSONB(none_as_null=True),
        JsonList: JSONB(none_as_null=True),
        list[str]: ARRAY(Text()),
        list[UUID]: ARRAY(Uuid()),
    }

    @classmethod
    def __table_cls__(cls, *args: Any, **options: Any) -> Table:
        """Make the table in its module's schema, with the constraints that its columns declare."""
        table = Table(*args, schema=cls.__module__.split(".")[2], comment=_comment_of(cls), **options)
        for declared in list(table.columns):
            for constraint in _constraints_of(declared, table):
                table.append_constraint(constraint)
            if "references" in declared.info:
                Index(None, declared)  # belongs to the table by its column
        if _lacks_tenants_index(table):
            Index(None, table.columns["tenant_id"])  # a tenant that is erased is looked for in every table
        return table


def column(
    *kind: Any, check: str | None = None, default: str | None = None, comment: str | None = None, **options: Any
) -> MappedColumn[Any]:
    """Declare a column, with its type where the annotation does not say it.

    `check` (with {0} for the column's name) and `default` are SQL.
    """
    server_default = None if default is None else text(default)
    info = {} if check is None else {"check": check}
    return mapped_column(*kind, server_default=server_default, comment=comment, info=info, **options)


def words(
    most: int, *, least: int = 0, default: str | None = None, is_key: bool = False, **options: Any
) -> MappedColumn[Any]:
    """Declare a text of so many characters; a long one that is a key has to fit into an index, whatever its letters."""
    bounds = f"length({{0}}) <= {most}" if least == 0 else f"length({{0}}) BETWEEN {least} AND {most}"
    if is_key:
        # the bytes first: after BETWEEN a dump would bracket it otherwise
        bounds = f"octet_length({{0}}) <= 2000 AND {bounds}"
    return column(check=bounds, default=None if default is None else f"'{default}'", **options)


def one_of(*values: str, default: str | None = None, **options: Any) -> MappedColumn[Any]:
    """Declare a text of a closed set."""
    listed = ", ".join(f"'{value}'" for value in values)
    return column(check=f"{{0}} IN ({listed})", default=None if default is None else f"'{default}'", **options)


def amount(*kind: Any, **options: Any) -> MappedColumn[Any]:
    """Declare a measure or a price from 0 on: not NaN, which is above all others in Postgres."""
    return column(*kind, check=AMOUNT, **options)


def reference(target: str, *, on_delete: str = "CASCADE", shared: bool = False, **options: Any) -> MappedColumn[Any]:
    """Declare a key of another table, with its index: of the same tenant's row, unless the table is `shared` by all.

    "SET NULL" keeps the tenant.
    """
    return mapped_column(info={"references": (target, on_delete, shared)}, **options)


class Keyed:
    """A row with a key of its own: UUID version 7, so that rows of one time stand together."""

    id: Mapped[UUID] = mapped_column(primary_key=True, server_default=text("ops.uuid_v7()"), sort_order=-30)


class Tenanted:
    """A row of one tenant; row security binds it to that tenant's transactions, goes with the tenant."""

    tenant_id: Mapped[UUID] = mapped_column(
        ForeignKey("identity.tenants.id", ondelete="CASCADE"), sort_order=-20, info={"is_tenant": True}
    )


class Created:
    """When the row was made."""

    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"), sort_order=90)


class Touched(Created):
    """When the row was made and last changed; a trigger keeps the latter."""

    updated_at: Mapped[datetime] = mapped_column(server_default=text("now()"), sort_order=91)


class SoftDeleted:
    """A row that is deleted in two steps: unseen from `deleted_at` on, purged by retention."""

    deleted_at: Mapped[datetime | None] = mapped_column(sort_order=92)


class Versioned:
    """A row whose writer says which version it read; `ops.check_version` counts it up and refuses a stale one."""

    version: Mapped[int] = mapped_column(
        server_default=text("1"),
        server_onupdate=FetchedValue(),
        sort_order=80,
        comment="Counts changes; whoever writes it writes the one that was read",
    )

    @declared_attr.directive
    def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - SQLAlchemy calls it with the class
        """Have a session refuse a stale write by itself: the database counts."""
        return {"version_id_col": cls.version, "version_id_generator": False, "eager_defaults": True}


class InSpace:
    """A vector of a row in a space (`knowledge.spaces`): it goes with the row, and stands in the space's partition."""

    __table_args__: Any = ({"postgresql_partition_by": "LIST (space_id)"},)

    space_id: Mapped[UUID] = mapped_column(ForeignKey("knowledge.spaces.id"), primary_key=True, sort_order=-30)
    embedding: Mapped[Vector] = mapped_column(
        VECTOR(), sort_order=10, info={"check": "vector_norm({0}) > 0"}, comment="Of the space's dimensions"
    )
    created_at: Mapped[datetime] = mapped_column(server_default=text("now()"), sort_order=90)


class External:
    """A row that a product knows by a text of its own (003's keys)."""

    external_id: Mapped[str | None] = mapped_column(
        sort_order=-10, info={"check": "length({0}) BETWEEN 1 AND 255"}, comment="The product's own key"
    )


def _comment_of(model: type) -> str:
    return " ".join(inspect.cleandoc(model.__doc__ or "").split())


def _lacks_tenants_index(table: Table) -> bool:
    if not any(declared.info.get("is_tenant") for declared in table.columns):
        return False
    unique = [list(each.columns) for each in table.constraints if isinstance(each, UniqueConstraint)]
    whole = [index for index in table.indexes if index.dialect_options["postgresql"]["where"] is None]
    led = [list(table.primary_key.columns), *unique, *(list(index.columns) for index in whole)]
    return all(columns[0].name != "tenant_id" for columns in led if columns)


def _is_time(declared: Column[Any], table: Table) -> bool:
    """Tell whether a column holds times that products write."""
    parted_by = table.dialect_options["postgresql"]["partition_by"]
    is_bounded = table.schema == "queue" or parted_by == f"RANGE ({declared.name})"
    return isinstance(declared.type, TIMESTAMP) and not is_bounded


def _constraints_of(declared: Column[Any], table: Table) -> Iterator[Constraint]:
    if check := declared.info.get("check"):
        yield CheckConstraint(check.format(declared.name), name=declared.name)
    if _is_time(declared, table):
        yield CheckConstraint(IN_RANGE.format(declared.name), name=f"{declared.name}_range")
    if declared.info.get("is_tenant") and [key.name for key in table.primary_key] == ["id"]:
        yield UniqueConstraint("id", "tenant_id")  # what references of the same tenant's rows point to
    if referenced := declared.info.get("references"):
        target, on_delete, shared = referenced
        if shared or "tenant_id" not in table.columns:
            yield ForeignKeyConstraint([declared.name], [f"{target}.id"], ondelete=on_delete)
        else:
            action = f"SET NULL ({declared.name})" if on_delete == "SET NULL" else on_delete
            local, remote = [declared.name, "tenant_id"], [f"{target}.id", f"{target}.tenant_id"]
            yield ForeignKeyConstraint(local, remote, ondelete=action)
