"""What becomes of memories when a source changes, goes, or is erased: by whatever statement, in the same commit."""

import threading
from collections.abc import Callable
from functools import partial
from uuid import UUID

import psycopg
import pytest

from db import documents
from db.connection import connect, tenant_transaction
from pipelines.memory.payloads import CurateMemory
from tests.integration.memory.remembering import Remembering
from tests.integration.memory.test_curate import KNOTS, TEA
from tests.support.waiting import eventually

CURRENT = "SELECT count(*) FROM knowledge.memories WHERE status = 'current'"
WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
ENQUEUED = "SELECT payload ->> 'persona_id' FROM queue.tasks_live WHERE task_type = 'memory.curate'"
WORDS = """
SELECT (SELECT count(*) FROM knowledge.chunks WHERE text LIKE %(like)s), (SELECT count(*) FROM knowledge.memories),
    (SELECT count(*) FROM knowledge.chunk_vectors v
     WHERE NOT EXISTS (SELECT FROM knowledge.chunks c WHERE c.id = v.chunk_id))
"""


def delete(memory: Remembering, document_id: UUID) -> None:
    """Delete a document as a worker does."""
    with tenant_transaction(memory.worker, memory.tenant_id):
        documents.delete(memory.worker, memory.tenant_id, document_id)


def delete_by_sql(memory: Remembering, document_id: UUID) -> None:
    """Delete a document as anybody does."""
    memory.database.rows("DELETE FROM knowledge.documents WHERE id = %s", (document_id,))


def one_memory(memory: Remembering) -> tuple[UUID, UUID, UUID]:
    """Have a persona remember what two documents say; return it, and them."""
    persona = memory.persona()
    one = memory.read(persona, KNOTS[0], TEA, name="one")
    two = memory.read(persona, *KNOTS[1:], name="two")
    memory.curate(persona)
    assert memory.database.value(CURRENT) == 1
    return persona, one, two


def test_a_version_that_says_the_same_leaves_a_memory_as_it_is(memory: Remembering) -> None:
    persona, one, _ = one_memory(memory)
    [before] = memory.memories(persona)
    memory.reread(one, "A page in front, about nothing that the persona knew.", KNOTS[0], TEA)
    assert memory.memories(persona) == [before]
    assert [source.text for source in memory.sources(before)] == list(KNOTS)
    assert memory.due(persona) == ["A page in front, about nothing that the persona knew."]
    linked = memory.database.value("SELECT source_chunk_ids FROM knowledge.chunks WHERE is_curated")
    assert linked == [source.chunk_id for source in memory.sources(before)]


def test_a_source_that_says_something_else_makes_a_memory_stale_in_the_same_commit(memory: Remembering) -> None:
    persona, one, _ = one_memory(memory)
    [before] = memory.memories(persona)
    memory.reread(one, "The sheet bend joins two ropes.", TEA)
    [stale] = memory.memories(persona, is_all=True)
    assert (stale.id, stale.status, stale.text) == (before.id, "stale", before.text)
    assert memory.search("bowline", persona, is_curated=True) == []
    assert sorted(memory.due(persona)) == sorted(["The sheet bend joins two ropes.", *KNOTS[1:]])
    memory.curate(persona)
    [anew] = memory.memories(persona)
    assert set(KNOTS[1:]) <= {source.text for source in memory.sources(anew)}


def test_a_source_that_is_back_brings_its_memory_back(memory: Remembering) -> None:
    persona, one, _ = one_memory(memory)
    [before] = memory.memories(persona)
    hide = "UPDATE knowledge.documents SET deleted_at = {} WHERE id = %s"
    memory.database.rows(hide.format("now()"), (one,))
    assert (memory.memories(persona), memory.counts(persona).stale) == ([], 1)
    memory.database.rows(hide.format("NULL"), (one,))
    assert memory.curate(persona)["written"] == 0
    assert [(each.id, each.status) for each in memory.memories(persona, is_all=True)] == [(before.id, "current")]
    assert memory.search("bowline", persona, is_curated=True)


@pytest.mark.parametrize("how", [delete, delete_by_sql])
def test_a_document_that_goes_takes_the_memories_of_its_words_along(
    memory: Remembering, how: Callable[[Remembering, UUID], None]
) -> None:
    persona, one, _ = one_memory(memory)
    secret = "The harbour master's code word for the bowline is xylophone; the bowline is tied at the quay with it."
    three = memory.read(persona, secret, name="three")
    memory.curate(persona)
    told = memory.read(persona, "A bowline is a knot for a fixed loop in a rope, and easy to untie.", name="four")
    memory.curate(persona)
    holding = [each for each in memory.memories(persona, is_all=True) if len(memory.sources(each)) > 3]
    assert len(holding) == 2
    memory.database.rows("DELETE FROM queue.tasks_live")
    how(memory, three)
    texts, memories, vectors = memory.database.rows(WORDS, {"like": "%xylophone%"})[0]
    assert (texts, vectors) == (0, 0)
    assert memories == 1  # the first, of before the secret, which nobody finds
    assert memory.memories(persona) == []
    assert memory.database.rows(ENQUEUED) == [(str(persona),)]
    assert sorted(memory.due(persona)) == sorted(
        [*KNOTS, memory.database.value("SELECT text FROM knowledge.chunks WHERE document_id = %s", (told,))]
    )
    memory.curate(persona)
    [anew] = memory.memories(persona)
    assert one in {source.document_id for source in memory.sources(anew)}
    assert [
        memory.counts(persona).current,
        memory.database.value("SELECT sum(chunk_count)::integer FROM knowledge.documents WHERE source = 'memory'"),
    ] == [1, 1]


