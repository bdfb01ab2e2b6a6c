"""The storm: tasks come in, processes are killed, Redis is emptied, Postgres goes down, all by a seeded plan."""

import random
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import redis

from pipelines.documents.payloads import IngestDocument
from tests.faults.checks import lost_attempts
from tests.faults.processes import PROJECT, Member
from tests.faults.rig import Rig
from tests.faults.tasks import Effect, Poison, Slow
from tests.support.redis_server import flush
from tests.support.waiting import eventually

SAMPLES = PROJECT / "console" / "samples"
# Documents are to be completed, so what has been lost that often is spared by our kills.
_SPARED_FROM = 3
_RELAYS_SHARE = 0.3
_DOCUMENT_TASKS = "SELECT count(*) FROM queue.tasks_live WHERE task_type NOT LIKE 'fault.%'"
_SHORT_TASKS = 0.05
_LONG_TASKS = (1.0, 3.0)


@dataclass(frozen=True)
class Plan:
    """How much of everything. `members` of each kind; `slow` and `effects` are all tasks of a kind.

    After three quarters of `seconds` nobody is killed any more: a busy machine reaches fewer kills, at least `least`.
    """

    effects: int
    slow: int
    poison: int
    files: tuple[str, ...]
    rounds: int
    kills: int
    least: int
    flushes: int
    restarts: int
    seconds: float
    members: int = 2


