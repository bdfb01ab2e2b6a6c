"""Each guard is taken out in a copy of the tree, and the test that watches it turns red there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.guards import GUARDS, Guard
from tests.faults.processes import PROJECT
from tests.faults.scenarios import ALL

_PARTS = ("core", "db", "pipelines", "workers", "scheduler", "console", "tests")
_FAILED = 1  # pytest's exit status where tests ran and some failed


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the tree that a test may spoil."""
    for part in _PARTS:
        shutil.copytree(PROJECT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.invariant} {guard.what}")
def test_a_guard_stands_where_the_list_says(guard: Guard) -> None:
    assert (PROJECT / guard.file).read_text().count(guard.text) == 1, "the guard was moved: name its new place"


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: f"{guard.invariant} {guard.what}")
def test_the_suite_turns_red_without(copy: Path, guard: Guard) -> None:
    spoilt = copy / guard.file
    spoilt.write_text(spoilt.read_text().replace(guard.text, guard.instead))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-m",
            "faults or not faults",
            guard.test,
        ],
        cwd=copy,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == _FAILED, done.stdout[-3000:] + done.stderr[-1000:]
    assert "AssertionError" in done.stdout, done.stdout[-3000:]


def test_the_page_names_every_scenario_and_every_guard() -> None:
    page = (PROJECT / "docs" / "faults.md").read_text()
    assert [harm.__name__ for harm in ALL if f"`{harm.__name__}`" not in page] == []
    assert [guard.what for guard in GUARDS if f"| {guard.invariant} | {guard.what} |" not in page] == []
