"""What stands beside Postgres: the broker, the files, the disk, the model."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from console import output
from console.checks.findings import Finding, Sight, check
from console.checks.server import apart_by
from core.contradictions import contradictions
from core.errors import GreenroomError, SettingsError, UnavailableError
from db import spaces


@check(
    "broker",
    finds="Redis does not answer, only reads, is full, would drop messages, or its clock is another",
    needs="nothing",
    is_own=True,
)
def broker(sight: Sight) -> Iterator[Finding]:
    """The broker answers, takes messages and keeps them, and its clock is this host's."""
    if sight.settings.broker.url is None:
        yield Finding("broker", "ok", "in process")
        return
    from workers.brokerstate import broker_state

    url = sight.settings.broker.url.get_secret_value()
    if (place := _where(url)) is None:
        detail = "GREENROOM_BROKER_URL is no address: write redis://:password@host:6379/0, the password percent-encoded"
        yield Finding("broker", "wrong", detail)
        return
    where = f"Redis at {place}"
    try:
        found = broker_state(url, sight.bounds.answer)
    except UnavailableError as error:
        yield Finding("broker", "wrong", f"{where}: {error}; nothing is lost meanwhile")
        return
    if found.is_replica:
        yield Finding("broker", "wrong", f"{where} is a replica and takes no messages: set GREENROOM_BROKER_URL")
    elif found.most and found.used > sight.bounds.memory * found.most:
        memory = f"{output.size(found.used)} of {output.size(found.most)}"
        yield Finding("broker", "wrong", f"{where} uses {memory}: raise maxmemory, or find what else fills it")
    elif found.most and found.evicts:
        detail = f"{where} drops messages when memory is short ({found.evicts}): set maxmemory-policy noeviction"
        yield Finding("broker", "warning", detail)
    else:
        yield Finding("broker", "ok", where)
    if not sight.is_own:
        yield apart_by("broker clock", "Redis'", (found.now - sight.now()).total_seconds(), sight)


@check("storage", finds="the storage cannot be written to", needs="nothing")
def storage(sight: Sight) -> Iterator[Finding]:
    """The storage can be written to; a relay has no business with it."""
    if sight.place.kind == "relay":
        return
    from pipelines.storage import storage_of

    try:
        found = storage_of(sight.settings)
        found.check()
    except (UnavailableError, SettingsError) as error:
        yield Finding("storage", "wrong", str(error))
    else:
        yield Finding("storage", "ok", found.place)


@check("disk", finds="a disk that files or the embedded server are on is full, or nearly so", needs="nothing")
def disk(sight: Sight) -> Iterator[Finding]:
    """The disks of the files, and of the embedded server, have room."""
    for folder in _folders(sight):
        usage = shutil.disk_usage(folder)
        name, free = f"disk {folder}", f"{output.size(usage.free)} of {output.size(usage.total)} are free"
        if usage.free < sight.bounds.free_bytes:
            yield Finding(name, "wrong", f"{free}: make room before Postgres or an ingest stops for the lack of it")
        elif usage.free < sight.bounds.free_share * usage.total:
            yield Finding(name, "warning", f"{free}: make room, or move it")
        else:
            yield Finding(name, "ok", free)


def _folders(sight: Sight) -> list[Path]:
    """Return the folders that we write to, one a file system; for one that is not there yet, where it will be."""
    wanted = [sight.settings.home] if sight.place.is_embedded else []
    if sight.settings.storage.url is None and sight.place.kind != "relay":
        wanted.append(sight.settings.storage_root)
    there = [next(path for path in (folder, *folder.parents) if path.is_dir()) for folder in map(Path.absolute, wanted)]
    return list({folder.stat().st_dev: folder for folder in reversed(there)}.values())


@check("model", finds="an embedding model is not installed, or its weights are not the published ones", needs="nothing")
def model(sight: Sight) -> Iterator[Finding]:
    """The models of workers are installed, and their weights are what they should be."""
    if not sight.runs_work:
        return
    for name in sight.models.names:
        try:
            found = sight.models.named(name)
            revision = "" if found is None else f", revision {found.revision}"
        except GreenroomError as error:
            yield Finding(f"model {name}", "wrong", str(error))
        else:
            yield Finding(f"model {name}", "ok", f"as it was published{revision}")


@check("spaces", finds="vectors are of a model that workers with these settings do not have")
def known_spaces(sight: Sight) -> Iterator[Finding]:
    """Each space that is searched or filled is of a model that workers with these settings know."""
    if not sight.runs_work:
        return
    found = [space for space in spaces.spaces(sight.connection) if not space.is_dropped]
    for space in found:
        try:
            sight.models.of(space)
        except GreenroomError as error:
            yield Finding(f"space {space.model}", "wrong" if space.is_active else "warning", str(error))
        else:
            yield Finding(f"space {space.model}", "ok", f"{space.dimensions} dimensions")


@check("loading", finds="an embedding model does not load, or does not embed", needs="nothing", is_deep=True)
def loading(sight: Sight) -> Iterator[Finding]:
    """Each local model loads and embeds, in a process of its own that ends."""
    if not sight.runs_work:
        return
    endpoint = sight.settings.endpoint
    local = [name for name in sight.models.names if endpoint.url is None or name != endpoint.model]
    for name in local:
        # together within the check's time, or the last one would be left running
        problem = _loading_problem(name, (sight.bounds.deep_look - 1) / len(local))
        yield Finding(f"loading {name}", "wrong" if problem else "ok", problem or "it loads and embeds")


def _loading_problem(name: str, seconds: float) -> str | None:
    """Load a model in a child; return what is wrong with it."""
    command = [sys.executable, "-m", "console.checks.loading", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"it did not load within {seconds:.0f} s: look at memory and disk of this host"
    if done.returncode == 0:
        return None
    reason = (done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"])[-1]
    return f"{reason}; install its package anew"


@check("settings", finds="settings that contradict each other", needs="nothing")
def settings(sight: Sight) -> Iterator[Finding]:
    """No setting contradicts another."""
    found = contradictions(sight.settings)
    for sentence in found:
        yield Finding("settings", "warning", sentence)
    if not found:
        yield Finding("settings", "ok", "none contradicts another")


def _where(url: str) -> str | None:
    """Return the place of a Redis without its password; None of what is no address: all of it may be a password."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme == "unix" or (parts.hostname is not None and (parts.port or 0) >= 0)
    except ValueError:
        return None
    if not is_whole or "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return None
    return parts.netloc.rpartition("@")[2] or parts.path
