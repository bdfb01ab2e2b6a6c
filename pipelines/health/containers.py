"""Reading a container through the Docker Engine API, with the package `docker`.

Invariant: an engine that is silent, fails or talks nonsense raises nothing. Silence costs a measure `seconds`, and the
measures after it nothing for a while.

The counters of one answer are kept with the measure and compared with the next one's. `precpu_stats`, which the engine
could give beside them, are of a second at most, and the engine waits that second for each container.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, ValidationError

from db.persona_health import Counters
from pipelines.health.readings import Reading, Reason

if TYPE_CHECKING:
    from docker import APIClient

_PAUSE_SECONDS = 30.0
_OLDEST = "1.41"
"""The version of the API from which on an engine gives one sample at once: Docker 20.10."""
_PERIOD_US = 100_000
"""The period of a quota where none is set (docs.docker.com, Runtime constraints: --cpu-period)."""
_MOST = 2**63 - 1
_NO_MEMORY = 2**62
"""From here on a number of bytes is none: kernels write a limit that is not set as nearly 2^63, or 2^64."""
_MOST_CPUS = 1_000_000

# Of an answer; a LookupError is the package's own, for an error without a message.
_NONSENSE = (ValidationError, ValueError, TypeError, LookupError, RecursionError)


class _Engine(BaseModel):
    version: str = Field(alias="ApiVersion", pattern=r"^\d+\.\d+$")


class _Host(BaseModel):
    nano_cpus: int = Field(0, ge=0, le=_MOST, alias="NanoCpus")
    quota: int = Field(0, le=_MOST, alias="CpuQuota")
    period: int = Field(0, ge=0, le=_MOST, alias="CpuPeriod")
    cpuset: str = Field("", alias="CpusetCpus", pattern=r"^(\d{1,4}(-\d{1,4})?(,\d{1,4}(-\d{1,4})?)*)?$")


class _Running(BaseModel):
    running: bool = Field(alias="Running")
    started_at: str = Field("", alias="StartedAt", max_length=100)


class Inspected(BaseModel):
    """What `GET /containers/{id}/json` says that measuring needs."""

    id: str = Field(alias="Id", min_length=1, max_length=255)
    state: _Running = Field(alias="State")
    host: _Host = Field(alias="HostConfig")


class _Time(BaseModel):
    total_usage: int = Field(0, ge=0)
    percpu_usage: list[int] | None = None


class _Processor(BaseModel):
    cpu_usage: _Time = _Time()
    system_cpu_usage: int | None = Field(None, ge=0)
    online_cpus: int | None = Field(None, ge=0, le=_MOST_CPUS)


class _Memory(BaseModel):
    usage: int | None = Field(None, ge=0)
    limit: int | None = Field(None, ge=0)
    stats: dict[str, Any] = {}


class Stats(BaseModel):
    """What `GET /containers/{id}/stats` says that measuring needs."""

    cpu_stats: _Processor = _Processor()
    memory_stats: _Memory = _Memory()


class _Sized(BaseModel):
    size: int | None = Field(None, ge=0, le=_MOST, alias="SizeRw")


class ContainerEngine:
    """The Docker engine at an address, as one worker process asks it from any of its threads."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self._seconds = seconds
        self._silent_until = 0.0

    def read(self, container_id: str) -> Reading | Reason:
        """Return what a container uses now, or why that is not known."""
        import requests
        from docker.errors import APIError, DockerException, NotFound

        silence = (requests.ConnectionError, requests.Timeout)
        if time.monotonic() < self._silent_until:
            return "no answer"
        try:
            return self._read(container_id, time.monotonic() + self._seconds)
        except NotFound:
            return "gone"
        except APIError:
            return "refused"
        except silence:
            return self._fell_silent()
        except (requests.RequestException, DockerException, *_NONSENSE):
            return "garbled"

    def _fell_silent(self) -> Reason:
        self._silent_until = time.monotonic() + _PAUSE_SECONDS
        return "no answer"

    def _read(self, container_id: str, deadline: float) -> Reading | Reason:
        with self._client(_OLDEST) as asking:
            agreed = _Engine.model_validate(_within(asking, deadline).version(api_version=False)).version
        with self._client(agreed) as client:
            inspected = Inspected.model_validate(_within(client, deadline).inspect_container(container_id))
            if not inspected.state.running:
                return "stopped"
            # the engine may know of the end only later: what ran has no figures then
            found = _within(client, deadline).stats(inspected.id, stream=False, one_shot=True)
            stats = Stats.model_validate(found)
            if stats.memory_stats.usage is None and stats.cpu_stats.system_cpu_usage is None:
                return "gone"
            return reading_of(inspected, stats, _disk_bytes(client, inspected.id, deadline))

    @contextmanager
    def _client(self, version: str) -> Iterator["APIClient"]:
        """A client of that version of the API; one that is to find it out itself stays open where it cannot."""
        from docker import APIClient

        client = APIClient(self._url, version=version)
        try:
            yield client
        finally:
            client.close()