def test_memories_that_an_operator_deletes_are_made_again(memory: Remembering) -> None:
    persona, *_ = one_memory(memory)
    delete(memory, memory.database.value("SELECT id FROM knowledge.documents WHERE source = 'memory'"))
    assert memory.memories(persona, is_all=True) == []
    assert sorted(memory.due(persona)) == sorted(KNOTS)
    assert memory.curate(persona)["written"] == 1


def test_a_chunk_that_became_another_personas_is_no_source_any_more(memory: Remembering) -> None:
    persona, one, _ = one_memory(memory)
    bob = memory.persona("Bob")
    memory.database.rows("UPDATE knowledge.documents SET persona_id = %s WHERE id = %s", (bob, one))
    memory.database.rows("UPDATE knowledge.chunks SET persona_id = %s WHERE document_id = %s", (bob, one))
    assert memory.memories(persona) == []
    assert sorted(memory.due(persona)) == sorted(KNOTS[1:])
    assert sorted(memory.due(bob)) == sorted([KNOTS[0], TEA])


def test_a_persona_that_goes_takes_its_memories_along(memory: Remembering) -> None:
    persona, *_ = one_memory(memory)
    memory.database.rows("DELETE FROM assistants.personas WHERE id = %s", (persona,))
    assert memory.database.rows("SELECT FROM knowledge.memories UNION ALL SELECT FROM knowledge.memory_sources") == []
    assert memory.database.rows(ENQUEUED) == []


def waits(memory: Remembering, number: int) -> bool:
    """Tell whether so many wait for a lock."""
    return bool(memory.database.value(WAITING) == number)


def race(memory: Remembering, change: Callable[[psycopg.Connection[tuple[object, ...]]], object]) -> None:
    """Curate while a change is under way that commits a moment later."""
    persona = memory.persona()
    memory.read(persona, *KNOTS, name="one")
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        with connect(memory.database.owner_url, name="test") as owner, owner.transaction():
            change(owner)
            begun.set()
            ended.wait(10)

    changing = threading.Thread(target=work)
    changing.start()
    assert begun.wait(10)
    curating = threading.Thread(target=memory.attempt, args=(CurateMemory(persona_id=persona),))
    curating.start()
    curating.join(3)
    ended.set()
    changing.join()
    curating.join()


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM knowledge.documents WHERE name = 'one'",
        "UPDATE knowledge.documents SET deleted_at = now() WHERE name = 'one'",
        "DELETE FROM knowledge.chunks WHERE NOT is_curated",
    ],
)
def test_what_is_deleted_while_it_is_curated_is_in_no_memory(memory: Remembering, statement: str) -> None:
    race(memory, lambda owner: owner.execute(statement.encode()))
    assert memory.database.value(CURRENT) == 0
    assert memory.search("bowline") == []


def test_two_erasures_of_what_one_memory_was_made_of_do_not_wait_for_each_other_forever(memory: Remembering) -> None:
    persona, one, two = one_memory(memory)
    ready = threading.Barrier(2)
    errors: list[Exception] = []

    def erase(document_id: UUID) -> None:
        with connect(memory.database.owner_url, name="test") as owner:
            try:
                with owner.transaction():
                    ready.wait(10)
                    owner.execute("DELETE FROM knowledge.documents WHERE id = %s", (document_id,))
            except psycopg.Error as error:
                errors.append(error)

    threads = [threading.Thread(target=erase, args=(each,)) for each in (one, two)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert errors == []
    assert eventually(lambda: memory.memories(persona, is_all=True) == [])


def test_two_curations_of_one_persona_make_each_memory_once(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, *KNOTS, TEA, TEA)
    payload = CurateMemory(persona_id=persona)
    threads = [threading.Thread(target=memory.attempt, args=(payload,)) for _ in range(2)]
    with connect(memory.database.owner_url, name="test") as owner, owner.transaction():
        owner.execute("SELECT knowledge.lock_memory(%s)", (persona,))
        for number, thread in enumerate(threads, 1):
            thread.start()  # each has computed the same memories when it waits
            eventually(partial(waits, memory, number))
    for thread in threads:
        thread.join()
    assert memory.database.value(CURRENT) == 2
    assert memory.database.value("SELECT count(*) FROM knowledge.chunks WHERE is_curated") == 2
