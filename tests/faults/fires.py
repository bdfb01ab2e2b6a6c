"""The account of fires: what a schedule had to do by the clock that Postgres lived by, held against what it did.

Shares no code with the scheduler. A nominal time is arithmetic on seconds (`Rule`). Time is told by Postgres' clock in
runs, each of which ends where that clock is set back; within a run it may leap ahead. Of a `Stretch`, a part of a run
in which a schedule fires by one rule, each nominal time has a row, or is counted by the next row as missed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.database import Database

# How many missed times a scheduler counts (scheduler/firing.py).
_MOST_COUNTED = 10_000
# How soon a scheduler has to see that the clock was set back, whatever else befalls it: it backs off up to 15 s.
_SEEN_SECONDS = 60.0

_NOTE_FIRE = """
CREATE FUNCTION public.note_fire() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.fired
        (schedule_id, fire_at, at, outcome, task_id, had_task, missed_count, error, run_after, live, has_ended)
    SELECT NEW.schedule_id, NEW.fire_at,
        CASE WHEN NEW.fired_at = OLD.fired_at THEN clock_timestamp() ELSE NEW.fired_at END,
        NEW.outcome, NEW.task_id, OLD.task_id, NEW.missed_count, NEW.error,
        (SELECT run_after FROM queue.tasks_live WHERE id = NEW.task_id),
        (SELECT count(*) FROM queue.tasks_live WHERE owner_kind = 'schedule' AND owner_id = NEW.schedule_id),
        EXISTS (SELECT FROM queue.tasks_history WHERE owner_kind = 'schedule' AND owner_id = NEW.schedule_id
            AND completed_at BETWEEN clock_timestamp() - interval '5 s' AND clock_timestamp());
    RETURN NULL;
END $$
"""
_NOTE_BACK = """
CREATE FUNCTION public.note_back() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.set_back (schedule_id, settled_at) VALUES (NEW.id, NEW.settled_at);
    RETURN NULL;
END $$
"""
_NOTE_BOTH = """
CREATE FUNCTION public.note_both() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO public.ran_both SELECT NEW.id, t.id FROM queue.tasks_live t JOIN queue.schedules s ON s.id = t.owner_id
    WHERE t.owner_kind = 'schedule' AND t.owner_id = NEW.owner_id AND t.id <> NEW.id AND t.status = 'in_progress'
        AND s.overlap <> 'allow';
    RETURN NULL;
END $$
"""
WITNESS = (
    """CREATE TABLE public.fired (seq bigserial PRIMARY KEY, schedule_id uuid NOT NULL, fire_at timestamptz NOT NULL,
        at timestamptz NOT NULL, outcome text NOT NULL, task_id uuid, had_task uuid,
        missed_count integer NOT NULL, error text, run_after timestamptz, live integer NOT NULL,
        has_ended boolean NOT NULL)""",
    """CREATE TABLE public.set_back (seq bigserial PRIMARY KEY, schedule_id uuid NOT NULL, settled_at timestamptz)""",
    "CREATE TABLE public.ran_both (task_id uuid NOT NULL, other uuid NOT NULL)",
    _NOTE_FIRE,
    _NOTE_BACK,
    _NOTE_BOTH,
    """CREATE TRIGGER witness AFTER INSERT OR UPDATE ON queue.fires
        FOR EACH ROW EXECUTE FUNCTION public.note_fire()""",
    """CREATE TRIGGER witness_of_clock AFTER UPDATE OF settled_at ON queue.schedules FOR EACH ROW
        WHEN (NEW.settled_at < OLD.settled_at) EXECUTE FUNCTION public.note_back()""",
    """CREATE TRIGGER witness_of_starts AFTER UPDATE ON queue.tasks_live FOR EACH ROW
        WHEN (NEW.owner_kind = 'schedule' AND NEW.status = 'in_progress' AND OLD.status <> 'in_progress')
        EXECUTE FUNCTION public.note_both()""",
)

_CHECKS = {
    "is a task of a schedule without its one fire": """
        SELECT t.id, t.metadata ->> 'schedule', t.metadata ->> 'fire_at' FROM queue.outbox_tasks t
        WHERE t.owner_kind = 'schedule' AND 1 <> (SELECT count(*) FROM queue.fires f WHERE f.task_id = t.id
            AND f.schedule_id = t.owner_id AND f.fire_at = (t.metadata ->> 'fire_at')::timestamptz)""",
    "is a schedule with a time of two tasks": """
        SELECT t.metadata ->> 'schedule', t.metadata ->> 'fire_at', count(*) FROM queue.outbox_tasks t
        WHERE t.owner_kind = 'schedule' GROUP BY 1, 2 HAVING count(*) > 1""",
    "is a schedule with a fire whose task is not there, or is another tenant's": """
        SELECT s.name, f.fire_at, f.task_id FROM queue.fires f JOIN queue.schedules s ON s.id = f.schedule_id
        WHERE f.outcome = 'enqueued' AND 1 <> (SELECT count(*) FROM queue.outbox_tasks t WHERE t.id = f.task_id
            AND (s.tenant_id IS NULL OR t.tenant_id = s.tenant_id))""",
    "ran beside another task of its schedule, which does not let tasks overlap": """
        SELECT task_id, other FROM public.ran_both""",
    "is a schedule with a fire that lost its task": """
        SELECT s.name, f.fire_at, f.had_task, f.task_id
        FROM public.fired f JOIN queue.schedules s ON s.id = f.schedule_id
        WHERE f.had_task IS NOT NULL AND f.had_task IS DISTINCT FROM f.task_id""",
}


@dataclass(frozen=True)
class Rule:
    """The instants at which a schedule fires, in whole seconds since 1970: `phase` and each `period` before and after
    it, none before `first` nor after `last`."""

    period: int
    phase: int = 0
    first: int = 0
    last: int = 10**11

    def between(self, after: float, until: float) -> range:
        """Return those after a moment, up to another."""
        start = max(int(after // 1) + 1, self.first)
        return range(start + (self.phase - start) % self.period, min(int(until // 1), self.last) + 1, self.period)


@dataclass(frozen=True)
class Stretch:
    """A part of a run in which a schedule fires by one rule: after `start`, up to `end`, by Postgres' clock.

    `start` None: the clock was set back before, and it goes on from where a scheduler has seen that.
    """

    run: int
    start: float | None
    end: float
    rule: Rule


@dataclass
class Story:
    """A schedule's policies, and what it had to do."""

    name: str
    rule: Rule
    missed: str
    limit: int = 1
    overlap: str = "allow"
    jitter: float = 0.0
    stretches: list[Stretch] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """A row of `queue.fires` as it was written; `live` are its schedule's live tasks.

    `at` is when it was decided, by Postgres' clock. `had_task`: it had its task before, and what was missed before it
    was added to it.
    """

    seq: int
    run: int
    fire_at: int
    at: float
    outcome: str
    missed_count: int
    error: str | None
    run_after: float | None
    live: int
    has_ended: bool
    had_task: bool

    @property
    def late(self) -> float:
        """How long after its nominal time it was settled, in seconds."""
        return self.at - self.fire_at


