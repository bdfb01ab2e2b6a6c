"""`greenroom schedules`: what is added and edited, what is refused, and what becomes of the code's."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from db import fires, schedules
from db.connection import Connection
from db.schedules import ScheduleRow, ScheduleSpec
from tests.support.command import Inline
from tests.support.database import Database
from tests.support.factory import Factory

EVENTS = "SELECT event_type, metadata FROM audit.audit_events WHERE resource_id = %s ORDER BY created_at, id"


def stored(operator: Connection, name: str) -> ScheduleRow:
    return schedules.named(operator, name)


def events(shared: Database, name: str) -> list[str]:
    return [event for event, _ in shared.rows(EVENTS, (name,))]


# ---------------------------------------------------------------------------------------------------- add


def test_what_is_added_is_stored_shown_and_listed(
    cli: Inline, operator: Connection, theirs: Factory, shared: Database, name: str, tmp_path: Path
) -> None:
    (tmp_path / "payload.json").write_text('{"n": 7}')
    slug = shared.value("SELECT slug FROM identity.tenants WHERE id = %s", (theirs.tenant_id,))
    start, end = datetime.now(UTC) + timedelta(days=1), datetime.now(UTC) + timedelta(days=90)
    said = cli.json(
        "schedules", "add", name, "test.noop", "--payload", f"@{tmp_path}/payload.json", "--cron", "30 2 * * 1-5",
        "--zone", "Europe/Berlin", "--gap", "skip", "--fold", "both", "--from", start.isoformat(),
        "--until", end.isoformat(), "--jitter", "5min", "--missed", "all", "--missed-limit", "3", "--overlap", "wait",
        "--queue", "nightly", "--priority", "-5", "--tenant", slug, "--description", "Counts sheep.",
    )  # fmt: skip
    assert stored(operator, name).spec() == ScheduleSpec(
        name=name, task_type="test.noop", payload={"n": 7}, tenant_id=theirs.tenant_id, queue="nightly", priority=-5,
        cron="30 2 * * 1-5", zone="Europe/Berlin", gap="skip", fold="both", starts_at=start, ends_at=end,
        jitter=timedelta(minutes=5), missed="all", missed_limit=3, overlap="wait", description="Counts sheep.",
    )  # fmt: skip
    assert said["is_stored"]
    assert len(said["next"]) == 5
    facts = cli.json("schedules", "show", name)
    assert facts == said["schedule"]
    assert (facts["tenant"], facts["next_fire_at"]) == (slug, said["next"][0]["at"])
    assert facts["when"].startswith("at 02:30 on Monday through Friday, Europe/Berlin")
    plain = cli.ok("schedules", "show", name)
    assert all(
        text in plain for text in ("up to 5 min", "the last 3 are made up for", slug, "Counts sheep.", facts["when"])
    )
    assert facts in cli.json("schedules", "list", "--tenant", slug)["schedules"]
    assert "at 02:30 on Monday through Friday" in cli.ok("schedules", "list", "--tenant", slug)
    assert events(shared, name) == ["schedule.added"]


def test_a_schedule_is_the_commands_tenants_or_of_none_where_its_type_works_across_tenants(
    cli: Inline, operator: Connection, shared: Database, name: str
) -> None:
    own, system = name, f"{name}-2"
    assert "fires" in cli.ok("schedules", "add", own, "test.noop", "--every", "90min")
    cli.ok("schedules", "add", system, "test.roll", "--at", "3600")
    assert stored(operator, own).tenant_id == shared.value("SELECT identity.default_tenant_id()")
    assert stored(operator, system).tenant_id is None
    assert cli.json("schedules", "show", own)["when"] == "every 1 hour and 30 minutes"
    assert cli.json("schedules", "show", system)["when"].startswith("once, at ")


CRON = ("--cron", "0 4 * * *")
NOOP = ("test.noop", *CRON)
WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "a type nobody knows": (("test.nobody", *CRON), "unknown task type 'test.nobody'; known are"),
    "a payload that is none of its type": ((*NOOP, "--payload", '{"n": "x"}'), "n must be"),
    "a field that its type lacks": ((*NOOP, "--payload", '{"m": 1}'), "m is not a field"),
    "no JSON": ((*NOOP, "--payload", "{"), "the payload is not JSON"),
    "no object": ((*NOOP, "--payload", "[]"), "must be a JSON object"),
    "JSON without end": ((*NOOP, "--payload", "[" * 200_000), "the payload is not JSON"),
    "a file that is not there": ((*NOOP, "--payload", "@nowhere.json"), "'nowhere.json' cannot be read"),
    "half a surrogate pair": (("test.report", *CRON, "--payload", '{"text": "\\ud800"}'), "half a surrogate pair"),
    "U+0000": (("test.report", *CRON, "--payload", '{"text": "\\u0000"}'), "U+0000"),
    "NaN": ((*NOOP, "--payload", '{"n": NaN}'), "NaN"),
    "a payload without measure": (
        ("test.report", *CRON, "--payload", json.dumps({"text": "x" * 70_000})),
        "at most 64 kB",
    ),
    "a range without measure": (("test.noop", "--cron", "1--100000000"), "has not five or six fields"),
    "a range without measure, in a field": (("test.noop", "--cron", "1--100000000 * * * *"), "the minute"),
    "a text without measure": (("test.noop", "--cron", "0 4 * * 1" + ",1" * 9000), "at most 200 characters"),
    "a day that never comes": (("test.noop", "--cron", "0 0 30 2 *"), "never matches"),
    "a zone that is none": ((*NOOP, "--zone", "Europe/Berln"), "write Europe/Berlin"),
    "a gap that is none": ((*NOOP, "--gap", "jump"), "--gap"),
    "an end before the start": ((*NOOP, "--from", "7200", "--until", "3600"), "it ends before it starts"),
    "an end that is past": ((*NOOP, "--until", "2020-01-01T00:00:00Z"), "never fires: all its times are past"),
    "a moment that is past": (("test.noop", "--at", "2020-01-01T00:00:00Z"), "never fires: all its times are past"),
    "a moment out of its bounds": (("test.noop", "--at", "3600", "--until", "60"), "before its start or after its end"),
    "a moment without zone": (("test.noop", "--at", "2030-01-01T00:00:00"), "has no time zone"),
    "a moment that no reader holds": (("test.noop", "--at", "9999-06-01T00:00:00Z"), "a year from 2 to 9998"),
    "a moment before time": (("test.noop", "--at", "0001-01-01T00:00:00+14:00"), "a year from 2 to 9998"),
    "no moment": (("test.noop", "--at", "soon"), "is no time"),
    "no span": (("test.noop", "--every", "often"), "write 90s, 30min, 2h or 1d"),
    "a span without measure": (("test.noop", "--every", "9" * 400), "write 90s, 30min, 2h or 1d"),
    "an interval of nothing": (("test.noop", "--every", "0"), "one or more whole seconds"),
    "an interval of half a second": (("test.noop", "--every", "1.5s"), "one or more whole seconds"),
    "two times": ((*NOOP, "--every", "1h"), "--cron and --every both say when"),
    "no time": (("test.noop",), "give one of --cron, --every and --at"),
    "jitter of days": ((*NOOP, "--jitter", "2d"), "jitter is from 0 to a day"),
    "no limit of missed ones": ((*NOOP, "--missed", "all", "--missed-limit", "0"), "--missed-limit"),
    "a priority of its own": ((*NOOP, "--priority", "101"), "--priority"),
    "a queue of no name": ((*NOOP, "--queue", ""), "a queue's name has 1 to 100 characters"),
    "a text that is none": ((*NOOP, "--description", "a\udcff"), "a character that Postgres cannot store"),
    "a tenant's work across tenants": (("test.roll", *CRON, "--tenant", "default"), "leave the tenant out"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_refused_in_one_sentence_and_stored_nowhere(
    cli: Inline, operator: Connection, shared: Database, name: str, case: str
) -> None:
    arguments, told = WRONG[case]
    done = cli.run("schedules", "add", name, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert schedules.show(operator, name) is None
    assert events(shared, name) == []


@pytest.mark.parametrize(("wrong", "told"), [("", "1 to 100 characters"), ("x" * 101, "1 to 100 characters")])
def test_a_name_that_is_none_is_refused(cli: Inline, wrong: str, told: str) -> None:
    done = cli.run("schedules", "add", wrong, *NOOP)
    assert done.returncode == 2
    assert told in done.stderr


def test_a_tenant_that_is_not_there_is_told(cli: Inline, name: str) -> None:
    done = cli.run("schedules", "add", name, *NOOP, "--tenant", "nobody")
    assert done.returncode == 1
    assert "no tenant has the slug 'nobody'" in done.stderr


def test_a_name_that_is_taken_is_refused(cli: Inline, operator: Connection, nightly: str) -> None:
    done = cli.run("schedules", "add", nightly, "test.noop", "--every", "1h")
    assert done.returncode == 2
    assert "already: `greenroom schedules edit` changes it" in done.stderr
    assert stored(operator, nightly).cron == "0 4 * * *"


def test_a_dry_run_shows_the_next_fires_and_stores_nothing(
    cli: Inline, operator: Connection, shared: Database, name: str
) -> None:
    done = cli.run("schedules", "add", name, *NOOP, "--zone", "Asia/Tokyo", "--dry-run", "-n", "3")
    assert done.stdout.startswith(f"{name} would be added: at 04:00 every day, Asia/Tokyo\n")
    assert done.stdout.count("04:00:00+09:00") == 3
    assert "nothing was stored" in done.stderr
    assert schedules.show(operator, name) is None
    assert events(shared, name) == []
    cli.ok("schedules", "add", name, *NOOP)
    before = stored(operator, name)
    said = cli.json("schedules", "edit", name, "--cron", "0 5 * * *", "--dry-run")
    assert (said["is_stored"], said["schedule"]["cron"]) == (False, "0 5 * * *")
    assert stored(operator, name) == before


# ---------------------------------------------------------------------------------------------------- edit


def test_an_edit_changes_what_is_given_and_nothing_else(
    cli: Inline, operator: Connection, shared: Database, nightly: str
) -> None:
    before = stored(operator, nightly)
    task_id = cli.ok("schedules", "run", nightly).strip()
    cli.ok("schedules", "edit", nightly, "--payload", '{"n": 2}', "--until", "864000", "--queue", "q")
    told = stored(operator, nightly)
    assert (told.payload, told.cron, told.queue, told.tenant_id) == ({"n": 2}, "0 4 * * *", "q", before.tenant_id)
    cli.ok("schedules", "edit", nightly, "--every", "2h", "--clear", "until", "--clear", "queue", "--priority", "0")
    told = stored(operator, nightly)
    assert (told.cron, told.every, told.ends_at, told.queue, told.priority) == (None, timedelta(hours=2), None, None, 0)
    assert not told.is_edited
    assert cli.json("tasks", "show", task_id)["payload"] == {"n": 1}  # what was enqueued stays as it is
    changed = [event["fields"] for kind, event in shared.rows(EVENTS, (nightly,)) if kind == "schedule.edited"]
    assert changed == [["ends_at", "payload", "queue"], ["at", "cron", "ends_at", "every", "priority", "queue"]]


def test_an_edited_time_counts_from_now_on(cli: Inline, operator: Connection, scheduler: Connection, name: str) -> None:
    cli.ok("schedules", "add", name, "test.noop", "--cron", "0 4 * * *")
    row, later = stored(operator, name), datetime.now(UTC) + timedelta(days=300)
    fires.settle(scheduler, row.id, settled_at=row.settled_at, next_fire_at=later, last_fire_at=None)
    assert cli.json("schedules", "edit", name, "--overlap", "allow")["schedule"]["next_fire_at"] == later.isoformat()
    moved = cli.json("schedules", "edit", name, "--zone", "Asia/Tokyo")["schedule"]["next_fire_at"]
    assert datetime.fromisoformat(moved) - datetime.now(UTC) <= timedelta(days=1)


def test_another_type_is_whose_it_may_be(
    cli: Inline, operator: Connection, shared: Database, theirs: Factory, nightly: str
) -> None:
    slug = shared.value("SELECT slug FROM identity.tenants WHERE id = %s", (theirs.tenant_id,))
    cli.ok("schedules", "edit", nightly, "--tenant", slug)
    cli.ok("schedules", "edit", nightly, "--type", "test.report", "--payload", "{}")
    assert stored(operator, nightly).tenant_id == theirs.tenant_id
    cli.ok("schedules", "edit", nightly, "--type", "test.roll")
    assert stored(operator, nightly).tenant_id is None
    cli.ok("schedules", "edit", nightly, "--type", "test.noop")
    assert stored(operator, nightly).tenant_id == shared.value("SELECT identity.default_tenant_id()")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "say what to change"),
        (("--reset", "--cron", "0 5 * * *"), "--reset alone"),
        (("--reset",), "was added by an operator"),
        (("--queue", "q", "--clear", "queue"), "--clear queue and --queue contradict"),
        (("--clear", "zone"), "--clear empties queue, priority"),
        (("--type", "test.nobody"), "unknown task type"),
        (("--type", "test.strict"), "invalid payload for test.strict: word is missing"),
        (("--payload", '{"n": "x"}'), "n must be"),
        (("--cron", "1--100000000 * * * *"), "the minute"),
        (("--cron", "0 4 * * 1" + ",1" * 9000), "at most 200 characters"),
        (("--zone", "Mars/Base"), "is unknown"),
        (("--until", "-60"), "never fires"),
        (("--at", "-60"), "never fires"),
        (("--from", "60", "--until", "30"), "it ends before it starts"),
        (("--type", "test.roll", "--payload", "{}", "--tenant", "default"), "leave the tenant out"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused_and_changes_nothing(
    cli: Inline, operator: Connection, nightly: str, arguments: tuple[str, ...], told: str
) -> None:
    before = stored(operator, nightly)
    done = cli.run("schedules", "edit", nightly, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert told in done.stderr
    assert stored(operator, nightly) == before


@pytest.mark.parametrize("deed", ["show", "history", "pause", "run", "remove"])
def test_a_name_that_postgres_cannot_hold_is_nobodys(cli: Inline, deed: str) -> None:
    for name in ("a\0b", "\udc80"):
        done = cli.run("schedules", deed, name)
        assert (done.returncode, done.stdout) == (1, "")
        assert "there is no schedule" in done.stderr


def test_what_is_over_may_be_described(cli: Inline, operator: Connection, scheduler: Connection, name: str) -> None:
    cli.ok("schedules", "add", name, "test.noop", "--at", "3600")
    row = stored(operator, name)
    fires.settle(scheduler, row.id, settled_at=datetime.now(UTC), next_fire_at=None, last_fire_at=row.at)
    assert "it never fires again" not in cli.ok("schedules", "show", name)
    cli.ok("schedules", "edit", name, "--description", "It was once.")
    assert "never again" in cli.ok("schedules", "show", name)


# ---------------------------------------------------------------------------------------------------- the code's


def test_an_edit_of_the_codes_is_kept_until_it_is_reset(
    cli: Inline, operator: Connection, shared: Database, declared: str
) -> None:
    before = stored(operator, declared)
    cli.ok("schedules", "edit", declared, "--cron", "0 5 * * *", "--clear", "jitter")
    plain = cli.ok("schedules", "show", declared)
    assert "cron, jitter" in plain
    assert "shop.tasks, for 004" in plain
    assert cli.json("schedules", "show", declared)["is_edited"]
    assert stored(operator, declared).cron == "0 5 * * *"
    assert "reset: at 04:00" in cli.ok("schedules", "edit", declared, "--reset")
    assert stored(operator, declared).spec() == before.spec()
    assert not stored(operator, declared).is_edited
    assert events(shared, declared) == ["schedule.edited", "schedule.reset"]


def test_one_of_the_codes_that_was_removed_comes_back_by_reset_and_by_add(
    cli: Inline, operator: Connection, declared: str
) -> None:
    known = stored(operator, declared)
    assert "edit --reset` brings it back" in cli.ok("schedules", "remove", declared)
    for deed in ("pause", "run"):
        refused = cli.run("schedules", deed, declared)
        assert (refused.returncode, "edit --reset" in refused.stderr) == (1, True), deed
    assert cli.run("schedules", "edit", declared, "--cron", "0 5 * * *").returncode == 1
    assert declared not in cli.ok("schedules", "list", "--limit", "1000")
    assert "removed" in cli.ok("schedules", "show", declared)
    listed = cli.json("schedules", "list", "--removed", "--limit", "1000")["schedules"]
    [facts] = [each for each in listed if each["name"] == declared]
    assert facts["removed_at"]
    assert facts["next_fire_at"] is None
    assert "does none of this" in cli.run("schedules", "preview", declared).stderr
    cli.ok("schedules", "edit", declared, "--reset")
    assert (stored(operator, declared).removed_at, stored(operator, declared).is_edited) == (None, False)
    cli.ok("schedules", "remove", declared)
    cli.ok("schedules", "add", declared, "test.noop", "--every", "1h")
    back = stored(operator, declared)
    assert (back.id, back.is_edited, back.removed_at) == (known.id, True, None)


def test_an_operators_that_is_removed_is_gone(cli: Inline, operator: Connection, nightly: str) -> None:
    assert cli.ok("schedules", "remove", nightly) == f"{nightly} is removed\n"
    assert schedules.show(operator, nightly) is None
