"""A schema that moved on, parents that are gone, storage that is damaged: a restore says what it lacks."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from db import restores
from db.embedded import EmbeddedServer
from pipelines.retention.restoring import task as restoring
from pipelines.retention.restoring.task import RestoreArchive
from tests.support.factory import Factory
from tests.support.restoring import EVENTS, EXECUTIONS, MESSAGES, NEXT, RESULTS, Shelf, decision, old, shelf_of, talk
from tests.support.tenants import let_go, new_tenant


@pytest.fixture(scope="module")
def shelf(
    server_without_fsync: EmbeddedServer, template_database: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    """A database whose tables go into archives and come back."""
    with shelf_of(server_without_fsync, template_database, tmp_path_factory.mktemp("archives")) as shelf:
        yield shelf


@pytest.fixture
def ours(shelf: Shelf) -> Iterator[Factory]:
    """The maker of a tenant's rows."""
    with new_tenant(shelf.database) as factory:
        yield factory


# ------------------------------------------------------------------------------------------------ the schema moved on


@pytest.fixture
def notes(shelf: Shelf, ours: Factory) -> Iterator[Factory]:
    """A table of the test's own with three archived rows, whose `said` is a number but once."""
    shelf.database.rows(
        "CREATE TABLE ops.notes (id uuid PRIMARY KEY DEFAULT ops.uuid_v7(), tenant_id uuid NOT NULL, "
        "created_at timestamptz NOT NULL, said text, amount integer)"
    )
    shelf.database.rows("GRANT SELECT ON ops.notes TO greenroom_system")
    for number, said in enumerate(("1", "two", None)):
        shelf.database.rows(
            "INSERT INTO ops.notes (tenant_id, created_at, said, amount) VALUES (%s, %s, %s, %s)",
            (ours.tenant_id, old(number), said, number),
        )
    shelf.archive("ops.notes")
    assert shelf.text_of("ops.notes") == (0, None)
    yield ours
    shelf.database.rows("DROP TABLE IF EXISTS ops.notes")
    shelf.database.rows("DELETE FROM ops.archives WHERE table_name = 'notes'")


def restored_notes(shelf: Shelf) -> list[tuple[Any, ...]]:
    """Return what the table holds of them, by their time."""
    return shelf.database.rows("SELECT said, amount FROM ops.notes ORDER BY created_at")


