"""Postgres itself: it answers, is recent enough, keeps time, has room, and is not damaged."""

import re
from collections.abc import Iterator

from console.checks.findings import Finding, Sight, check
from console.output import duration
from core.errors import SchemaError
from db import drift, health, tasks
from db.schema import WANTED_REVISION, current_revision, is_newer, require_revision

POSTGRES_WANTED = 16
PGVECTOR_WANTED = (0, 8, 4)  # older ones can corrupt an HNSW index
# Writes end three million transactions before the age reaches 2^31.
_FROZEN_LIMIT = 2**31 - 3_000_000
_SHOWN = 3


@check("database", finds="Postgres does not answer, takes too long, or is older than 16", needs="server", is_own=True)
def database(sight: Sight) -> Iterator[Finding]:
    """The server answers, and its version is one that serves."""
    found = health.server(sight.connection)
    if found.major < POSTGRES_WANTED:
        detail = f"PostgreSQL {found.version} is too old: use {POSTGRES_WANTED} or newer"
        yield Finding("database", "wrong", detail)
    else:
        yield Finding("database", "ok", f"PostgreSQL {found.version}")


@check("pgvector", finds="the extension is missing or older than 0.8.4", needs="server", is_own=True)
def pgvector(sight: Sight) -> Iterator[Finding]:
    """The extension is there, in a version that can be trusted."""
    version = health.server(sight.connection).pgvector
    if version is None:
        yield Finding("pgvector", "wrong", "the extension is missing: run `greenroom db migrate` as the owner")
        return
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    wanted = ".".join(map(str, PGVECTOR_WANTED))
    if found < PGVECTOR_WANTED:
        yield Finding("pgvector", "wrong", f"{version} is too old: install {wanted} or newer on the server")
    else:
        yield Finding("pgvector", "ok", version)


@check("schema", finds="the schema is older or newer than the program", needs="server", is_own=True)
def schema(sight: Sight) -> Iterator[Finding]:
    """The schema is this program's; what runs goes on under a newer one, so to a host itself that is no harm."""
    revision = current_revision(sight.connection)
    if sight.is_own and is_newer(revision):
        detail = f"{revision} is newer than this program ({WANTED_REVISION}), which goes on for now: upgrade it"
        yield Finding("schema", "warning", detail)
        return
    try:
        require_revision(revision)
    except SchemaError as error:
        sight.has_schema = False
        yield Finding("schema", "wrong", str(error))
    else:
        yield Finding("schema", "ok", WANTED_REVISION)


@check("drift", finds="somebody changed the schema by hand")
def drifted(sight: Sight) -> Iterator[Finding]:
    """Nobody changed the schema by hand."""
    found = drift.differences(sight.place.login("operator"))
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        yield Finding("drift", "warning", f"{found[0]}{more}: `greenroom db check` lists what to take back")
    else:
        yield Finding("drift", "ok", "the schema is as migrations made it")


@check("clock", finds="Postgres' clock and this host's are `GREENROOM_ALERTS_CLOCK_SECONDS` apart", needs="server")
def clock(sight: Sight) -> Iterator[Finding]:
    """Postgres' clock and this host's agree; half the time that the answer takes is on its way back."""
    before = sight.now()
    theirs = health.now(sight.connection)
    after = sight.now()
    apart = (theirs - (before + (after - before) / 2)).total_seconds()
    yield apart_by("clock", "Postgres'", apart, sight)


def apart_by(name: str, whose: str, seconds: float, sight: Sight) -> Finding:
    """Judge how far a clock is from this host's."""
    if abs(seconds) <= sight.settings.alerts.clock_seconds:
        return Finding(name, "ok", f"{whose} clock and this host's are {abs(seconds):.1f} s apart")
    side = "ahead of" if seconds > 0 else "behind"
    detail = f"{whose} clock is {duration(abs(seconds))} {side} this host's: have both set by NTP"
    return Finding(name, "wrong", detail)


@check("connections", finds="the server's connections are nearly used up, or would be if all processes opened theirs")
def connections(sight: Sight) -> Iterator[Finding]:
    """The server has connections to spare, also when every process opens all that it may."""
    found = health.connections(sight.connection)
    wanted = 0 if sight.place.is_pooled else sum(map(most_connections, tasks.processes(sight.connection)))
    if found.used > sight.bounds.connections * found.most:
        detail = f"{found.used} of {found.most} are in use: raise max_connections, or put PgBouncer before the server"
        yield Finding("connections", "wrong", detail)
    elif wanted > found.most:
        detail = (
            f"the processes that live may open {wanted}, the server has {found.most}: raise max_connections, lower "
            "GREENROOM_WORKER_THREADS, or put PgBouncer before the server"
        )
        yield Finding("connections", "warning", detail)
    else:
        yield Finding("connections", "ok", f"{found.used} of {found.most} in use")


