"""All checks, in the order in which they are told of."""

from typing import Final

from console.checks import keys, mails, places, server, tables, work
from console.checks.findings import Check

CHECKS: Final[tuple[Check, ...]] = (
    server.database,
    server.pgvector,
    server.schema,
    server.drifted,
    server.clock,
    server.connections,
    server.transactions,
    server.wraparound,
    server.checksums,
    server.collation,
    tables.vacuum,
    tables.indexes,
    tables.ahead,
    work.processes,
    work.listen,
    server.notify,
    work.queues,
    work.recurring,
    work.asked,
    work.refused,
    work.raised,
    work.read,
    mails.unknown_mail,
    places.broker,
    places.storage,
    work.stored,
    places.disk,
    places.model,
    places.known_spaces,
    places.loading,
    keys.keys,
    places.settings,
)
