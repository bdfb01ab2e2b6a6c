"""PostgreSQL 16 in the place of the embedded server's 18: `pytest --postgres 16`, after `make build/postgres16`.

An older version of the same package, in a folder of its own in front of the installed one. What the tests' own process
starts is of that version then; a command that brings its own server brings the installed one.
"""

from pathlib import Path

import pytest

from db.embedded import cluster, programs

FOLDER = Path(__file__).resolve().parents[2] / "build" / "postgres16"


def use(patch: pytest.MonkeyPatch) -> None:
    """Let servers be of PostgreSQL 16 from now on; raises UsageError where it is not there."""
    if not FOLDER.is_dir():
        raise pytest.UsageError("PostgreSQL 16 is missing: make build/postgres16")
    patch.syspath_prepend(FOLDER)
    patch.setattr(programs, "_INSTALL_FOLDER", "pginstall")
    for module in (programs, cluster):
        patch.setattr(module, "MAJOR_VERSION", 16)
    patch.setattr(cluster, "LOCALE", ("--locale=C.UTF-8",))  # a provider of its own came with 17