def most_connections(process: tasks.LiveProcess) -> int:
    """Return how many connections a process may hold at once.

    One for each loop, and for each thread of a worker one of either scope; progress, hand-backs and one to spare.
    """
    return len(process.loops_late) + 2 * process.slots + (3 if process.kind == "worker" else 1)


@check(
    "transactions",
    finds="a transaction, a replication slot or a prepared transaction holds vacuum back (the oldest xmin)",
    needs="server",
)
def transactions(sight: Sight) -> Iterator[Finding]:
    """No transaction has been open for so long that the queue bloats."""
    oldest, bounds = health.oldest_transaction(sight.connection), sight.bounds
    detail = f"the oldest snapshot lags {oldest.lag} transactions, the longest open is {duration(oldest.seconds)} old"
    if oldest.lag > bounds.lag or oldest.seconds > bounds.open_seconds:
        held = f" ({oldest.holder})" if oldest.holder else ""
        yield Finding("transactions", "warning", f"{detail}{held}: end it, it bloats the queue")
        return
    blind = "" if oldest.sees_all else " of this login's; to see others', GRANT pg_read_all_stats to it"
    yield Finding("transactions", "ok", detail + blind)


@check("wraparound", finds="rows wait to be frozen for so long that transaction ids run out", needs="server")
def wraparound(sight: Sight) -> Iterator[Finding]:
    """Vacuum freezes rows long before transaction ids run out."""
    age = health.database_state(sight.connection).age
    if age <= sight.bounds.frozen_age:
        yield Finding("wraparound", "ok", f"{age / 1e6:.0f} of {_FROZEN_LIMIT / 1e6:.0f} million transactions")
        return
    detail = (
        f"the oldest row is {age / 1e6:.0f} million transactions old, at {_FROZEN_LIMIT / 1e6:.0f} million writes end: "
        "end what holds vacuum back, then run `VACUUM (FREEZE)` as a superuser"
    )
    yield Finding("wraparound", "wrong", detail)


@check("checksums", finds="pages were read that the disk damaged", needs="server")
def checksums(sight: Sight) -> Iterator[Finding]:
    """No page was read whose checksum is wrong."""
    failures = health.database_state(sight.connection).checksum_failures
    if failures:
        detail = f"{failures} damaged pages were read: disk or memory fail, restore a backup on another machine"
        yield Finding("checksums", "wrong", detail)
    else:
        yield Finding("checksums", "ok", "no damaged page was read")


@check(
    "collation", finds="the library that sorts text is another than the one that indexes were made with", needs="server"
)
def collation(sight: Sight) -> Iterator[Finding]:
    """Text sorts as it did when indexes over it were made."""
    state = health.database_state(sight.connection)
    if state.collation_made and state.collation_now and state.collation_made != state.collation_now:
        detail = (
            f"text sorts by version {state.collation_now}, indexes were made by {state.collation_made}: as the owner "
            "REINDEX the database, then ALTER DATABASE … REFRESH COLLATION VERSION"
        )
        yield Finding("collation", "wrong", detail)
    else:
        yield Finding("collation", "ok", state.collation_now or "of no version")


@check("notify", finds="a NOTIFY of doctor's own does not arrive at the direct address", needs="server")
def notify(sight: Sight) -> Iterator[Finding]:
    """What LISTEN on the direct address is told arrives, by a round trip of doctor's own."""
    place = sight.place
    if place.is_pooled and sight.settings.database.direct_url is None:
        yield Finding("notify", "ok", "no direct address is set: relays poll")
        return
    with (
        sight.connect(place.direct("operator")) as listening,
        sight.connect(place.login("operator"), pooled=place.is_pooled) as notifying,
    ):
        seconds = health.round_trip(listening, notifying, sight.bounds.answer)
    if seconds is None:
        detail = (
            f"a NOTIFY was not heard within {sight.bounds.answer:g} s, so relays poll: set "
            "GREENROOM_DATABASE_DIRECT_URL to the server itself, past any pooler"
        )
        yield Finding("notify", "wrong", detail)
    else:
        yield Finding("notify", "ok", f"a NOTIFY is heard after {seconds * 1000:.0f} ms")
