"""Our tables and indexes: vacuumed, whole, and with months to come."""

import re
from collections.abc import Iterator

from console.checks.findings import Finding, Level, Sight, check
from console.output import duration
from db import health, months

_LEFT_OVER = re.compile(r'_cc(new|old)\d*"?$')


@check("vacuum", finds="autovacuum is off, or a table is mostly dead rows and no vacuum comes", needs="server")
def vacuum(sight: Sight) -> Iterator[Finding]:
    """Vacuum comes, and no table is mostly dead."""
    bounds, is_well = sight.bounds, True
    if not health.has_autovacuum(sight.connection):
        is_well = False
        detail = "autovacuum does not run, and the queue's tables grow for ever: set autovacuum and track_counts to on"
        yield Finding("vacuum", "warning", detail)
    found = health.dead_rows(
        sight.connection, rows=bounds.dead_rows, share=bounds.dead_share, seconds=bounds.dead_seconds
    )
    for table in found:
        is_well = False
        when = "never vacuumed" if table.seconds is None else f"vacuumed {duration(table.seconds)} ago"
        detail = (
            f"{table.dead:,} dead rows beside {table.live:,} live ones, {when}: as the owner run "
            f"`VACUUM (ANALYZE) {table.table}`, and see what keeps autovacuum from it"
        )
        yield Finding(f"vacuum {table.table}", "warning", detail)
    if is_well:
        yield Finding("vacuum", "ok", "autovacuum keeps up")


@check("indexes", finds="an index is invalid: one whose building was broken off", needs="server")
def indexes(sight: Sight) -> Iterator[Finding]:
    """Every index that writes pay for is one that queries use."""
    found = health.invalid_indexes(sight.connection)
    for index, table in found:
        advice = "DROP INDEX CONCURRENTLY" if _LEFT_OVER.search(index) else "REINDEX INDEX CONCURRENTLY"
        detail = f"of {table}, it is written and not used: as the owner run `{advice} {index}`"
        yield Finding(f"index {index}", "warning", detail)
    if not found:
        yield Finding("indexes", "ok", "all are valid")


@check("months", finds="a parted table lacks a month that begins within a fortnight")
def ahead(sight: Sight) -> Iterator[Finding]:
    """Each table that is parted by months has the next one; a row whose month is not there is refused."""
    now, is_well = sight.now(), True
    for relation, since in months.missing(sight.connection):
        if since <= now + sight.bounds.ahead:
            is_well = False
            level: Level = "wrong" if since <= now else "warning"
            advice = "see in the relay's log what it says of it, or who locks the table for long"
            yield Finding(f"months {relation}", level, f"there is none for {since:%Y-%m}: {advice}")
    if is_well:
        yield Finding("months", "ok", "the next ones are there")
