"""The relay: moves due tasks to the broker. Any number of relays run side by side.

Services, each a loop of its own: Relay (promote, claim, publish), Listener (is rung by NOTIFY, and tests that it is).
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from uuid import UUID

import psycopg

from core import events
from core.errors import UnavailableError
from core.groups import RelaySettings
from db import leases, processes, queue
from db.connection import Connection, KeptConnection
from workers.broker import AnyBroker, messages_of, publish
from workers.claiming import DEAR_SECONDS, LOOK_SHARE, Claimer, slots_of
from workers.handed import Handed

_BUSY_ROUNDS = 8
_PROMOTE_SECONDS = 0.05
_TELL_AGAIN_ROUNDS = 2.5
_FULL_PAUSES = (0.002, 0.5)
_UNKNOWN_PAUSE = 0.05  # the beat makes a process known
# A relay that sleeps looks for what else there is when the workers have begun what it was rung for, not before them.
_AFTER_SECONDS = 0.005
# However long a look takes, the next is not put off for longer.
_MOST_AFTER = 1.0
# What was enqueued while nobody was to be rung may be committed after the first look of a relay that falls asleep: it
# looks again soon, and then twice as late each time.
_AGAIN_SECONDS = 0.01
# A deferred task that is due and still there is held by another transaction.
_HELD_SECONDS = 0.01
# After a claim whose answer was lost, its commit may come late: for so long, and so often, strays are looked for.
_SUSPECT_SECONDS, _SUSPECT_PAUSE = 60.0, 1.0
_PING_SECONDS = 30.0


class Relay:
    """Claims due tasks for free slots and publishes them; sleeps when there is nothing, to be rung or to poll."""

    name = "relay"

    def __init__(
        self,
        connection: KeptConnection,
        broker: AnyBroker,
        settings: RelaySettings,
        process_id: UUID,
        *,
        hears: Callable[[], bool] = lambda: False,
    ) -> None:
        self._connection = connection
        self._broker = broker
        self._settings = settings
        self._process_id = process_id
        self._hears = hears
        self._is_sleeping = False
        self._heard: bool | None = None
        self._told_at = 0.0
        self._busy_rounds = 0
        self._full_rounds = 0
        self._claimers: dict[str, Claimer] = {}
        self._limits_wait: float | None = None
        self._promote_at = 0.0
        self._promoted_at = 0.0
        self._is_rung = False
        self._turn = 0
        self._straight_rounds = 0
        self._after_seconds = _AFTER_SECONDS
        self._again_in = math.inf
        self._suspect_until = self._suspected_at = 0.0

    def ring(self) -> None:
        """Say that something has come, for the next round; any thread may call this."""
        self._is_rung = True

    def run_once(self) -> float:
        """Do one round; raises UnavailableError when database or broker is away, and nothing is lost by that."""
        connection = self._connection.get()
        self._give_back_strays(connection)
        pause = self._round(connection)
        return min(pause, _SUSPECT_PAUSE) if time.monotonic() < self._suspect_until else pause

    def _round(self, connection: Connection) -> float:
        self._promote(connection)
        look = None if self._goes_straight() else self._look(connection)
        if look is not None and not look.queues:
            self._limits_wait = None
            return self._next_pause(connection, 0, look, is_full=False)
        settings = self._settings
        capacities = self._broker.capacity(connection, depth=settings.depth, process_timeout=settings.process_timeout)
        wanted = [capacity for capacity in capacities if look is None or capacity.queue in look.queues]
        is_full = False
        rounds = []
        for capacity in self._in_turn(wanted):
            # What any queue may claim ahead, all may: they share the slots.
            is_limited = any(claimer.is_limited for claimer in self._claimers.values())
            now = self._broker.now(capacity, is_limited=is_limited)
            if now.free > 0:
                rounds.append(self._dispatch(connection, self._claimer_of(capacity.queue), now))
            is_full = is_full or now.free < 1
        is_full = is_full or any(count and not drained for count, drained, _ in rounds)
        self._limits_wait = min((wait for _, _, wait in rounds if wait is not None), default=None)
        claimed = sum(count for count, *_ in rounds)
        self._turn += claimed > 0
        pause = self._next_pause(connection, claimed, look, is_full=is_full)
        return pause if self._limits_wait is None else min(pause, self._limits_wait)

    def wants_room(self) -> bool:
        """Return whether the last round found tasks, or may have left some, that workers or limits had no room for."""
        return self._full_rounds > 0 or self._busy_rounds > 0 or self._limits_wait is not None

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _goes_straight(self) -> bool:
        """Return whether to claim without a look: awake, or rung where there is but one queue, a few times in a row."""
        is_rung, self._is_rung = self._is_rung, False
        if not self._is_sleeping:
            return True
        is_straight = is_rung and len(self._claimers) == 1 and self._straight_rounds < _BUSY_ROUNDS
        self._straight_rounds = self._straight_rounds + 1 if is_straight else 0
        return is_straight

    def _in_turn(self, capacities: Sequence[queue.Capacity]) -> Sequence[queue.Capacity]:
        """Return the queues in another order after each claim: they may share their slots."""
        first = self._turn % max(len(capacities), 1)
        return [*capacities[first:], *capacities[:first]]

    @property
    def _handed(self) -> Handed | None:
        return self._broker.handed

    def _look(self, connection: Connection) -> queue.Look:
        started = time.monotonic()
        look = queue.look(connection)
        took = time.monotonic() - started
        self._after_seconds = min(took * LOOK_SHARE, _MOST_AFTER) if took >= DEAR_SECONDS else _AFTER_SECONDS
        due_in = math.inf if look.due_in is None else max(look.due_in + 0.001, _HELD_SECONDS * (look.due_in <= 0))
        self._promote_at = time.monotonic() + due_in  # whatever is due earlier rings, and is seen by the next look
        return look

    def _claimer_of(self, name: str) -> Claimer:
        if name not in self._claimers:
            self._claimers[name] = Claimer(limit=self._settings.batch, claim_seconds=self._settings.claim_seconds)
        return self._claimers[name]

    def _dispatch(
        self, connection: Connection, claimer: Claimer, wanted: queue.Capacity
    ) -> tuple[int, bool, float | None]:
        """Claim and publish what fits; return how many tasks, whether there was room for more, and what limits say."""
        since = time.monotonic()
        try:
            claims, is_all, wait = claimer.claim(connection, wanted)
            is_handed = self._hand_over(connection, claims, since)
        except BaseException:
            self._suspect_until = math.inf  # it may have started what nobody knows of
            raise
        if is_handed:
            self._publish(connection, claims)
        return len(claims), is_all and slots_of(claims, wanted) + 1 <= wanted.free, wait

    def _hand_over(self, connection: Connection, claims: Sequence[queue.Claim], since: float) -> bool:
        """Hand attempts that were started with their claims to the worker; give them back if it stops, return False."""
        started = [claim.attempt for claim in claims if claim.attempt is not None]
        if not started or self._handed is None or self._handed.put(started, since):
            return True
        leases.give_back(connection, [(each.task_id, each.claim_number) for each in started], self._handed.worker_id)
        return False

    def _publish(self, connection: Connection, claims: Sequence[queue.Claim]) -> None:
        messages = messages_of(claims)
        for position, (message, _) in enumerate(messages):
            try:
                publish(self._broker, message)
            except UnavailableError as error:
                unsent = [claim for _, part in messages[position:] for claim in part]
                queue.give_back(connection, [(claim.task_id, claim.claim_number) for claim in unsent])
                events.emit(events.PublishFailed(len(unsent), str(error)))
                raise
        if claims:
            events.emit(events.TasksPublished(len(claims), len(messages)))

    def _give_back_strays(self, connection: Connection) -> None:
        """Give back what a claim whose answer was lost has started: the worker knows nothing of it.

        Such a commit may come late. Only between two claims is everything known that was started.
        """
        now = time.monotonic()
        if self._handed is None or now >= self._suspect_until or now < self._suspected_at + _SUSPECT_PAUSE:
            return
        self._suspected_at = now
        running = leases.running(connection, self._handed.worker_id)
        known = set(self._handed.known())  # read after what runs: an attempt is known before it runs
        if strays := [claim for claim in running if claim not in known]:
            leases.give_back(connection, strays, self._handed.worker_id)
        self._suspect_until = min(self._suspect_until, now + _SUSPECT_SECONDS)

    def _promote(self, connection: Connection) -> None:
        """Let deferred tasks in whose time has come: asleep that time is known, awake it is tried now and then."""
        now = time.monotonic()
        if now >= self._promote_at or (not self._is_sleeping and now >= self._promoted_at + _PROMOTE_SECONDS):
            promoted = queue.promote(connection, self._settings.batch)
            self._promoted_at = time.monotonic()
            self._promote_at = 0.0 if promoted else math.inf

    def _next_pause(self, connection: Connection, claimed: int, look: queue.Look | None, *, is_full: bool) -> float:
        if claimed and (is_full or not self._is_sleeping):
            self._busy_rounds += 1
            self._full_rounds = 0
            self._tell(connection, is_sleeping=self._is_sleeping and self._busy_rounds < _BUSY_ROUNDS)
            return 0.0
        # Nothing, or all there was while producers ring: whoever comes now wakes us.
        self._busy_rounds = 0
        until_due = max(self._promote_at - time.monotonic(), 0.0)
        if is_full:
            # Workers are saturated; a slot may be free any moment, and nobody rings for that.
            self._full_rounds += 1
            self._tell(connection, is_sleeping=self._is_sleeping)
            shortest, longest = _FULL_PAUSES
            return min(shortest * 2.0 ** min(self._full_rounds, 20), longest, until_due)
        self._full_rounds = 0
        was_awake = not self._is_sleeping
        if not self._stays_asleep() and not self._mark(connection, is_sleeping=True):
            return _UNKNOWN_PAUSE
        if was_awake:
            self._again_in = _AGAIN_SECONDS
            return 0.0  # what was enqueued before the flag was seen did not ring: look once more
        if claimed:
            return min(self._after_seconds, until_due)
        if look is None:
            return 0.0  # nothing is due yet, or for us: it may be soon
        again_in, self._again_in = self._again_in, self._again_in * 2
        poll = self._settings.poll_seconds if self._hears() else self._settings.poll_seconds_deaf
        return min(poll, again_in, until_due)

    def _stays_asleep(self) -> bool:
        """Return whether all know that this relay sleeps: told a while ago, it may have been forgotten since."""
        is_told = self._is_sleeping and self._hears() == self._heard
        return is_told and time.monotonic() < self._told_at + _TELL_AGAIN_ROUNDS * self._settings.poll_seconds

    def _tell(self, connection: Connection, *, is_sleeping: bool) -> None:
        """Say whether producers shall ring, if it is news."""
        if (is_sleeping, self._hears()) != (self._is_sleeping, self._heard):
            self._mark(connection, is_sleeping=is_sleeping)

    def _mark(self, connection: Connection, *, is_sleeping: bool) -> bool:
        """Say whether producers shall ring; return False while this process is not known, or not any more."""
        heard = self._hears()
        is_known = processes.mark_sleeping(connection, self._process_id, is_sleeping=is_sleeping, hears_notify=heard)
        self._is_sleeping, self._heard, self._told_at = is_known and is_sleeping, heard, time.monotonic()
        return is_known


class Listener:
    """Hears NOTIFY and wakes the relay; proves by a round trip that it really hears (a pooler may swallow LISTEN).

    `wake_others` has whom to wake instead, by what the notice says.
    """

    name = "listener"

    def __init__(
        self,
        connection: KeptConnection,
        process_id: UUID,
        wake: Callable[[], None],
        wake_others: Mapping[str, Callable[[], None]],
    ) -> None:
        self._connection = connection
        self._wake_others = wake_others
        self._ping_channel = f"greenroom_ping_{process_id.hex}"
        self._wake = wake
        self._listens_on: Connection | None = None
        self._pinged_at: float | None = None
        self._next_ping = 0.0
        self._hears = False

    def hears(self) -> bool:
        """Return whether the last round trip came back."""
        return self._hears

    def run_once(self) -> float:
        """Wait for notifications for up to a second; ping ourselves now and then."""
        try:
            connection = self._open()
            if time.monotonic() >= self._next_ping:
                self._ping()
            for notice in connection.notifies(timeout=1.0, stop_after=1):
                self._heard(notice)
        except (psycopg.Error, OSError) as error:
            self._lose()
            raise UnavailableError(f"LISTEN broke off: {type(error).__name__}") from error
        if self._pinged_at is not None and time.monotonic() > self._pinged_at + 5.0:
            self._judge(heard=False)
        return 0.0

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _open(self) -> Connection:
        connection = self._connection.get()
        if connection is not self._listens_on:
            connection.execute(f'LISTEN "{queue.WAKE_CHANNEL}"')
            connection.execute(f'LISTEN "{self._ping_channel}"')
            self._listens_on, self._next_ping = connection, 0.0
        return connection

    def _ping(self) -> None:
        """Ring ourselves over a connection of its own, as others do: behind a pooler, what we ring ourselves by the one
        that listens may come back in its answer, and nothing else ever would. One that cannot be sent is not heard.
        """
        self._next_ping = time.monotonic() + _PING_SECONDS
        self._pinged_at = self._pinged_at or time.monotonic()
        with suppress(UnavailableError), closing(self._connection.another()) as other:
            other.execute("SELECT pg_notify(%s, '')", (self._ping_channel,))

    def _heard(self, notice: psycopg.Notify) -> None:
        if notice.channel == self._ping_channel:
            self._pinged_at = None
            self._judge(heard=True)
        else:
            self._wake_others.get(notice.payload, self._wake)()

    def _judge(self, *, heard: bool) -> None:
        if heard != self._hears:
            self._hears = heard
            events.emit(events.ListenChanged(heard))
            self._wake()

    def _lose(self) -> None:
        self._connection.close()
        self._pinged_at = None
        self._judge(heard=False)