def test_columns_that_came_since_get_their_defaults(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes ADD kind text NOT NULL DEFAULT 'plain', ADD extra text")
    assert shelf.restored("ops.notes")["restored"] == 3
    assert shelf.database.rows("SELECT DISTINCT kind, extra FROM ops.notes") == [("plain", None)]


def test_a_column_that_takes_no_null_and_has_no_default_is_named(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes ADD kind text NOT NULL")
    assert shelf.refusal("ops.notes").startswith("ops.notes.kind takes no NULL and has no default")
    assert restored_notes(shelf) == []


def test_rows_with_a_value_of_a_column_that_is_gone_want_to_be_told_so(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes DROP said")
    came = shelf.restored("ops.notes")
    assert (came["restored"], came["refused"]) == (
        1,
        {"said: gone from ops.notes, and --without said is not said": 2},
    )
    assert shelf.restored("ops.notes", without=("said",))["restored"] == 2
    assert shelf.database.rows("SELECT amount FROM ops.notes ORDER BY 1") == [(0,), (1,), (2,)]


def test_a_column_that_is_there_can_be_left_out(shelf: Shelf, notes: Factory) -> None:
    assert shelf.restored("ops.notes", without=("said",))["restored"] == 3
    assert restored_notes(shelf) == [(None, 0), (None, 1), (None, 2)]


def test_texts_are_read_as_the_type_that_a_column_has_now(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes ALTER said TYPE integer USING said::integer")
    shelf.database.rows("ALTER TABLE ops.notes ALTER amount TYPE text")
    came = shelf.restored("ops.notes")
    assert (came["restored"], came["refused"]) == (2, {"said: no value of the type integer, which it has now": 1})
    assert restored_notes(shelf) == [(1, "0"), (None, "2")]


def test_a_text_is_not_cut_to_a_length_that_came_since(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes ALTER said TYPE varchar(2)")
    came = shelf.restored("ops.notes")
    assert came["refused"] == {"said: no value of the type character varying(2), which it has now": 1}


def test_rows_that_a_new_rule_refuses_are_counted_and_the_others_come_back(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes ADD CONSTRAINT notes_amount_check CHECK (amount <> 1)")
    came = shelf.restored("ops.notes")
    assert (came["restored"], came["refused"]) == (2, {"refused by notes_amount_check": 1})


def test_a_row_whose_unique_value_another_has_by_now_is_counted(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("CREATE UNIQUE INDEX ON ops.notes (amount)")
    shelf.database.rows("INSERT INTO ops.notes (tenant_id, created_at, amount) VALUES (ops.uuid_v7(), now(), 2)")
    came = shelf.restored("ops.notes")
    assert (came["restored"], came["refused"]) == (2, {"another row has a key of it that is unique": 1})


def test_a_key_that_is_another_now_is_named(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("ALTER TABLE ops.notes RENAME id TO key")
    assert shelf.refusal("ops.notes").startswith("ops.notes.key is of the key")


def test_a_table_that_is_gone_is_named(shelf: Shelf, notes: Factory) -> None:
    shelf.database.rows("DROP TABLE ops.notes")
    assert shelf.refusal("ops.notes").startswith("the table ops.notes is gone")


def test_what_is_left_out_has_to_be_in_the_archive(shelf: Shelf, notes: Factory) -> None:
    assert "no column and no table absent" in shelf.refusal("ops.notes", without=("absent",))


# ------------------------------------------------------------------------------------------------ what they refer to


def test_rows_whose_parent_is_gone_are_counted_and_the_others_come_back(shelf: Shelf, ours: Factory) -> None:
    gone, _ = talk(ours), talk(ours)
    shelf.archive(MESSAGES, tenant_id=ours.tenant_id)
    shelf.database.rows("DELETE FROM assistants.conversations WHERE id = %s", (gone[0]["conversation_id"],))
    came = shelf.restored(MESSAGES, tenant_id=ours.tenant_id)
    lost = {"conversation_id: no such row in assistants.conversations": 3}
    assert (came["restored"], came["links"]) == (3, 1)
    assert came["refused"] == lost | {"no such row in tools.tool_executions any more, which referred to it": 1}


def test_a_reference_that_is_left_out_brings_back_what_had_it(shelf: Shelf, ours: Factory) -> None:
    message, *_ = talk(ours)
    shelf.archive(EXECUTIONS, "started_at", tenant_id=ours.tenant_id)
    shelf.database.rows("DELETE FROM assistants.messages WHERE id = %s", (message["id"],))
    lost = {"message_id, message_created_at: no such row in assistants.messages": 1}
    assert shelf.restored(EXECUTIONS, tenant_id=ours.tenant_id)["refused"] == lost
    left = ("message_id", "message_created_at")
    assert shelf.restored(EXECUTIONS, tenant_id=ours.tenant_id, without=left)["restored"] == 1


def test_what_refers_to_a_row_of_a_later_page_comes_back_in_another_round(
    shelf: Shelf, ours: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.database.rows(
        "CREATE TABLE ops.chain (id integer PRIMARY KEY, next_id integer REFERENCES ops.chain ON DELETE CASCADE, "
        "created_at timestamptz NOT NULL)"
    )
    shelf.database.rows("GRANT SELECT ON ops.chain TO greenroom_system")
    shelf.database.rows(
        "INSERT INTO ops.chain SELECT n, NULLIF(n + 1, 8), %s FROM generate_series(1, 7) AS n", (old(),)
    )
    before = shelf.text_of("ops.chain")
    shelf.archive("ops.chain")
    assert shelf.text_of("ops.chain") == (0, None)
    monkeypatch.setattr(restoring, "_MOST", 1)
    came = shelf.restored("ops.chain")
    assert (shelf.text_of("ops.chain"), came["restored"], came["refused"]) == (before, 7, {})
    shelf.database.rows("DROP TABLE ops.chain")


def test_rows_of_a_tenant_that_is_deleted_stay_away(shelf: Shelf) -> None:
    with new_tenant(shelf.database) as theirs:
        decision(theirs)
    shelf.archive(EVENTS, tenant_id=theirs.tenant_id)
    shelf.database.rows("UPDATE identity.tenants SET status = 'deleted' WHERE id = %s", (theirs.tenant_id,))
    assert shelf.restored(EVENTS, tenant_id=theirs.tenant_id)["refused"] == {
        "tenant_id: the tenant is deleted": 1,
        f"event_id, event_created_at: no such row in {EVENTS}": 2,
    }
    let_go(shelf.owner, theirs.tenant_id)
    came = shelf.restored(EVENTS, tenant_id=theirs.tenant_id)
    assert (came["restored"], came["refused"]["tenant_id: no such row in identity.tenants"]) == (0, 1)


# ------------------------------------------------------------------------------------------------ storage


def flip(file: Path) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (flip, "has other bytes than were written"),
        (lambda file: file.write_bytes(file.read_bytes()[:-100]), "has other bytes than were written"),
        (Path.unlink, "is gone"),
    ],
)
def test_a_file_that_is_damaged_is_named_and_nothing_of_it_comes_back(
    shelf: Shelf, ours: Factory, harm: Callable[[Path], object], why: str
) -> None:
    known = set(shelf.files())
    decision(ours)
    shelf.archive(EVENTS, tenant_id=ours.tenant_id)
    [file] = [each for each in set(shelf.files()) - known if RESULTS in each.name or each.name.startswith("1")]
    harm(file)
    key = str(file.relative_to(shelf.folder))
    assert shelf.refusal(EVENTS, tenant_id=ours.tenant_id) == (
        f"the archive's file {key} {why}: bring it back from a backup of the storage"
    )
    assert shelf.of(EVENTS, ours.tenant_id) == []


FORGE = """
UPDATE ops.archives SET files = jsonb_set(files, %s::text[], to_jsonb(%s::text))
WHERE id = (SELECT archive_id FROM ops.archive_subjects WHERE subject_id = %s)
RETURNING id, files -> 0 ->> 'key', manifest_key
"""


@pytest.mark.parametrize(
    ("place", "said"), [("{1,kind}", "links"), ("{0,columns,0,type}", "text"), ("{0,sha256}", "0" * 64)]
)
def test_what_the_database_says_of_files_is_compared_with_the_manifest(
    shelf: Shelf, ours: Factory, place: str, said: str
) -> None:
    decision(ours)
    shelf.archive(EVENTS, tenant_id=ours.tenant_id)
    [(_, _, manifest)] = shelf.database.rows(FORGE, (place, said, ours.tenant_id))
    refusal = shelf.refusal(EVENTS, tenant_id=ours.tenant_id)
    assert refusal.startswith(f"the archive's file {manifest} speaks of other files than the database")
    assert shelf.of(EVENTS, ours.tenant_id) == []


@pytest.mark.parametrize("table", ["identity.operators", "vault.secrets", "ops.retention_policies", "identity.tenants"])
def test_no_archive_has_rows_of_what_is_never_archived(shelf: Shelf, ours: Factory, table: str) -> None:
    decision(ours)
    shelf.archive(EVENTS, tenant_id=ours.tenant_id)
    [(archive, file, _)] = shelf.database.rows(FORGE, ("{0,table}", table, ours.tenant_id))
    page = "SELECT ops.restore_page(%s, %s, '{}', '[]')"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"no archive has rows of {table}"):
        shelf.database.connect("system").execute(page, (archive, file))


def test_an_archive_that_is_rewritten_meanwhile_is_read_anew(
    shelf: Shelf, ours: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision(ours)
    shelf.archive(EVENTS, tenant_id=ours.tenant_id)
    real, moved = restores.write_page, list[str]()

    def write_page(connection: Any, part: restores.Part, file: restores.File, *rest: Any) -> restores.Written | None:
        if not moved:
            moved.append(file.key)
            (shelf.folder / file.key).rename(shelf.folder / f"{file.key}.new.parquet")
            said = (shelf.folder / part.manifest_key).read_bytes()
            anew = said.replace(file.key.encode(), f"{file.key}.new.parquet".encode())
            (shelf.folder / part.manifest_key).write_bytes(anew)
            rename = (
                "UPDATE ops.archives SET files = jsonb_set(files, '{0,key}', to_jsonb(%s::text)), manifest_sha256 = %s "
                "WHERE id = %s"
            )
            shelf.database.rows(rename, (f"{file.key}.new.parquet", hashlib.sha256(anew).hexdigest(), part.id))
        return real(connection, part, file, *rest)

    monkeypatch.setattr(restores, "write_page", write_page)
    assert shelf.restored(EVENTS, tenant_id=ours.tenant_id)["restored"] == 3
    assert moved


def test_a_month_that_somebody_holds_is_waited_for(
    shelf: Shelf, ours: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    decision(ours, NEXT)
    shelf.archive(EVENTS, tenant_id=ours.tenant_id)
    busy = iter([False])
    real = restores.make_month
    monkeypatch.setattr(restores, "make_month", lambda *given: next(busy, None) is None and real(*given))
    assert shelf.restored(EVENTS, tenant_id=ours.tenant_id)["restored"] == 3


def test_a_month_is_not_made_while_somebody_holds_what_it_takes(shelf: Shelf) -> None:
    system = shelf.database.connect("system")
    holder = shelf.database.connect()
    with holder.transaction(force_rollback=True):
        holder.execute("LOCK TABLE assistants.conversations IN ROW EXCLUSIVE MODE")
        assert not restores.make_month(system, MESSAGES, old().date().replace(year=2019, day=1))
    assert restores.make_month(system, MESSAGES, old().date().replace(year=2019, day=1))
    assert restores.make_month(system, "assistants.conversations", old().date())


def test_a_span_of_months_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="the last month is before the first"):
        RestoreArchive(table=MESSAGES, since=NEXT.date(), until=old().date())


def test_a_page_that_is_being_rewritten_is_tried_again_later(shelf: Shelf, ours: Factory) -> None:
    decision(ours)
    shelf.archive(EVENTS, tenant_id=ours.tenant_id)
    holder = shelf.database.connect()
    system = shelf.database.connect("system")
    [part] = restores.parts(system, EVENTS, tenant_id=ours.tenant_id)
    with holder.transaction(force_rollback=True):
        holder.execute("SELECT FROM ops.archives WHERE id = %s FOR UPDATE", (part.id,))
        system.execute("SET lock_timeout = '10ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            restores.write_page(system, part, part.files[0], "[]", [])