@dataclass(frozen=True)
class Book:
    """What the witness noted: entries and set-backs of clocks, by the names of schedules, in their order."""

    entries: Mapping[str, Sequence[Entry]]
    backs: Mapping[str, Sequence[float]]

    @classmethod
    def read(cls, database: Database, run_ends: Sequence[int]) -> "Book":
        """Read it; a run's end is the last number that was given out in it."""
        entries: dict[str, list[Entry]] = {}
        found = database.rows("""
            SELECT s.name, f.seq, extract(epoch FROM f.fire_at)::float8, extract(epoch FROM f.at)::float8, f.outcome,
                f.missed_count, f.error, extract(epoch FROM f.run_after)::float8, f.live, f.has_ended,
                f.had_task IS NOT NULL
            FROM public.fired f JOIN queue.schedules s ON s.id = f.schedule_id ORDER BY f.seq""")
        for name, seq, fire_at, *facts in found:
            run = sum(end < seq for end in run_ends)
            entries.setdefault(name, []).append(Entry(seq, run, round(fire_at), *facts))
        backs: dict[str, list[float]] = {}
        found = database.rows("""
            SELECT s.name, extract(epoch FROM b.settled_at)::float8
            FROM public.set_back b JOIN queue.schedules s ON s.id = b.schedule_id ORDER BY b.seq""")
        for name, settled_at in found:
            backs.setdefault(name, []).append(settled_at)
        return cls(entries, backs)


def violations(database: Database) -> Iterator[str]:
    """Yield what is wrong between fires and tasks."""
    for problem, query in _CHECKS.items():
        for first, *facts in database.rows(query):
            yield f"{first} {problem} {[str(fact) for fact in facts] or ''}".rstrip()


def complaints(story: Story, book: Book, misfire: float) -> Iterator[str]:
    """Yield what a schedule did that it should not have, or did not that it should have."""
    entries, backs = book.entries.get(story.name, ()), list(book.backs.get(story.name, ()))
    for entry in entries:
        for problem in _problems(story, entry, misfire):
            yield f"{story.name}: {problem}: {entry}"
    known = set[int]()
    for stretch in story.stretches:
        if stretch.start is None and not backs:
            yield f"{story.name}: nobody saw that the clock was set back in {stretch}"
            continue
        start = backs.pop(0) if stretch.start is None else stretch.start
        ran = [entry for entry in entries if entry.run == stretch.run and start < entry.fire_at <= stretch.end]
        known |= {entry.seq for entry in ran}
        yield from (f"{story.name}: {text}" for text in _walk(story, stretch, start, ran, entries, misfire))
    if backs:
        yield f"{story.name}: was settled backwards at {backs}, and no clock was set back"
    if strays := [entry for entry in entries if entry.seq not in known]:
        yield f"{story.name}: fired {strays[:5]} when it was to do nothing; {story.stretches}"


