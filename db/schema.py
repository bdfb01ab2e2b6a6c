"""Which revision of the schema this program works with, and the check of it that every process makes at its start.

Needs neither Alembic nor SQLAlchemy: a relay starts without them. Revisions are numbers of four digits, so their order
is that of their text; a test holds both to Alembic's scripts.
"""

from core.errors import SchemaError
from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("schema")
WANTED_REVISION = "0049"


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision, None where the database has no schema of ours; any login of ours may ask."""
    if QUERIES.run(connection, "has_revision") != [(True,)]:
        return None
    rows = QUERIES.run(connection, "revision")
    return str(rows[0][0]) if rows else None


def is_newer(revision: str | None) -> bool:
    """Return whether a schema is newer than this program."""
    return revision is not None and revision > WANTED_REVISION


def require_revision(revision: str | None) -> None:
    """Raise SchemaError, with what to do, unless a schema of that revision is the one that this program wants."""
    if revision == WANTED_REVISION:
        return
    if revision is None:
        raise SchemaError("the database has no Greenroom schema yet: run `greenroom db migrate` as its owner")
    if is_newer(revision):
        raise SchemaError(
            f"the database's schema {revision} is newer than this program ({WANTED_REVISION}): upgrade the program"
        )
    raise SchemaError(
        f"the database's schema {revision} is older than this program ({WANTED_REVISION}): "
        "run `greenroom db migrate` as its owner"
    )