@dataclass
class Tally:
    """What was done, and what it did."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter)
    victims: set[UUID] = field(default_factory=set)
    flushes: int = 0
    flushed_keys: int = 0
    restarts: int = 0
    seconds: float = 0.0

    def summary(self, rig: Rig) -> str:
        """One paragraph for people."""
        tasks = rig.database.rows("SELECT status, count(*)::integer FROM queue.tasks_history GROUP BY 1 ORDER BY 1")
        fell = {f"{kind} {status}": count for (kind, status), count in rig.exits.items()}
        return (
            f"\nfaults over {'redis' if rig.broker_url else 'the in-process broker'}, seed {self.seed}: "
            f"{self.kills.total()} kills {dict(self.kills)}, {self.flushes} flushes of {self.flushed_keys} keys, "
            f"{self.restarts} restarts of Postgres in {self.seconds:.0f} s; tasks {dict(tasks)}, "
            f"{lost_attempts(rig.database)} attempts lost; ended by themselves: {fell}\n"
        )


class Storm:
    """One run of a plan over a rig."""

    def __init__(self, rig: Rig, plan: Plan, seed: int) -> None:
        self.rig = rig
        self.plan = plan
        self.tally = Tally(seed)
        self._random = random.Random(seed)
        self._started = time.monotonic()
        self._fed = Counter[str]()
        self._storage = self._tenant_folder()

    def run(self) -> Tally:
        """Do it all and wait for the end of every task."""
        self.rig.embeds = True
        self.rig.add_fleet(workers=self.plan.members, WORKER_THREADS="4")
        self.rig.await_workers()
        actions = self._actions()
        for number, action in enumerate(actions, 1):
            self._feed(number / len(actions))
            self.rig.tend()
            if action != "kill" or self._elapsed() < self.plan.seconds * 0.75:
                getattr(self, action)()
        eventually(self._feed_poison, self._rest(), pause=0.2)
        self.rig.await_end(self._rest())
        self.tally.seconds = self._elapsed()
        return self.tally

    def _actions(self) -> list[str]:
        plan = self.plan
        flushes = plan.flushes if self.rig.broker_url else 0
        actions = ["kill"] * plan.kills + ["flush"] * flushes + ["restart"] * plan.restarts
        self._random.shuffle(actions)
        return actions

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _rest(self) -> float:
        return max(30.0, self.plan.seconds - self._elapsed())

    # -------------------------------------------------------------------------------------------- what comes in

    def _feed(self, share: float) -> None:
        """Enqueue what is due when this share of the faults has begun."""
        draw = self._random
        self.rig.enqueue([Slow(seconds=draw.uniform(*_LONG_TASKS)) for _ in self._due("slow", self.plan.slow, share)])
        short = self._due("effects", self.plan.effects, share)
        self.rig.enqueue([Effect(seconds=draw.uniform(0, _SHORT_TASKS)) for _ in short])
        # All documents have come when half of the faults are still to come.
        rounds = min(self.plan.rounds, 1 + int(self.plan.rounds * share * 2))
        for number in self._due("rounds", rounds, 1.0):
            self._feed_documents(number)
        if self._fed["rounds"] == self.plan.rounds:
            self._feed_poison()

    def _feed_poison(self) -> bool:
        """Enqueue the poison once no document is on its way, which it would take along; return whether it is done."""
        if not self._fed["poison"] and self.rig.tend() and self.rig.database.value(_DOCUMENT_TASKS) == 0:
            self.rig.enqueue([Poison() for _ in self._due("poison", self.plan.poison, 1.0)])
        return self._fed["poison"] == self.plan.poison

    def _due(self, what: str, total: int, share: float) -> range:
        fed, wanted = self._fed[what], round(total * share)
        self._fed[what] = max(fed, wanted)
        return range(fed, wanted)

    def _feed_documents(self, number: int) -> None:
        """New files, and those of the round before once more: a new version of each."""
        folder = self._storage / f"round-{number}"
        folder.mkdir()
        for name in self.plan.files:
            content = (SAMPLES / name).read_bytes()
            # Other text, so that it is embedded and not copied; a PDF stays as it is.
            head = b"" if name.endswith(".pdf") else f"Round {number}.\n\n".encode()
            (folder / name).write_bytes(head + content)
        again = [IngestDocument(path=f"round-{number - 1}/{name}", force=True) for name in self.plan.files]
        new = [IngestDocument(path=f"round-{number}/{name}") for name in self.plan.files]
        self.rig.enqueue([*new, *(again if number else [])])

    def _tenant_folder(self) -> Path:
        [folder] = (self.rig.folder / "storage").iterdir()
        return folder

    # -------------------------------------------------------------------------------------------- what goes wrong

    def kill(self) -> None:
        """Kill a relay or a worker while an attempt runs: of a worker, its own."""
        is_relay = bool(self.rig.relays) and self._random.random() < _RELAYS_SHARE
        eventually(self._kill_a_relay if is_relay else self._kill_a_worker, 120.0)

    def flush(self) -> None:
        """Empty Redis."""
        assert self.rig.broker_url is not None
        with redis.Redis.from_url(self.rig.broker_url) as client:
            self.tally.flushed_keys += int(client.dbsize())
        flush(self.rig.broker_url)
        self.tally.flushes += 1

    def restart(self) -> None:
        """Take Postgres away, by turns in order and at once, and bring it back."""
        self.rig.stop_server(at_once=self.tally.restarts % 2 == 1)
        self.rig.start_server()
        self.tally.restarts += 1

    def _kill_a_relay(self) -> bool:
        self.rig.tend()
        relay = self._random.choice(self.rig.relays)
        if not relay.is_up() or self.rig.in_progress() == 0:
            return False
        self._replace(relay, "relay")
        return True

    def _kill_a_worker(self) -> bool:
        self.rig.tend()
        workers = self.rig.workers
        return any(self._kill_worker(one) for one in self._random.sample(workers, len(workers)))

    def _kill_worker(self, worker: Member) -> bool:
        """Freeze a worker, look whether it runs an attempt, and kill it only then."""
        if worker.status() is not None or not self._may_die(worker):
            return False
        worker.freeze()
        if worker.status() is not None or not self._may_die(worker):
            worker.thaw()
            return False
        worker_id = self._worker_id(worker)
        self._replace(worker, worker.role.arguments[-1])
        self.tally.victims.add(worker_id)
        return True

    def _may_die(self, worker: Member) -> bool:
        running = self.rig.running(worker)
        spared = any(not kind.startswith("fault.") and number >= _SPARED_FROM for _, kind, number in running)
        return bool(running) and not spared

    def _worker_id(self, worker: Member) -> UUID:
        query = "SELECT id FROM queue.processes WHERE pid = %s AND kind = 'worker' ORDER BY started_at DESC LIMIT 1"
        worker_id: UUID = self.rig.database.value(query, (worker.pid,))
        return worker_id

    def _replace(self, member: Member, kind: str) -> None:
        """Kill it, every other time with its children, as when its machine goes down; start another at once."""
        member.kill(with_children=self.tally.kills.total() % 2 == 1)
        member.start()
        self.tally.kills[kind] += 1


def missed(rig: Rig, tally: Tally) -> list[UUID]:
    """Return the killed workers that lost no attempt."""
    query = "SELECT DISTINCT worker_id FROM queue.attempts WHERE outcome = 'lost'"
    hit = {row[0] for row in rig.database.rows(query)}
    return sorted(tally.victims - hit)
