"""The program of before: the source as it stood in git when it did not know the newest migration yet."""

import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
_SCRIPTS = "db/migrations/sql"
Scripts = dict[str, bytes]


def extract_program_before_newest_migration(folder: Path) -> str:
    """Write that program's source into a folder; return its commit.

    It is the newest commit whose migrations are ours, to the letter, but for the newest: usually the parent of the
    commit that added that one, or HEAD while it is not committed. Fails where the history does not reach so far.
    """
    ours = {path.name: path.read_bytes() for path in (PROJECT / _SCRIPTS).glob("*.up.sql")}
    for commit in _candidates():
        if _is_before(_scripts_of(commit), ours):
            _extract(commit, folder)
            return commit
    pytest.fail(
        f"no commit within reach has the migrations before {max(ours)}: a shallow clone needs `git fetch --unshallow`"
    )


def _candidates() -> Iterator[str]:
    """Yield commits, newest first: HEAD, and the parents of all on the main line that changed a migration."""
    lines = _git("rev-list", "--topo-order", "--first-parent", "HEAD", "--", _SCRIPTS).decode().splitlines()
    yield "HEAD"
    for commit in lines:
        yield from _git("rev-list", "--parents", "-n", "1", commit).decode().split()[1:]


def _is_before(theirs: Scripts, ours: Scripts) -> bool:
    """Whether a program has all of our migrations up to some point, and none else."""
    return theirs != {} and theirs == {name: ours[name] for name in sorted(ours)[: len(theirs)]} != ours


def _scripts_of(commit: str) -> Scripts:
    paths = _git("ls-tree", "-r", "--name-only", commit, "--", _SCRIPTS).decode().split()
    return {Path(path).name: _git("show", f"{commit}:{path}") for path in paths if path.endswith(".up.sql")}


def _extract(commit: str, folder: Path) -> None:
    archive = folder.with_suffix(".zip")
    _git("archive", "--format=zip", f"--output={archive}", commit)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder)
    archive.unlink()


def _git(*arguments: str) -> bytes:
    command = ["git", "-c", f"safe.directory={PROJECT}", *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"this needs the repository with its history, not the source alone: {done.stderr.decode().strip()}")
    return done.stdout
