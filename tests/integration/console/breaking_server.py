"""What may be wrong with Postgres and with what stands in it, brought about for real."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from console.checks import findings
from console.checks.findings import Bounds, Sight
from db.connection import connect
from tests.support.doctor import Bench, breaks

HOUR = timedelta(hours=1)


@breaks("database", "wrong", "cannot connect to the database")
def nobody_listens(bench: Bench) -> Sight:
    bench.settings["database"] = {"url": "postgresql://greenroom_operator@127.0.0.1:9/greenroom"}
    return bench.sight()


@breaks("database", "wrong", "is too old: use")
def the_server_is_old(bench: Bench) -> Sight:
    bench.patch.setattr("console.checks.server.POSTGRES_WANTED", 99)  # an older server there is none
    return bench.sight()


@breaks("pgvector", "wrong", "the extension is missing")
def the_extension_is_missing(bench: Bench) -> Sight:
    bench.as_superuser("UPDATE pg_extension SET extname = 'vectors' WHERE extname = 'vector'")
    return bench.sight()


@breaks("pgvector", "wrong", "0.8.3 is too old: install 0.8.4")
def the_extension_is_old(bench: Bench) -> Sight:
    bench.as_superuser("UPDATE pg_extension SET extversion = '0.8.3' WHERE extname = 'vector'")
    return bench.sight()


@breaks("schema", "wrong", "run `greenroom db migrate`")
def the_schema_is_old(bench: Bench) -> Sight:
    bench.database.rows("UPDATE public.alembic_version SET version_num = '0000'")
    return bench.sight()


@breaks("schema", "wrong", "upgrade the program")
def the_schema_is_new(bench: Bench) -> Sight:
    bench.database.rows("UPDATE public.alembic_version SET version_num = '9999'")
    return bench.sight()


@breaks("schema", "warning", "which goes on for now")
def the_schema_is_new_to_what_runs(bench: Bench) -> Sight:
    bench.database.rows("UPDATE public.alembic_version SET version_num = '9999'")
    return bench.sight(is_own=True)


@breaks("drift", "warning", "queue.queues")
def a_column_is_added_by_hand(bench: Bench) -> Sight:
    bench.database.rows("ALTER TABLE queue.queues ADD COLUMN colour text")
    return bench.sight()


@breaks("clock", "wrong", "60 min behind this host's")
def this_hosts_clock_is_ahead(bench: Bench) -> Sight:
    return bench.sight(now=lambda: findings.utc_now() + HOUR)


@breaks("clock", "wrong", "3 h ahead of this host's")
def this_hosts_clock_is_behind(bench: Bench) -> Sight:
    return bench.sight(now=lambda: findings.utc_now() - 3 * HOUR)


@breaks("connections", "wrong", "raise max_connections")
def connections_are_nearly_used_up(bench: Bench) -> Sight:
    for _ in range(10):
        bench.database.connect("relay")
    return bench.sight(bounds=Bounds(connections=0.05))


@breaks("connections", "warning", "lower GREENROOM_WORKER_THREADS")
def workers_may_open_more_than_there_are(bench: Bench) -> Sight:
    for _ in range(2):
        bench.process("worker", queues=["default"], slots=64)
    return bench.sight()


@breaks("transactions", "warning", "end it, it bloats the queue")
def a_worker_forgets_to_commit(bench: Bench) -> Sight:
    connection = bench.database.connect("worker")
    connection.execute("BEGIN")
    connection.execute("SELECT 1")
    return bench.sight(bounds=Bounds(open_seconds=0.001))


@breaks("transactions", "warning", "greenroom test worker")
def a_snapshot_is_kept(bench: Bench) -> Sight:
    reader, writer = bench.database.connect("worker"), bench.database.connect("worker")
    reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.execute("SELECT count(*) FROM queue.queues")
    for _ in range(20):
        writer.execute("SELECT pg_current_xact_id()")
    return bench.sight(bounds=Bounds(lag=10))


@breaks("wraparound", "wrong", "at 2144 million writes end")
def nothing_was_frozen_for_long(bench: Bench) -> Sight:
    # 1,500 million transactions before the next one, on the ring of 2^32
    bench.as_superuser(
        "UPDATE pg_database SET datfrozenxid = ((txid_current() + 2794967296) % 4294967296)::text::xid "
        "WHERE datname = current_database()"
    )
    return bench.sight()


@breaks("checksums", "wrong", "damaged pages were read")
def a_page_is_damaged(bench: Bench) -> Sight:
    bench.as_superuser("CREATE TABLE public.page AS SELECT repeat('x', 1000) AS text FROM generate_series(1, 100)")
    bench.as_superuser("VACUUM FULL public.page")  # what it writes is not kept in memory
    bench.as_superuser("CHECKPOINT")
    [(path,)] = bench.as_superuser("SELECT pg_relation_filepath('public.page')")
    file = Path(str(conninfo_to_dict(bench.database.owner_url)["host"]), path)  # the socket's folder is the data's
    with file.open("r+b") as pages:
        pages.seek(4000)
        pages.write(b"damage")
    with psycopg.connect(bench.database.superuser_url, autocommit=True) as connection:
        try:
            connection.execute("SELECT sum(length(text)) FROM public.page")
        except psycopg.errors.DataCorrupted:
            connection.execute("SELECT pg_stat_force_next_flush()")
    return bench.sight()


@breaks("collation", "wrong", "indexes were made by 0.9")
def text_sorts_otherwise_than_it_did(bench: Bench) -> Sight:
    bench.as_superuser("UPDATE pg_database SET datcollversion = '0.9' WHERE datname = current_database()")
    return bench.sight()


@breaks("vacuum", "warning", "autovacuum does not run")
def autovacuum_is_off(bench: Bench) -> Sight:
    return bench.sight()  # on the servers of the suite it is


@breaks("vacuum", "warning", "12,000 dead rows beside 0 live ones, never vacuumed")
def a_table_is_mostly_dead(bench: Bench) -> Sight:
    with connect(bench.database.owner_url, name="test") as connection:
        connection.execute("CREATE TABLE ops.scratch AS SELECT n FROM generate_series(1, 12000) n")
        connection.execute("DELETE FROM ops.scratch")
        connection.execute("SELECT pg_stat_force_next_flush()")
    return bench.sight()


@breaks("indexes", "warning", "REINDEX INDEX CONCURRENTLY ops.scratch_n_idx")
def an_index_was_broken_off(bench: Bench) -> Sight:
    bench.database.rows("CREATE TABLE ops.scratch AS SELECT 1 AS n FROM generate_series(1, 2)")
    with bench.database.connect() as connection:
        try:
            connection.execute("CREATE UNIQUE INDEX CONCURRENTLY scratch_n_idx ON ops.scratch (n)")
        except psycopg.errors.UniqueViolation:
            return bench.sight()
    raise AssertionError("the index was made")


@breaks("indexes", "warning", "DROP INDEX CONCURRENTLY ops.scratch_n_idx_ccnew")
def a_reindex_was_broken_off(bench: Bench) -> Sight:
    an_index_was_broken_off(bench)
    bench.database.rows("ALTER INDEX ops.scratch_n_idx RENAME TO scratch_n_idx_ccnew")
    return bench.sight()


@breaks("indexes", "warning", 'DROP INDEX CONCURRENTLY ops."Scratch_ccold1"')
def a_second_reindex_was_broken_off(bench: Bench) -> Sight:
    an_index_was_broken_off(bench)
    bench.database.rows('ALTER INDEX ops.scratch_n_idx RENAME TO "Scratch_ccold1"')
    return bench.sight()


def _next_month(months: int = 1) -> datetime:
    now = findings.utc_now()
    index = now.year * 12 + now.month - 1 + months
    return datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC)


@breaks("months", "warning", "see in the relay's log")
def a_month_is_not_made(bench: Bench) -> Sight:
    month = _next_month()
    bench.database.rows(f"DROP TABLE queue.tasks_history_{month:%Y_%m}")
    return bench.sight(now=lambda: month - timedelta(days=5))


@breaks("months", "wrong", "there is none for")
def a_month_has_begun_that_is_not_made(bench: Bench) -> Sight:
    month = _next_month()
    bench.database.rows(f"DROP TABLE queue.tasks_history_{month:%Y_%m}")
    return bench.sight(now=lambda: month)


@breaks("notify", "wrong", "set GREENROOM_DATABASE_DIRECT_URL")
def the_direct_address_leads_elsewhere(bench: Bench) -> Sight:
    elsewhere = bench.database.server.url(database="postgres")
    bench.settings["database"] = {"direct_url": elsewhere}
    return bench.sight(bounds=Bounds(answer=0.3))
