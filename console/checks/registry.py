"""All checks, in the order in which they are told of."""

from typing import Final

from console.checks import keys, places, server, tables, work
from console.checks.findings import Check

CHECKS: Final = (
    Check(
        name="database",
        finds="Postgres does not answer, takes too long, or is older than 16",
        look=server.database,
        needs="server",
        is_own=True,
    ),
    Check(
        name="pgvector",
        finds="the extension is missing or older than 0.8.4",
        look=server.pgvector,
        needs="server",
        is_own=True,
    ),
    Check(
        name="schema",
        finds="the schema is older or newer than the program",
        look=server.schema,
        needs="server",
        is_own=True,
    ),
    Check(name="drift", finds="somebody changed the schema by hand", look=server.drifted),
    Check(
        name="clock",
        finds="Postgres' clock and this host's are `GREENROOM_ALERTS_CLOCK_SECONDS` apart",
        look=server.clock,
        needs="server",
    ),
    Check(
        name="connections",
        finds="the server's connections are nearly used up, or would be if all processes opened theirs",
        look=server.connections,
    ),
    Check(
        name="transactions",
        finds="a transaction, a replication slot or a prepared transaction holds vacuum back (the oldest xmin)",
        look=server.transactions,
        needs="server",
    ),
    Check(
        name="wraparound",
        finds="rows wait to be frozen for so long that transaction ids run out",
        look=server.wraparound,
        needs="server",
    ),
    Check(name="checksums", finds="pages were read that the disk damaged", look=server.checksums, needs="server"),
    Check(
        name="collation",
        finds="the library that sorts text is another than the one that indexes were made with",
        look=server.collation,
        needs="server",
    ),
    Check(
        name="vacuum",
        finds="autovacuum is off, or a table is mostly dead rows and no vacuum comes",
        look=tables.vacuum,
        needs="server",
    ),
    Check(
        name="indexes",
        finds="an index is invalid: one whose building was broken off",
        look=tables.indexes,
        needs="server",
    ),
    Check(name="months", finds="a parted table lacks a month that begins within a fortnight", look=tables.ahead),
    Check(
        name="processes",
        finds="no relay, worker or (where there are schedules) scheduler lives, one is silent, or a loop is late",
        look=work.processes,
        is_own=True,
    ),
    Check(name="listen", finds="a relay does not hear NOTIFY", look=work.listen),
    Check(
        name="notify",
        finds="a NOTIFY of doctor's own does not arrive at the direct address",
        look=server.notify,
        needs="server",
    ),
    Check(
        name="queues",
        finds="tasks are due that nobody serves or that wait for long, are held, or stand in a paused queue",
        look=work.queues,
    ),
    Check(name="schedules", finds="a schedule is overdue, or its last fire was refused", look=work.fires),
    Check(name="providers", finds="a provider refused, and what goes by its key waits", look=work.refused),
    Check(name="alerts", finds="an [alert](alerts.md) is raised", look=work.raised),
    Check(
        name="broker",
        finds="Redis does not answer, only reads, is full, would drop messages, or its clock is another",
        look=places.broker,
        needs="nothing",
        is_own=True,
    ),
    Check(name="storage", finds="the storage cannot be written to", look=places.storage, needs="nothing"),
    Check(
        name="disk",
        finds="a disk that files or the embedded server are on is full, or nearly so",
        look=places.disk,
        needs="nothing",
    ),
    Check(
        name="model",
        finds="an embedding model is not installed, or its weights are not the published ones",
        look=places.model,
        needs="nothing",
    ),
    Check(
        name="spaces",
        finds="vectors are of a model that workers with these settings do not have",
        look=places.known_spaces,
    ),
    Check(
        name="loading",
        finds="an embedding model does not load, or does not embed",
        look=places.loading,
        needs="nothing",
        is_deep=True,
    ),
    Check(
        name="keys",
        finds="encrypted fields, secrets or API keys are there, and the key that opens them is not",
        look=keys.keys,
    ),
    Check(
        name="settings",
        finds="settings that contradict each other",
        look=places.settings,
        needs="nothing",
    ),
)
