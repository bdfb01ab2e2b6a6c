"""A real container under a real engine: what its process is known to use is measured within a tenth."""

import time
from collections.abc import Iterator

import psutil
import pytest
from docker import APIClient

from core.groups import HealthSettings
from db.embedded import EmbeddedServer
from pipelines.health import measure
from pipelines.registry import Registry
from tests.integration.health.measuring import Measuring
from tests.support.database import cloned
from tests.support.docker_engine import IMAGE, dockerd, require_dockerd
from tests.support.engine import publish
from tests.support.tenants import new_tenant
from tests.support.waiting import eventually

MIB = 2**20
LIMIT, HELD, WRITTEN = 400 * MIB, 200 * MIB, 60 * MIB
ALLOWED, BURNT, SECONDS = 0.8, 0.4, 4.0
# The page cache holds what is written, and dd the buffer that it fills for ever.
SCRIPT = f"""
dd if=/dev/zero of=/written bs={WRITTEN} count=1 && exec dd if=/dev/zero of=/dev/null bs={HELD}
"""


@pytest.fixture
def engine_url() -> Iterator[str]:
    with dockerd(require_dockerd()) as url:
        yield url


@pytest.fixture
def container(engine_url: str) -> Iterator[tuple[APIClient, str]]:
    """A container that may use 400 MiB and four fifths of a processor."""
    client = APIClient(engine_url, version="auto")
    limits = client.create_host_config(mem_limit=LIMIT, nano_cpus=int(ALLOWED * 1e9), network_mode="none")
    made = client.create_container(IMAGE, ["/bin/sh", "-c", SCRIPT], host_config=limits)["Id"]
    client.start(made)
    yield client, made
    for left in client.containers(all=True):
        client.remove_container(left, force=True)
    client.close()


def burn(process: psutil.Process, share: float, seconds: float) -> None:
    """Let a process run and stand so that it uses that share of one processor for so long."""
    started, before = time.monotonic(), _used(process)

    def has_run() -> bool:
        elapsed = time.monotonic() - started
        if _used(process) - before < share * elapsed:
            process.resume()
        else:
            process.suspend()
        return elapsed >= seconds

    eventually(has_run, 2 * seconds)


def _used(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


@pytest.mark.alone
def test_a_containers_share_of_time_memory_and_disk_are_measured_within_a_tenth(
    server_without_fsync: EmbeddedServer, template_database: str, container: tuple[APIClient, str], engine_url: str
) -> None:
    client, container_id = container
    process = psutil.Process(client.inspect_container(container_id)["State"]["Pid"])
    eventually(lambda: process.memory_info().rss > HELD, 20)
    with cloned(server_without_fsync, template_database) as database, new_tenant(database) as factory:
        publish(database, Registry(measure.TASKS))
        measuring = Measuring(database, factory, HealthSettings(docker_url=engine_url))
        persona = measuring.persona(container_id=container_id)
        measuring.measure(persona)
        burn(process, BURNT, SECONDS)
        cpu, memory, share, disk, *_ = measuring.last(persona)
        assert cpu == pytest.approx(100 * BURNT / ALLOWED, rel=0.1)
        assert memory == pytest.approx(HELD / 1e6, rel=0.1)
        assert share == pytest.approx(100 * HELD / LIMIT, rel=0.1)
        assert disk == pytest.approx(WRITTEN / 1e9, abs=0.01)
        in_cache = client.stats(container_id, stream=False, one_shot=True)["memory_stats"]["usage"]
        assert in_cache > 1.1 * HELD, "the page cache would have passed for memory"
        client.kill(container_id)
        assert measuring.measure(persona).result == {"unmeasured": "stopped"}
        client.remove_container(container_id)
        assert measuring.measure(persona).result == {"unmeasured": "gone"}
        assert measuring.measures(persona)[-1][:4] == (None, None, None, None)
