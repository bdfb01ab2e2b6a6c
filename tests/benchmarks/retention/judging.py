"""What became of each seeded row, by what the archives hold: read by pyarrow alone, and compared with the book.

Each row that is read goes back into Postgres, so that its text, and by that each of its values, is what it was.
"""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from psycopg import sql

from db.connection import Connection, connect
from tests.benchmarks.retention.plan import KEPT, Kept
from tests.benchmarks.retention.seeding import PINNED
from tests.support.database import Database

_BATCH = 20_000
_ARCHIVES = """
SELECT table_schema || '.' || table_name, to_char(month, 'YYYY-MM') || ' part ' || part, status, row_count, files,
    manifest_key, manifest_sha256, left_behind
FROM ops.archives ORDER BY 1, 2
"""
_COLUMNS = """
SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute
WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped
"""
_BACK = """
DROP TABLE IF EXISTS book.{book}_back, book.{book}_found;
CREATE UNLOGGED TABLE book.{book}_back (LIKE {relation});
ALTER TABLE book.{book}_back ADD _row_hash bigint
"""
_LINKS_BACK = "DROP TABLE IF EXISTS book.links_back; CREATE TABLE book.links_back (id uuid, message_id uuid)"
# Once: what both sides of each comparison need.
_FOUND = """
CREATE UNLOGGED TABLE book.{book}_found AS SELECT id, md5(text)::uuid AS hash, _row_hash IS NOT DISTINCT FROM
    hashtextextended(text, 0) AS is_hashed
FROM (SELECT b.id, b._row_hash, ROW({columns})::text AS text FROM book.{book}_back b) AS each;
ANALYZE book.{book}_found
"""
_CHECKS = {
    "is lost": """
        SELECT b.id FROM book.{book} b WHERE NOT EXISTS (SELECT FROM book.{book}_found f WHERE f.id = b.id)
            AND NOT EXISTS (SELECT FROM {relation} t WHERE t.id = b.id)""",
    "is old, free and not archived": """
        SELECT b.id FROM book.{book} b WHERE NOT b.is_held AND EXISTS (SELECT FROM {relation} t WHERE t.id = b.id)
            AND NOT EXISTS (SELECT FROM book.{book}_found f WHERE f.id = b.id)""",
    "is archived and was not deleted": """
        SELECT b.id FROM book.{book} b WHERE EXISTS (SELECT FROM {relation} t WHERE t.id = b.id)
            AND EXISTS (SELECT FROM book.{book}_found f WHERE f.id = b.id)""",
    "is archived more than once": "SELECT f.id FROM book.{book}_found f GROUP BY f.id HAVING count(*) > 1",
    "is archived, and not as it was": """
        SELECT f.id FROM book.{book}_found f JOIN book.{book} b ON b.id = f.id WHERE f.hash <> b.hash""",
    "is archived with a hash that is not its own": "SELECT f.id FROM book.{book}_found f WHERE NOT f.is_hashed",
    "is archived, and nobody wrote it": """
        SELECT f.id FROM book.{book}_found f WHERE NOT EXISTS (SELECT FROM book.{book} b WHERE b.id = f.id)""",
    "is held, and did not stay as it was": """
        SELECT b.id FROM book.{book} b LEFT JOIN {relation} t ON t.id = b.id
        WHERE b.is_held AND md5(t::text)::uuid IS DISTINCT FROM b.hash""",
}
_CHECKS_OF_OTHERS = {
    "is a link that was not cleared with its message": """
        SELECT l.id FROM book.links l LEFT JOIN tools.tool_executions t ON t.id = l.id
        WHERE t.id IS NULL OR t.message_id IS NOT NULL""",
    "is a link that is not archived once, as it was": """
        SELECT l.id FROM book.links l LEFT JOIN book.links_back b ON b.id = l.id
        GROUP BY l.id HAVING array_agg(b.message_id) <> ARRAY[l.message_id]""",
    "is a conversation with another count of messages than it has": """
        SELECT c.id FROM assistants.conversations c LEFT JOIN assistants.messages m ON m.conversation_id = c.id
        GROUP BY c.id HAVING c.message_count <> count(m.id)""",
    "is a task of the queue that is not done": """
        SELECT id FROM queue.outbox_tasks WHERE task_type = 'load.noop' AND status <> 'done'""",
}
_SHOWN = 3
LINKS = "tools.tool_executions"


@dataclass(frozen=True)
class Archive:
    """A row of ops.archives: `name` is its month and part."""

    relation: str
    name: str
    status: str
    row_count: int
    files: list[dict[str, Any]]
    manifest_key: str
    manifest_sha256: str
    left_behind: list[int]


