"""`greenroom memory`: what a persona's chunks were condensed to, and searches that show what a memory was made of."""

from pathlib import Path

from db.connection import connect
from db.embedded import running_url
from tests.integration.memory.test_curate import KNOTS, TEA
from tests.support.command import Inline

INSERT = """
INSERT INTO assistants.personas (tenant_id, name, system_prompt)
SELECT id, %s, 'p' FROM identity.tenants WHERE slug = 'default' RETURNING id::text
"""


def persona(home: Path, name: str) -> str:
    """Make a persona; return its id."""
    url = running_url(home)
    assert url is not None
    with connect(url, name="test") as owner:
        [(made,)] = owner.execute(INSERT, (name,)).fetchall()
    return str(made)


def test_a_persona_condenses_what_it_read_and_shows_what_of(inline: Inline, home: Path, tmp_path: Path) -> None:
    ada = persona(home, "Ada of the knots")
    for number, text in enumerate((*KNOTS, TEA)):
        (tmp_path / f"knots{number}.txt").write_text(text)
    inline.ok("ingest", str(tmp_path), "--persona", ada)
    assert inline.json("memory", "status", ada)["due"] == 4
    curated = inline.json("memory", "curate", "Ada of the knots")
    assert curated["result"] == {"considered": 4, "written": 1, "superseded": 0}
    assert "0 memories written" in inline.ok("memory", "curate", ada)
    told = inline.json("memory", "status", ada)
    assert (told["chunks"], told["due"], told["current"], told["sources"]) == (4, 0, 1, 3)
    assert told["condensed_tokens"] < told["tokens"]
    assert "% less" in inline.ok("memory", "status", ada)
    [made] = inline.json("memory", "show", ada)["memories"]
    assert sorted(source["text"] for source in made["sources"]) == sorted(KNOTS)
    assert "knots0.txt, chunk 1: The bowline makes a fixed loop" in inline.ok("memory", "show", ada)
    found = inline.json("search", "a fixed loop", "--persona", ada, "--sources")["hits"]
    [hit] = [hit for hit in found if hit["chunk_id"] == made["chunk_id"]]
    assert sorted(source["text"] for source in hit["sources"]) == sorted(KNOTS)
    assert all("sources" not in hit for hit in found if hit["chunk_id"] != made["chunk_id"])
    printed = inline.ok("search", "a fixed loop", "--persona", ada, "--sources", "--kind", "curated")
    assert printed.count("←") == 3


def test_a_persona_that_there_is_not_or_twice_is_told(inline: Inline, home: Path) -> None:
    assert "no persona is called 'Nobody'" in inline.run("memory", "status", "Nobody").stderr
    for _ in range(2):
        persona(home, "Twin")
    refused = inline.run("memory", "show", "Twin")
    assert (refused.returncode, "several personas" in refused.stderr) == (2, True)
