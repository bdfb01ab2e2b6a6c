"""`memory.curate`: what is related becomes one memory, what says the same is merged, and nothing is made twice."""

from pipelines.memory.payloads import CurateMemories
from tests.integration.memory.remembering import CURATE_ALL, REGISTRY, Remembering
from workers.testing import drain, run_task

KNOTS = (
    "The bowline makes a fixed loop at the end of a rope. Sailors tie the bowline to moor their boats at the quay.",
    "A bowline is the knot that sailors use for a fixed loop in a rope's end. It does not slip under load, and unties "
    "easily afterwards.",
    "To tie a bowline, make a small loop in the rope, pass the end up through it, around the standing part, and down "
    "again. The loop at the rope's end holds.",
)
TEA = "Green tea is brewed at eighty degrees for two minutes, black tea with boiling water for four."
TAX = "The tax return for the year 2025 has to reach the office by the end of July, or a fee of 25 euros is due."


def test_related_chunks_become_one_memory_beside_what_is_related_to_nothing(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, *KNOTS, TEA, TAX)
    assert memory.curate(persona) == {"considered": 5, "written": 1, "superseded": 0}
    [made] = memory.memories(persona)
    assert (made.status, made.method, made.source_count) == ("current", "extractive", 3)
    assert [source.text for source in memory.sources(made)] == list(KNOTS)
    counted = memory.counts(persona)
    assert (counted.chunks, counted.due, counted.current, counted.sources) == (5, 0, 1, 3)
    assert made.token_count == counted.memory_tokens < counted.source_tokens == made.source_token_count
    assert 0 < counted.reduction < 1


def test_a_memory_is_searched_beside_chunks_by_meaning_and_words(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, *KNOTS, TEA)
    memory.curate(persona)
    [made] = memory.memories(persona)
    hits = memory.search("which knot makes a fixed loop?", persona)
    found = {hit.chunk_id: hit for hit in hits}
    assert len(hits) == 5
    assert found[made.chunk_id].words
    assert found[made.chunk_id].similarity
    assert [hit.chunk_id for hit in memory.search("knot", persona, is_curated=True)] == [made.chunk_id]


def test_what_says_the_same_is_merged_without_anybody_to_sum_it_up(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, TEA, TAX, f"  {TEA.upper()} ", name="one")
    memory.read(persona, TEA, name="two")
    memory.curate(persona)
    [made] = memory.memories(persona)
    assert (made.method, made.model, made.source_count) == ("merged", None, 3)
    assert made.text.strip().casefold() == TEA.casefold()
    first, *others = memory.sources(made)
    assert (first.merged_into, [each.merged_into for each in others]) == (None, [0, 0])


def test_texts_that_differ_in_a_number_are_not_merged(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, TAX, TAX.replace("2025", "2026"))
    memory.curate(persona)
    assert [made.method for made in memory.memories(persona)] in ([], ["extractive"])


def test_nothing_new_makes_nothing_new(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, *KNOTS)
    memory.curate(persona)
    [made] = memory.memories(persona)
    assert memory.curate(persona) == {"considered": 0, "written": 0, "superseded": 0}
    memory.database.rows("UPDATE knowledge.chunks SET curated_at = NULL WHERE NOT is_curated")
    assert memory.curate(persona) == {"considered": 3, "written": 0, "superseded": 0}
    assert memory.memories(persona, is_all=True) == [made]


def test_a_new_chunk_joins_the_memory_that_it_is_near_to(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, *KNOTS[:2], name="one")
    memory.curate(persona)
    [before] = memory.memories(persona)
    memory.read(persona, KNOTS[2], TEA, name="two")
    assert memory.curate(persona) == {"considered": 2, "written": 1, "superseded": 1}
    [old, new] = memory.memories(persona, is_all=True)
    assert (old.id, old.status, old.superseded_by) == (before.id, "superseded", new.id)
    assert (old.text, len(memory.sources(old))) == (before.text, 2)
    assert (new.status, new.source_count) == ("current", 3)
    assert old.chunk_id not in {hit.chunk_id for hit in memory.search("bowline", persona)}


def test_one_more_that_says_the_same_joins_without_a_memory_anew(memory: Remembering) -> None:
    persona = memory.persona()
    memory.read(persona, *KNOTS, name="one")
    memory.curate(persona)
    [before] = memory.memories(persona)
    memory.read(persona, KNOTS[0], name="two")
    assert memory.curate(persona) == {"considered": 1, "written": 0, "superseded": 0}
    [after] = memory.memories(persona, is_all=True)
    assert (after.id, after.text, after.source_count) == (before.id, before.text, 4)
    assert [source.merged_into for source in memory.sources(after)] == [None, None, None, 0]


def test_other_personas_and_documents_of_nobody_are_left_alone(memory: Remembering) -> None:
    ada, bob = memory.persona(), memory.persona("Bob")
    memory.read(ada, KNOTS[0])
    memory.read(bob, *KNOTS[1:])
    memory.read(None, KNOTS[0])
    memory.curate(ada)
    assert memory.memories(ada) == []
    assert sorted(memory.due(bob)) == sorted(KNOTS[1:])


def test_a_persona_without_documents_has_nothing_to_curate(memory: Remembering) -> None:
    assert memory.curate(memory.persona()) == {"considered": 0, "written": 0, "superseded": 0}


def test_a_chunk_waits_for_its_vector(memory: Remembering) -> None:
    persona = memory.persona()
    document = memory.read(persona, *KNOTS, embedded=False)
    assert memory.curate(persona)["considered"] == 0
    memory.embed(document)
    assert memory.curate(persona)["written"] == 1


def test_the_night_takes_every_persona_that_has_something_due(memory: Remembering) -> None:
    for name in ("Ada", "Bob"):
        memory.read(memory.persona(name), *KNOTS, name=name)
    idle = memory.persona("Eve")
    run = run_task(memory.database, CURATE_ALL, CurateMemories(), registry=REGISTRY, resources=memory.resources)
    assert (run.status, run.result) == ("done", {"personas": 2})
    ran = drain(memory.database, REGISTRY, resources=memory.resources)
    assert ran.outcomes.get(("memory.curate", "done")) == 2, ran
    assert memory.database.value("SELECT count(*) FROM knowledge.memories WHERE status = 'current'") == 2
    assert memory.memories(idle) == []
