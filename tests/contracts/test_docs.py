"""What the documents say exists: the moves of the state machine, the paths that they and the code name, their links."""

import re
import subprocess
from pathlib import Path

import pytest

from db.queries import Queries

PROJECT = Path(__file__).resolve().parents[2]
README = PROJECT / "README.md"
PAGES = [README, *sorted((PROJECT / "docs").rglob("*.md"))]
_MOVE = re.compile(r"\b(?:UPDATE|DELETE FROM) queue\.tasks_(?:live|history)\b")
_PATH = re.compile(r"(?<![\w./-])docs/[\w./-]*[\w/]")
_LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)(?:#([\w-]+))?\)")


def moves() -> list[str]:
    """Return the names of the queries that change or remove a task's row."""
    found = [(queries, name) for queries in map(Queries, ("queue", "tasks")) for name in queries.names()]
    return [name for queries, name in found if _MOVE.search(queries.text(name).as_string())]


def test_the_state_machine_names_every_move() -> None:
    page = (PROJECT / "docs" / "state-machine.md").read_text(encoding="utf-8")
    assert len(moves()) > 15
    assert [name for name in moves() if f"`{name}`" not in page] == []


def test_every_page_that_is_named_exists() -> None:
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    named = {}
    for name in filter(None, tracked.stdout.split("\0")):
        file = PROJECT / name
        if file.suffix in {".py", ".md", ".sql", ".toml", ".yaml"} and file.is_file():
            named[name] = _PATH.findall(file.read_text(encoding="utf-8"))
    assert any(named.values())
    gone = {file: path for file, paths in named.items() for path in paths if not (PROJECT / path).exists()}
    assert gone == {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
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
