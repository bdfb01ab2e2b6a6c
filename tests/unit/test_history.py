"""The program of before is found in git, and where there is no history that is said."""

import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import history
from tests.support.history import extract_program_before_newest_migration as extract

SCRIPTS = "db/migrations/sql"


class Repository:
    """A repository of its own, whose files are migrations and the number of a commit."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / SCRIPTS).mkdir(parents=True)
        self._commits = 0
        self.git("init", "--quiet")

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
        command = ["git", *who, *arguments]
        subprocess.run(command, cwd=self.folder, check=True, capture_output=True)

    def write(self, migrations: Mapping[str, str]) -> None:
        for number, text in migrations.items():
            (self.folder / SCRIPTS / f"{number}_x.up.sql").write_text(text)

    def commit(self, **migrations: str) -> None:
        self._commits += 1
        (self.folder / "number").write_text(str(self._commits))
        self.write({name.removeprefix("m"): text for name, text in migrations.items()})
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "x")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """An empty one, in the place of ours."""
    (tmp_path / "r").mkdir()
    monkeypatch.setattr(history, "PROJECT", tmp_path / "r")
    return Repository(tmp_path / "r")


def found(repository: Repository) -> str:
    """The number of the commit that is extracted."""
    folder = repository.folder.parent / "old"
    extract(folder)
    return (folder / "number").read_text()


def test_it_is_the_commit_before_the_one_that_added_the_newest_migration(repository: Repository) -> None:
    repository.commit(m0001="a")
    repository.commit()
    repository.commit(m0002="b", m0003="c")
    repository.commit()
    assert found(repository) == "2"


def test_it_is_the_newest_commit_while_the_newest_migration_is_not_committed(repository: Repository) -> None:
    repository.commit(m0001="a")
    repository.commit()
    repository.write({"0002": "b"})
    assert found(repository) == "2"


def test_a_commit_whose_migrations_were_others_is_passed_over(repository: Repository) -> None:
    repository.commit(m0001="a")
    repository.commit(m0002="b, a draft")
    repository.commit(m0002="b")
    repository.commit(m0002="b", m0003="c, called 0004 then", m0004="c")
    (repository.folder / SCRIPTS / "0003_x.up.sql").write_text("between")
    assert found(repository) == "3"


def test_a_clone_without_its_history_is_told_what_it_lacks(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit(m0001="a")
    repository.commit(m0002="b")
    shallow = repository.folder.parent / "shallow"
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.folder}", str(shallow))
    monkeypatch.setattr(history, "PROJECT", shallow)
    with pytest.raises(pytest.fail.Exception, match="git fetch --unshallow"):
        extract(repository.folder.parent / "old")


def test_an_archive_of_the_source_is_told_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / SCRIPTS).mkdir(parents=True)
    monkeypatch.setattr(history, "PROJECT", tmp_path)
    with pytest.raises(pytest.fail.Exception, match="not the source alone"):
        extract(tmp_path / "old")