def reading_of(inspected: Inspected, stats: Stats, disk_bytes: int | None) -> Reading:
    """Return what the engine's answers come to."""
    cpu = stats.cpu_stats
    count = cpu.online_cpus or len(cpu.cpu_usage.percpu_usage or ())
    counters = None
    if count and cpu.system_cpu_usage and max(cpu.cpu_usage.total_usage, cpu.system_cpu_usage) <= _MOST:
        source = f"container {inspected.id} {inspected.state.started_at}"
        counters = Counters(source, cpu.cpu_usage.total_usage, cpu.system_cpu_usage)
    return Reading(
        memory_bytes=memory_bytes(stats),
        memory_limit=_bytes(stats.memory_stats.limit),
        disk_bytes=disk_bytes,
        counters=counters,
        share=min(_allowed(inspected.host, count) / count, 1.0) if count else 1.0,
    )


def memory_bytes(stats: Stats) -> int | None:
    """Return the bytes that a container holds without the page cache.

    As `docker stats` has it (docker/cli, cli/command/container/stats_helpers.go, calculateMemUsageUnixNoCache):
    `usage` less `total_inactive_file` on cgroup v1, less `inactive_file` on v2, where that is less than `usage`.
    """
    usage, of = _bytes(stats.memory_stats.usage), stats.memory_stats.stats
    if usage is None:
        return None
    cache = of.get("total_inactive_file", of.get("inactive_file", 0))
    return usage - cache if isinstance(cache, int) and 0 <= cache < usage else usage


def _bytes(count: int | None) -> int | None:
    """Return a number of bytes that may be one."""
    return None if count is None or count >= _NO_MEMORY else count


def _allowed(host: _Host, count: int) -> float:
    """Return of how many processors a container may use the time: by quota, by set, else of all that there are."""
    limits = [float(count)]
    if host.nano_cpus:
        limits.append(host.nano_cpus / 1e9)
    if host.quota > 0:
        limits.append(host.quota / (host.period or _PERIOD_US))
    if members := _members(host.cpuset):
        limits.append(float(len(members)))
    return min(limits)


def _members(cpuset: str) -> set[int]:
    """Return the processors of a set such as `0-3,8`."""
    found: set[int] = set()
    for part in filter(None, cpuset.split(",")):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return found


def _within(client: "APIClient", deadline: float) -> "APIClient":
    """Give the next call what is left of the time."""
    client.timeout = max(deadline - time.monotonic(), 0.001)
    return client


def _disk_bytes(client: "APIClient", container_id: str, deadline: float) -> int | None:
    """Return the bytes of the layer that a container has written, its volumes and image aside.

    The engine walks over the layer: where that takes too long, memory and processor time are known all the same.
    """
    import requests
    from docker.errors import DockerException

    try:
        listed = _within(client, deadline).containers(size=True, all=True, filters={"id": container_id})
        return next((_Sized.model_validate(each).size or 0 for each in listed), None)
    except (requests.RequestException, DockerException, *_NONSENSE):
        return None