def judge(database: Database, folder: Path) -> list[str]:
    """Return a sentence for each thing that is wrong; `folder` is where the archives' keys begin."""
    with connect(database.owner_url, name="judge") as owner:
        owner.execute(PINNED)
        _run(owner, _LINKS_BACK)
        for kept in KEPT:
            _run(owner, _named(_BACK, kept))
        complaints = []
        for row in owner.execute(_ARCHIVES).fetchall():
            archive = Archive(*row)
            complaints += [f"{archive.relation} {archive.name} {what}" for what in _read(owner, folder, archive)]
        for kept in KEPT:
            [(columns,)] = owner.execute(_COLUMNS, (kept.relation,)).fetchall()
            _run(owner, _named(_FOUND, kept, columns=", ".join(f'b."{name}"' for name in columns)))
            checks = {f"of {kept.relation} {problem}": _named(query, kept) for problem, query in _CHECKS.items()}
            complaints += _violations(owner, checks)
        return complaints + _violations(owner, _CHECKS_OF_OTHERS)


def strays(database: Database, folder: Path) -> list[str]:
    """Return the files below the archives' folder that no archive names: what a killed worker was writing."""
    named = {file["key"] for (files,) in database.rows("SELECT files FROM ops.archives") for file in files}
    named |= {key for (key,) in database.rows("SELECT manifest_key FROM ops.archives")}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(there - named)


def _read(owner: Connection, folder: Path, archive: Archive) -> Iterator[str]:
    """Read an archive back into the judge's tables; yield what its files are not as they should be."""
    if archive.status != "emptied":
        yield f"is {archive.status}"
    if not _is_whole(folder / archive.manifest_key, archive.manifest_sha256):
        yield "has not the manifest that was noted"
    for file in archive.files:
        path = folder / file["key"]
        if not _is_whole(path, file["sha256"], file["bytes"]):
            yield f"has not the {file['kind']} of {file['table']} that were noted"
        elif pq.ParquetFile(path).metadata.num_rows != file["rows"]:
            yield f"has not as many {file['kind']} of {file['table']} as were noted"
        else:
            _put_file_back(owner, path, file, archive)
    [root] = [file for file in archive.files if (file["table"], file["kind"]) == (archive.relation, "rows")]
    if root["rows"] != archive.row_count:
        yield "has not the rows that it counts"


def _put_file_back(owner: Connection, path: Path, file: dict[str, Any], archive: Archive) -> None:
    """Copy a file's rows into the book, but for those that changed since and are not the archive's own."""
    parquet = pq.ParquetFile(path)
    if file["kind"] == "links":
        if file["table"] == LINKS:
            _put_back(owner, "links_back", parquet.read(["id", "message_id"]))
        return
    books = {kept.relation: kept.book for kept in KEPT}
    columns = [each["name"] for each in file["columns"]]
    place = 0
    for batch in parquet.iter_batches(_BATCH, columns=[*columns, "_row_hash"]):
        own = [place + number not in archive.left_behind for number in range(batch.num_rows)]
        place += batch.num_rows
        _put_back(owner, f"{books[file['table']]}_back", batch.filter(pa.array(own)))


def _put_back(owner: Connection, name: str, rows: pa.RecordBatch | pa.Table) -> None:
    """Copy rows into a table of the book, each value by its text; an empty text is none that is missing."""
    text = io.BytesIO()
    pa_csv.write_csv(rows, text, pa_csv.WriteOptions(include_header=False))
    copy = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        sql.Identifier("book", name), sql.SQL(", ").join(map(sql.Identifier, rows.schema.names))
    )
    with owner.cursor() as cursor, cursor.copy(copy) as into:
        into.write(text.getvalue())


def _violations(owner: Connection, checks: dict[str, str]) -> list[str]:
    """Return a sentence a check that finds rows: how many, and the first ones."""
    found = []
    for problem, query in checks.items():
        ids = [str(row[0]) for row in owner.execute(query.encode()).fetchall()]
        if ids:
            found.append(f"{len(ids)} × {problem}: {', '.join(sorted(ids)[:_SHOWN])}")
    return found


def _named(query: str, kept: Kept, columns: str = "") -> str:
    return query.format(book=kept.book, relation=kept.relation, columns=columns)


def _run(owner: Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        owner.execute(statement.encode())


def _is_whole(path: Path, sha256: str, size: int | None = None) -> bool:
    if not path.is_file() or size not in (None, path.stat().st_size):
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
