"""The processes that this layer makes: a relay and a worker, each with its loops, its start and its drained stop."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import dramatiq

from core import events
from core.errors import SettingsError, UnavailableError
from core.service import Loop, lateness, stop_all
from core.settings import Settings
from db import leases, processes, queue
from db.beat import Beat
from db.connection import Connection, KeptConnection, connect
from pipelines.registry import Registry
from pipelines.resources import Resources
from workers.actors import declare_actors
from workers.alerts import alert_loops
from workers.attemptlogs import AttemptLogs
from workers.broker import WAIT_MS, AnyBroker, Offers, claims_in, open_broker
from workers.companion import Heartbeat
from workers.executor import Executor, ExecutorConfig
from workers.recycling import Recycling
from workers.relay import Listener, Relay
from workers.rescue import Caretaker, Rescuer
from workers.settler import Settler
from workers.sizes import Offer
from workers.statistics import Statistics

_LOOK_SECONDS = 0.05


if TYPE_CHECKING:
    from pipelines.keyring import KeyRing


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a process finds Postgres: its login and the system role's, each also past the pooler (`direct`)."""

    url: str
    direct_url: str | None = None
    system_url: str | None = None
    pooled: bool = False
    system_direct_url: str | None = None


def broker_of(settings: Settings) -> AnyBroker:
    """Return the broker that the settings name."""
    url = settings.broker.url
    return open_broker(url.get_secret_value() if url else None, settings.broker.namespace)


def keyring_of(settings: Settings) -> "KeyRing | None":
    """Return the key ring of the settings, if they have keys; raises SettingsError for a key that is none."""
    keys = [key.get_secret_value() for key in settings.encryption.keys]
    if not keys:
        return None
    from pipelines.keyring import KeyRing  # few installations need the library

    return KeyRing(keys)


class RelayProcess:
    """The relay's loops in this process."""

    def __init__(self, settings: Settings, addresses: Addresses, broker: AnyBroker) -> None:
        self.process = processes.this_process("relay")
        self._is_stopped = threading.Event()

        def near(name: str) -> KeptConnection:
            return KeptConnection(addresses.url, name=name, pooled=addresses.pooled)

        direct = KeptConnection(addresses.direct_url or addresses.url, name="listener")
        rescuer = Loop(Rescuer(near("rescuer"), settings.relay.rescue_seconds, self.wake))
        others = {queue.RESCUE_NOTICE: rescuer.wake, queue.SETTLE_NOTICE: self.wake_settler}
        listener = Listener(direct, self.process.id, self.wake, others)
        relay = Relay(near("relay"), broker, settings.relay, self.process.id, hears=listener.hears)
        self._ring_relay = relay.ring
        self._relay = Loop(relay)
        self._settler = Loop(
            Settler(
                near("settler"),
                lambda: 2 * settings.relay.poll_seconds if listener.hears() else settings.relay.poll_seconds_deaf,
                self.wake,
            )
        )
        # A message that ends makes room for the next: a relay that waits for that need not wait for its poll.
        broker.when_room(lambda: self.wake() if relay.wants_room() else None)
        timeout = settings.relay.process_timeout
        self.loops = [
            # Two beats may be missed before anybody calls it silent.
            Loop(Beat(near("beat"), self.process, lambda: lateness(self.loops), pause=timeout / 3)),
            Loop(Caretaker(near("caretaker"), timeout)),
            rescuer,
            self._settler,
            Loop(Statistics(near("statistics"), settings.statistics.keep_days)),
            *alert_loops(near, settings),
            Loop(listener),
            self._relay,
        ]

    def wake(self) -> None:
        """Look for due tasks now."""
        self._ring_relay()
        self._relay.wake()

    def wake_settler(self) -> None:
        """Look for what waits to be settled now."""
        self._settler.wake()

    def start(self) -> None:
        """Start all loops."""
        for loop in self.loops:
            loop.start()
        events.emit(events.ProcessStarted("relay", self.process.id))

    def stop(self) -> None:
        """Stop all loops; twice is fine."""
        if self._is_stopped.is_set():
            return
        self._is_stopped.set()
        stop_all(self.loops)
        events.emit(events.ProcessStopped("relay", self.process.id))


