"""Login roles: one a kind of process, none a superuser, none past row security.

relay (claims, publishes, rescues) · worker (runs handlers, one tenant a transaction) · system (handlers that work
across tenants) · scheduler (fires schedules) · producer (may only enqueue) · operator (commands and console) ·
reader (looks).
"""

import hashlib
import hmac
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from psycopg import sql

from db.connection import Connection

ROLES = ("relay", "worker", "system", "scheduler", "producer", "operator", "reader")
# A statement that runs for longer is stuck, not slow: the loops' rounds must end to be repeated.
STATEMENT_TIMEOUTS = {
    "relay": "30s",
    "worker": "300s",
    "system": "300s",
    "scheduler": "30s",
    "producer": "30s",
    "operator": "60s",
    "reader": "60s",
}

# The queue's statements live off small indexes of a table whose size changes by the second: without fresh statistics
# the planner would read all of it for a batch. They are planned once, which takes half a millisecond: Postgres would
# plan them anew each time, since it holds an array of unknown length for long. A handler that wants to may SET LOCAL
# either back. The relay's own walk plain indexes only: those forget entries of rows that are gone, which a bitmap scan
# visits again until a vacuum. Nor does a relay wait for the disk: what it writes it would do again after a crash of the
# server, and no attempt begins on a claim that could be forgotten: the take's commit waits for all that came before.
_ENGINE = {"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"}
_SETTINGS = {
    "relay": _ENGINE | {"enable_bitmapscan": "off", "synchronous_commit": "off"},
    "worker": _ENGINE,
    "system": _ENGINE,
    "scheduler": _ENGINE,
}


def role_name(kind: str) -> str:
    """Return the login of a kind of process."""
    return f"greenroom_{kind}"


def derive_password(owner_url: str, kind: str) -> str | None:
    """Return a role's password as derived from the owner's, or None where the owner has none (trusted sockets)."""
    secret = urlsplit(owner_url).password
    if not secret:
        return None
    return hmac.new(unquote(secret).encode(), role_name(kind).encode(), hashlib.sha256).hexdigest()


def role_url(owner_url: str, kind: str) -> str:
    """Return the address by which a process of that kind logs in, derived from the owner's."""
    parts = urlsplit(owner_url)
    password = derive_password(owner_url, kind)
    login = role_name(kind) if password is None else f"{role_name(kind)}:{quote(password)}"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{login}@{host}"))


def create_roles(connection: Connection, passwords: Mapping[str, str | None]) -> None:
    """Create the login roles that are missing and set the passwords that are given; needs CREATEROLE."""
    for kind in ROLES:
        name = sql.Identifier(role_name(kind))
        known = connection.execute("SELECT FROM pg_roles WHERE rolname = %s", (role_name(kind),)).fetchall()
        if not known:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB").format(name))
        if password := passwords.get(kind):
            verifier = sql.Literal(_verifier(connection, kind, password))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(name, verifier))
        for setting, value in _SETTINGS.get(kind, {}).items():
            change = sql.SQL("ALTER ROLE {} SET {} = {}")
            connection.execute(change.format(name, sql.Identifier(setting), sql.Literal(value)))
        limit = sql.Literal(STATEMENT_TIMEOUTS[kind])
        connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = {}").format(name, limit))
    _let_see(connection)


def _let_see(connection: Connection) -> None:
    """Let operators see how long each session's transaction is open, where the owner may give that: `doctor` tells."""
    [(may,)] = connection.execute("SELECT pg_has_role('pg_read_all_stats', 'USAGE WITH ADMIN OPTION')").fetchall()
    if may:
        connection.execute("GRANT pg_read_all_stats TO greenroom_operator")


def _verifier(connection: Connection, kind: str, password: str) -> str:
    """Return what the server keeps of a password: a statement may end up in its log, so none carries a clear one."""
    given = password.encode(), role_name(kind).encode()
    return connection.pgconn.encrypt_password(*given, b"scram-sha-256").decode()
