"""What the documents say exists: the moves of the state machine, the paths that they and the code name, their links."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.queries import Queries

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
FOLDERS = ("core", "db", "pipelines", "workers", "scheduler", "console", "tests", "docs")
_MOVE = re.compile(r"\b(?:UPDATE|DELETE FROM) queue\.tasks_(?:live|history)\b")
_PATH = re.compile(r"(?<![\w./-])docs/[\w./-]*[\w/]")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#([\w-]+))?\)")


def moves() -> list[str]:
    """Return the names of the queries that change or remove a task's row."""
    files = sorted(file.stem for file in (PROJECT / "db" / "sql").glob("*.sql") if file.stem != "testing")
    found = [(queries, name) for queries in map(Queries, files) for name in queries.names()]
    return [name for queries, name in found if _MOVE.search(queries.text(name).as_string())]


def test_the_state_machine_names_every_move() -> None:
    page = (PROJECT / "docs" / "state-machine.md").read_text(encoding="utf-8")
    assert len(moves()) > 15
    assert [name for name in moves() if f"`{name}`" not in page] == []


def test_every_page_that_is_named_exists() -> None:
    named = [(file.name, path) for file in _sources() for path in _PATH.findall(file.read_text(encoding="utf-8"))]
    assert len(named) > 10
    assert [(file, path) for file, path in named if not (PROJECT / path).exists()] == []


def _sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (file for file in (PROJECT / folder).rglob("*") if file.suffix in {".py", ".md", ".sql"})
    yield from (file for file in PROJECT.iterdir() if file.suffix in {".md", ".toml", ".yaml"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"`[^`\n]*`", "", page.read_text(encoding="utf-8"))  # in code brackets are no link
    for target, heading in _LINK.findall(text):
        file = page.parent / target
        assert file.exists(), target
        assert not heading or heading in _anchors(file), f"{target}#{heading}"


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 150