class WorkerProcess:
    """A worker: Dramatiq's threads, the executor behind them, and the heartbeat beside them."""

    def __init__(
        self,
        settings: Settings,
        addresses: Addresses,
        broker: AnyBroker,
        registry: Registry,
        resources: Resources,
        *,
        on_leave: Callable[[str], None] = lambda reason: None,
    ) -> None:
        tasks = [task for task in registry if task.scope == "tenant" or addresses.system_url]
        self._settings = settings
        self._addresses = addresses
        self._resources = resources
        self._broker = broker
        self._registry = Registry(tasks)
        self.queues = list(settings.worker.queues) or sorted({"default", *self._registry.queues()})
        if not tasks:
            raise SettingsError("this worker knows no task type that it may run")
        self.process = processes.this_process(
            "worker", queues=self.queues, task_types=self._registry.versions(), slots=settings.worker.threads
        )
        config = ExecutorConfig(
            self.process.id,
            addresses.url,
            addresses.system_url,
            addresses.pooled,
            settings.worker.lease_seconds,
            settings.worker.target_seconds,
            settings.worker.interrupt_seconds,
            addresses.system_direct_url,
        )
        self.executor = Executor(config, resources, keyring_of(settings))
        self.loops = self._loops(on_leave)
        self._worker: dramatiq.Worker | None = None
        self._stopped = threading.Lock()
        self._logs = AttemptLogs(self.executor.running)

    def start(self) -> None:
        """Be watched over, consume the queues, then become known, so that the relay sends work.

        A process whose start failed had better end: its heartbeat gives back what it may have taken.
        """
        self._logs.start()
        for loop in self.loops:
            loop.start()
        for loop in self.loops:
            if isinstance(loop.service, Heartbeat):
                loop.service.wait_until_ready()
        declare_actors(self._broker, self._registry, self.executor.run_message, self.executor.refuse)
        for name in self.queues:
            self._broker.declare_queue(name)
        self._broker.serve(self.queues, self._settings.worker.threads, self._offers, self.executor.handed)
        self._worker = dramatiq.Worker(
            self._broker, queues=set(self.queues), worker_threads=self._settings.worker.threads, worker_timeout=WAIT_MS
        )
        self._worker.start()
        # The heartbeat says it too, as soon as it runs and the database answers.
        self._tell(lambda connection: processes.beat(connection, self.process))
        events.emit(events.ProcessStarted("worker", self.process.id, f"{self._settings.worker.threads} threads"))

    def stop(self) -> bool:
        """Drain within the grace time, hand back what still runs; return whether every thread ended. Twice is fine."""
        if self._worker is None or not self._stopped.acquire(blocking=False):
            return True
        self.quiesce()
        self._worker.stop(timeout=self._grace_ms())
        is_drained = not any(thread.is_alive() for thread in self._worker.workers)
        self._give_back_unbegun()
        handed_back = self._tell(self._give_back_strays if is_drained else self._hand_back)
        stop_all(self.loops)
        self._logs.close()
        self._tell(lambda connection: processes.unregister_process(connection, self.process.id))
        if is_drained:
            self.executor.close()
            self._resources.close()
        events.emit(events.ProcessStopped("worker", self.process.id, handed_back or 0))
        return is_drained

    def quiesce(self) -> None:
        """Take nothing more; what runs goes on."""
        self._broker.serve((), 0, self._offers)
        self._tell(lambda connection: processes.stop_serving(connection, self.process.id))
        self.executor.drain()
        self._give_back_unbegun()

    def is_idle(self) -> bool:
        """Return whether no handler runs, but those that were given up."""
        return not any(seat.part for seat in self.executor.running.seats)

    def _give_back_unbegun(self) -> None:
        """Give the claims of messages back that no thread has begun; one that comes to it later finds them old."""
        waiting = tuple(self._worker.work_queue.queue) if self._worker is not None else ()
        claims = [claim for item in waiting for claim in claims_in(item.message.args[0])]
        if claims := [*claims, *self._broker.leftovers(), *self.executor.handed.close()]:
            self._tell(lambda connection: leases.give_back(connection, claims, self.process.id))

    def _hand_back(self, connection: Connection) -> int:
        return leases.hand_back(connection, self.process.id)

    def _give_back_strays(self, connection: Connection) -> int:
        """Give back what a claim whose answer was lost has started; expects that nothing runs."""
        given_up = set(self.executor.given_up.claims())
        strays = [claim for claim in leases.running(connection, self.process.id) if claim not in given_up]
        return leases.untake(connection, strays, self.process.id) if strays else 0

    def _grace_ms(self) -> int:
        """Return how long to wait for the threads; where some never end, having waited for the others."""
        grace = self._settings.worker.grace_seconds
        if not self.executor.running.abandoned:
            return int(grace * 1000)
        deadline = time.monotonic() + grace
        while not self.is_idle() and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        return int(_LOOK_SECONDS * 1000)

    def _loops(self, on_leave: Callable[[str], None]) -> list[Loop]:
        """Return the loops beside the threads; `on_leave` is told why this process had better be replaced.

        Whoever gave it calls `quiesce` and `stop` then.
        """
        settings, addresses, running = self._settings, self._addresses, self.executor.running
        heartbeat = Heartbeat(
            url=addresses.url,
            pooled=addresses.pooled,
            process=self.process,
            lease_seconds=settings.worker.lease_seconds,
            interrupt_seconds=settings.worker.interrupt_seconds,
            loops_late=lambda: lateness(self.loops),
            running=running,
        )
        beating = Loop(heartbeat)
        running.on_busy = beating.wake
        self.executor.on_stuck = partial(on_leave, "a handler could not be interrupted")
        recycling = Recycling(settings.worker, running.ended, on_leave)
        loops = [beating, Loop(self.executor.time_limits), Loop(self.executor.given_up), Loop(recycling)]
        if self._broker.is_shared:
            connection = KeptConnection(addresses.url, name="offer", pooled=addresses.pooled)
            loops.append(Loop(Offer(connection, self.process.id, self._batch_sizes)))
        return loops

    def _offers(self) -> Offers:
        sizes = self._batch_sizes()
        fresh = self.executor.handed.fresh_seconds
        seconds = [self.executor.most_seconds(self._registry.get(name)) + fresh for name in sizes]
        starter = queue.Starter(self.process.id, self._settings.worker.lease_seconds, seconds)
        return Offers(list(sizes), [self.process.task_types[name] for name in sizes], list(sizes.values()), starter)

    def _batch_sizes(self) -> dict[str, int]:
        """Return how many tasks of each type travel together: as many as it says, else by what was measured."""
        sizes, tasks = self.executor.sizes, {name: self._registry.get(name) for name in self.process.task_types}
        return {
            name: task.batch_size or sizes.travel_size(task.name, task.most_together) for name, task in tasks.items()
        }

    def _tell(self, act: Callable[[Connection], int | None]) -> int | None:
        """Tell the database something if it answers: nothing depends on it."""
        try:
            with connect(self._addresses.url, name="worker", pooled=self._addresses.pooled) as connection:
                return act(connection)
        except UnavailableError:
            return None
