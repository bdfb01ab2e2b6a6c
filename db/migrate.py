"""Bring a database to this program's schema: extension, roles, Alembic's revisions. Runs as the database's owner."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.engine import Connection as SqlAlchemyConnection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from core.errors import SchemaError, UnavailableError
from db.connection import Connection, connect
from db.queries import unavailable
from db.roles import ROLES, create_roles, derive_password
from db.schema import WANTED_REVISION, current_revision, is_newer, require_revision

# One migration at a time, over all processes; the number is arbitrary and only ours.
_LOCK = 7_216_335_408_821
_LOCK_TIMEOUT = "15s"
_HELD = "another migration or a long transaction holds the schema: try again later"
# The first with iterative scans, which searches ask for; `greenroom doctor` asks for 0.8.4.
_OLDEST_PGVECTOR = (0, 8)
_PGVECTOR = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
# The revision that makes `ops.create_months`.
_MONTHS_SINCE = "0014"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """Where a database stands: its revision (None: empty), and the one that this program wants."""

    current: str | None
    wanted: str

    @property
    def is_current(self) -> bool:
        """Whether the two agree."""
        return self.current == self.wanted


def status(url: str) -> SchemaStatus:
    """Return where the database at `url` stands; any login may ask."""
    with connect(url, name="migrate") as connection:
        return SchemaStatus(current=current_revision(connection), wanted=WANTED_REVISION)


def scripted_revisions() -> list[str]:
    """Return the revisions that this program has scripts for, the newest first."""
    return [script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()]


def migrate(url: str, *, passwords: Mapping[str, str] | None = None, revision: str = "head") -> SchemaStatus:
    """Create extension and roles where missing and bring the schema to `revision`; return where it stands now.

    `url` is the owner's. Passwords of roles that `passwords` does not name are derived from the owner's. Waits at most
    15 seconds for any lock, so that a migration never queues up the whole system behind itself.
    """
    given = passwords or {}
    with _patient(), connect(url, name="migrate") as connection:
        _create_extension(connection)
        _create_roles(connection, {kind: given.get(kind) or derive_password(url, kind) for kind in ROLES})
    _bring(url, revision)
    return status(url)


def downgrade(url: str, revision: str) -> SchemaStatus:
    """Take the schema back to an older revision ("base": to nothing), as its owner; return where it stands now.

    Raises SchemaError where this program has no such revision, or the schema is older or not there at all.
    """
    current = status(url).current
    if current is None:
        raise SchemaError("the database has no Greenroom schema: there is nothing to take back")
    known = [*scripted_revisions(), "base"]
    if revision not in known or (revision != "base" and revision > current):
        raise SchemaError(f"there is no revision {revision} below {current}: {', '.join(sorted(known))}")
    _bring(url, revision)  # and the roles stay as they are, with their passwords
    return status(url)


def _bring(url: str, revision: str) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    try:
        with _patient(), engine.begin() as connection:
            _run(connection, revision)
    finally:
        engine.dispose()


@contextmanager
def _patient() -> Iterator[None]:
    """Raise the driver's own errors, whose class tells whether they may pass.

    Raises UnavailableError for a lock, and on a server that only reads; SchemaError where rows break a rule that comes.
    """
    try:
        yield
    except (DBAPIError, psycopg.Error) as error:
        told = error.orig or error if isinstance(error, DBAPIError) else error
        if isinstance(told, psycopg.errors.LockNotAvailable):
            raise UnavailableError(_HELD) from told
        if isinstance(told, psycopg.errors.CheckViolation) and told.diag.table_name:
            raise SchemaError(
                f"{told.diag.schema_name}.{told.diag.table_name} has rows that {told.diag.constraint_name} refuses: "
                "nothing was changed; correct them and repeat"
            ) from told
        if isinstance(told, psycopg.errors.ReadOnlySqlTransaction):
            raise unavailable(told) from told
        if told is error:
            raise
        raise told from error


def _run(connection: SqlAlchemyConnection, revision: str) -> None:
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    config = _config()
    config.attributes["connection"] = connection
    current = MigrationContext.configure(connection).get_current_revision()
    going_down = revision == "base" or (current is not None and revision != "head" and revision < current)
    if is_newer(current):
        require_revision(current)
    if current is not None and current >= _MONTHS_SINCE:
        # what stood still for months lacks this month's partitions, the audit's too, which notes the revision's change
        connection.exec_driver_sql("SELECT ops.create_months()")
    (command.downgrade if going_down else command.upgrade)(config, revision)
    connection.exec_driver_sql("GRANT SELECT ON public.alembic_version TO PUBLIC")  # every process checks it


def _create_roles(connection: Connection, passwords: Mapping[str, str | None]) -> None:
    # Two at once would write the same row of the catalogue, and one of them fails: "tuple concurrently updated".
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        create_roles(connection, passwords)


def _create_extension(connection: Connection) -> None:
    if not (found := connection.execute(_PGVECTOR).fetchall()):
        _create_missing_extension(connection)
        found = connection.execute(_PGVECTOR).fetchall()
    [(version,)] = found
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < _OLDEST_PGVECTOR:
        raise SchemaError(
            f"this database's pgvector {version} is too old for searches: install 0.8.4 or newer on its server "
            "and run `ALTER EXTENSION vector UPDATE` in the database"
        )


def _create_missing_extension(connection: Connection) -> None:
    try:
        connection.execute("CREATE EXTENSION vector SCHEMA public")
    except psycopg.errors.InsufficientPrivilege as error:
        raise SchemaError(
            "the extension pgvector is missing and this login may not create it: "
            "run `CREATE EXTENSION vector` once as a superuser of this database"
        ) from error
    except (psycopg.errors.UndefinedFile, psycopg.errors.FeatureNotSupported) as error:
        raise SchemaError("this PostgreSQL has no pgvector: install pgvector 0.8.4 or newer on its server") from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("db.migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
