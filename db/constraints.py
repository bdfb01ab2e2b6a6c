"""The driver's errors about rules of the schema, translated by SQLSTATE and never by text."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from core.errors import ConstraintError, DuplicateError, MissingMonthError, MissingRowError, StaleVersionError

STALE = "GR004"
"""The SQLSTATE by which `ops.check_version` refuses a stale write."""
_KINDS: dict[str, type[ConstraintError]] = {
    "23001": MissingRowError,  # restrict_violation
    "23502": ConstraintError,  # not_null_violation
    "23503": MissingRowError,
    "23505": DuplicateError,
    "23514": ConstraintError,  # check_violation, and rules that triggers keep
}


@contextmanager
def rules() -> Iterator[None]:
    """Raise ConstraintError and StaleVersionError for what the block's statements break.

    Takes psycopg's errors and SQLAlchemy's, which wrap them; the transaction is over as after any error. Others pass.
    """
    try:
        yield
    except Exception as error:
        translated = rule_error(error)
        if translated is None:
            raise
        raise translated from error


def rule_error(error: BaseException) -> ConstraintError | StaleVersionError | None:
    """Return what an error of the driver says about a rule of the schema, or None where it is about something else."""
    if _is_stale_object(error):
        return StaleVersionError()
    driver: Any = getattr(error, "orig", error)
    if not isinstance(driver, psycopg.Error):
        return None
    told = driver.diag
    table = f"{told.schema_name}.{told.table_name}"
    if driver.sqlstate == STALE:
        return StaleVersionError(table)
    kind = _KINDS.get(driver.sqlstate or "")
    if kind is None:
        return None
    rule = told.constraint_name or told.column_name or ""
    return MissingMonthError(table) if _lacks_part(driver.sqlstate, rule, table) else kind(table, rule)


def _lacks_part(state: str | None, rule: str, table: str) -> bool:
    """Tell whether no month of a parted table takes the row: of all checks, that alone has no name.

    Vectors are parted by spaces, and a space that is not there is no month.
    """
    return state == "23514" and not rule and not table.endswith("_vectors")


def _is_stale_object(error: BaseException) -> bool:
    """Tell whether a session found no row of the version that it had read; who has no session loads no SQLAlchemy."""
    orm = sys.modules.get("sqlalchemy.orm.exc")
    return orm is not None and isinstance(error, orm.StaleDataError)
