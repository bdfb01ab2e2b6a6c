"""Hold the lock files against pyproject.toml and against what the locked packages themselves require.

Invariant: what `make demo` and `make test` install is pinned with hashes, satisfies pyproject.toml and each other, runs
on every Python that Greenroom does, and holds nothing besides. Two packages stand outside: torch, whose version
pyproject.toml pins and whose build is the machine's choice, and pip, which the environment brings.
Run inside the development environment; exits 1 and says what to do when a lock is behind.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TORCH = "torch"
UNLOCKED = frozenset({TORCH, "pip"})
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+) \\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
PYTHONS = ("3.11.2", "3.12.0", "3.13.0")  # 3.11.2 is Debian 12's
MACHINES: tuple[dict[str, str], ...] = tuple(
    {
        "python_version": version.rpartition(".")[0],
        "python_full_version": version,
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
    }
    for version in PYTHONS
    for machine in ("x86_64", "aarch64")
)


@dataclass(frozen=True)
class Lock:
    """A lock file's pins, by canonical name."""

    name: str
    pins: dict[str, str]
    stray_lines: tuple[str, ...]

    @classmethod
    def read(cls, path: Path) -> "Lock":
        text = path.read_text()
        pins: dict[str, str] = {canonicalize_name(name): version for name, version, _ in PIN.findall(text)}
        rest = (line for line in PIN.sub("", text).splitlines() if line.strip() and not line.lstrip().startswith("#"))
        return cls(path.name, pins, tuple(rest))


def problems(project: dict[str, dict[str, object]], runtime: Lock, dev: Lock) -> Iterator[str]:
    """Yield a sentence for each thing that is wrong."""
    requires, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    assert isinstance(requires, list)
    assert isinstance(extras, dict)
    build = project["build-system"]["requires"]
    assert isinstance(build, list)
    base = [*requires, *build]
    yield from torch_problems(requires)
    yield from lock_problems(runtime, base)
    yield from lock_problems(dev, [*base, *(requirement for extra in extras.values() for requirement in extra)])
    for name, version in runtime.pins.items():
        if dev.pins.get(name) != version:
            yield f"{dev.name} does not repeat {name}=={version} of {runtime.name}"


def torch_problems(requires: list[str]) -> Iterator[str]:
    specifiers = [str(r.specifier) for r in map(Requirement, requires) if r.name == TORCH]
    if len(specifiers) != 1 or not re.fullmatch(r"==[0-9.]+", specifiers[0]):
        yield f"pyproject.toml has to pin {TORCH} to one version, since the locks leave it out"


def lock_problems(lock: Lock, requires: Iterable[str]) -> Iterator[str]:
    for line in lock.stray_lines:
        yield f"{lock.name} has a line that is no pin with hashes: {line.strip()}"
    for name, version in lock.pins.items():
        yield from installed_problems(lock, name, version)
    roots = [Requirement(text) for text in requires]
    reached: set[str] = set()
    for machine in MACHINES:
        yield from closure_problems(lock, roots, machine, reached)
    for name in sorted(lock.pins.keys() - reached):
        yield f"{lock.name} pins {name}, which nothing requires"


def installed_problems(lock: Lock, name: str, version: str) -> Iterator[str]:
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        yield f"{lock.name} pins {name}, which is not installed: `make check` brings the environment up to the lock"
        return
    if found["Version"] != version:
        yield f"{lock.name} pins {name}=={version}, but {found['Version']} is installed: `make check` brings it up"
    for python in PYTHONS:
        if not SpecifierSet(found["Requires-Python"] or "").contains(python):
            yield f"{lock.name} pins {name}=={version}, which refuses Python {python}: bound it in constraints.txt"


def closure_problems(lock: Lock, roots: list[Requirement], machine: dict[str, str], reached: set[str]) -> Iterator[str]:
    """Walk what the roots require, by the metadata of the installed packages, and add the names met to `reached`."""
    todo = [("pyproject.toml", requirement) for requirement in roots if applies(requirement, machine, {""})]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        parent, requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        reached.add(name)
        yield from pin_problems(lock, parent, requirement)
        step = (name, frozenset(requirement.extras))
        if step not in seen and (name in lock.pins or name == TORCH):
            seen.add(step)
            todo += [(name, child) for child in children(requirement, machine)]


def pin_problems(lock: Lock, parent: str, requirement: Requirement) -> Iterator[str]:
    name = canonicalize_name(requirement.name)
    pinned = lock.pins.get(name)
    if pinned is None:
        if name not in UNLOCKED and parent != TORCH:  # a CUDA build wants more, and brings it along
            yield f"{lock.name} does not pin {name}, which {parent} requires"
    elif not requirement.specifier.contains(pinned, prereleases=True):
        yield f"{lock.name} pins {name}=={pinned}, but {parent} requires {requirement}"


def children(requirement: Requirement, machine: dict[str, str]) -> list[Requirement]:
    try:
        found = map(Requirement, metadata.requires(requirement.name) or [])
    except metadata.PackageNotFoundError:  # installed_problems has said so
        return []
    return [child for child in found if applies(child, machine, requirement.extras or {""})]


def applies(requirement: Requirement, machine: dict[str, str], extras: set[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({**machine, "extra": extra}) for extra in {"", *extras})


def main() -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    locks = Lock.read(ROOT / "requirements.lock"), Lock.read(ROOT / "requirements-dev.lock")
    found = sorted(set(problems(project, *locks)))
    if found:
        sys.stderr.write("\n".join([*found, "`make lock` makes the lock files new.\n"]))
        return 1
    sys.stdout.write(
        f"The lock files are up to date: {len(locks[0].pins)} packages to run, {len(locks[1].pins)} to develop.\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