def seen_late(story: Story, book: Book, steps: Mapping[int, float]) -> Iterator[str]:
    """Yield set-backs of the clock (by the run that began with each) that it took too long to see."""
    runs = [stretch.run for stretch in story.stretches if stretch.start is None]
    for run, back in zip(runs, book.backs.get(story.name, ()), strict=False):
        if not 0 <= back - steps[run] <= _SEEN_SECONDS:
            yield f"{story.name}: that the clock was set back to {steps[run]} was seen at {back}"


def _walk(
    story: Story, stretch: Stretch, start: float, ran: Sequence[Entry], entries: Sequence[Entry], misfire: float
) -> Iterator[str]:
    """Yield the times of a stretch that have no row and were not counted, and counts that are wrong."""
    first_seen: dict[int, int] = {}
    for entry in entries:
        first_seen.setdefault(entry.fire_at, entry.seq)
    ours = {entry.fire_at: entry for entry in ran}
    gap: list[int] = []
    late: Entry | None = None
    if wrong := [at for at in ours if at not in stretch.rule.between(at - 1, at)]:
        yield f"fired at {wrong[:5]}, which are no times of {stretch.rule}"
    for at in stretch.rule.between(start, stretch.end):
        if at not in ours:
            gap.append(at)
            continue
        entry = ours[at]
        yield from _gap_problems(story, stretch.rule, entry, gap, first_seen, misfire)
        if story.missed == "once" and late is not None and at + misfire < late.at:
            yield f"made up for more than one missed time: {late} {entry}"
        late = entry if entry.late > misfire else None
        gap = []
    if rest := [at for at in gap if at not in first_seen]:
        yield f"{len(rest)} times have no row and were not counted, from {rest[0]} to {rest[-1]}, in {stretch}"


def _gap_problems(
    story: Story, rule: Rule, entry: Entry, gap: Sequence[int], first_seen: Mapping[int, int], misfire: float
) -> Iterator[str]:
    """Yield what is wrong with the times that an entry, the first after them, has to count as missed."""
    missing = [at for at in gap if first_seen.get(at, entry.seq) >= entry.seq]
    expected = len(missing)
    # nothing is counted twice, nor left out; too many are counted as that many
    is_cut = len(gap) >= _MOST_COUNTED - story.limit
    if entry.missed_count != expected and not (is_cut and _MOST_COUNTED / 2 < entry.missed_count <= expected):
        yield f"{expected} missed times before it, from {missing[:1]}, are not what was counted: {entry}"
    if missing and entry.at - missing[-1] < misfire:
        yield f"{missing[-1]} was counted as missed when it was not: {entry}"
    kept = len(rule.between(entry.fire_at - 1, entry.at - misfire))
    if missing and kept < story.limit:
        yield f"only {kept} missed times were made up for, {expected} were not: {entry}"


def _problems(story: Story, entry: Entry, misfire: float) -> list[str]:
    """Return what is wrong with one entry by itself."""
    is_late = entry.late >= misfire
    most_live = {"skip": 1, "wait": 2}.get(story.overlap, 10**9)
    latest = max(entry.at if is_late else 0.0, entry.fire_at) + story.jitter
    judged = {
        "has an outcome that nothing asked for": entry.outcome in {"enqueued", "missed", "overlapped"},
        "fired before its time": entry.late >= 0,
        "was missed without a reason": entry.outcome != "missed" or (story.missed == "skip" and is_late),
        "was made up for, and was to be skipped": entry.outcome == "missed"
        or not (story.missed == "skip" and is_late)
        or entry.had_task,
        "overlapped with nothing": entry.outcome != "overlapped"
        or (story.overlap != "allow" and (entry.live > 0 or entry.has_ended)),
        "was enqueued beside live tasks": entry.outcome != "enqueued" or entry.live <= most_live,
        "has a task that is due too soon or too late": entry.run_after is None
        or entry.fire_at <= entry.run_after <= latest,
    }
    return [problem for problem, is_right in judged.items() if not is_right]


def outcomes(book: Book) -> dict[str, int]:
    """Return how many rows were written, by outcome."""
    found: dict[str, int] = {}
    for entries in book.entries.values():
        for entry in entries:
            found[entry.outcome] = found.get(entry.outcome, 0) + 1
    return found


def epoch(moment: Any) -> float:
    """Return a datetime as seconds since 1970."""
    return float(moment.timestamp())
