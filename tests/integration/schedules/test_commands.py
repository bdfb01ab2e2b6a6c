"""`greenroom schedules`: what operators see of schedules, and steer, while all runs."""

import json
import re
import shlex
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from console.setup import install_schedules
from core.settings import Settings
from db import fires, schedules
from db.connection import Connection
from db.schedules import Declaration, ScheduleSpec
from pipelines.publish import publish_types
from pipelines.registry import load_registry
from tests.integration.schedules.test_commands_that_write import CRON, NOOP, events, stored
from tests.support.command import PROJECT, Inline
from tests.support.database import Database
from tests.support.factory import Factory

STRICT = {"word": "tea", "amount": 3, "ref": str(UUID(int=5)), "token": "hunter2"}
SHOWN = STRICT | {"token": "**********"}


# ---------------------------------------------------------------------------------------------------- steer and run


def test_a_pause_is_told_and_a_resumption_says_what_passed(
    cli: Inline, operator: Connection, scheduler: Connection, shared: Database, name: str
) -> None:
    cli.ok("schedules", "add", name, "test.noop", "--every", "10min", "--missed", "all")
    assert cli.ok("schedules", "resume", name) == f"{name} is not paused\n"
    assert cli.ok("schedules", "pause", name) == f"{name} is paused\n"
    assert cli.ok("schedules", "pause", name) == f"{name} is already paused\n"
    row = stored(operator, name)
    listed = next(line for line in cli.ok("schedules", "list", "--limit", "1000").splitlines() if name in line)
    assert "paused" in listed
    assert " (in " not in listed
    assert "paused: it does none of this" in cli.run("schedules", "preview", name).stderr
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    shared.rows("UPDATE queue.schedules SET created_at = %s WHERE id = %s", (hour_ago, row.id))
    fires.settle(scheduler, row.id, settled_at=hour_ago, next_fire_at=None, last_fire_at=None)
    said = cli.ok("schedules", "resume", name)
    assert said == f"{name} is resumed: 6 of its times came while it was paused, and are not made up for\n"
    assert cli.json("schedules", "pause", name)["paused_at"]
    assert cli.ok("schedules", "resume", name) == f"{name} is resumed\n"
    assert events(shared, name).count("schedule.resumed") == 2


def test_a_run_by_hand_is_a_fire_of_its_own(
    cli: Inline, operator: Connection, shared: Database, theirs: Factory, name: str
) -> None:
    slug = shared.value("SELECT slug FROM identity.tenants WHERE id = %s", (theirs.tenant_id,))
    wanted = ("--tenant", slug, "--queue", "nightly", "--payload", '{"n": 9}')
    cli.ok("schedules", "add", name, *NOOP, *wanted)
    cli.ok("schedules", "pause", name)
    task_id = cli.json("schedules", "run", name)["id"]
    again = cli.ok("schedules", "run", name).strip()
    task = cli.json("tasks", "show", task_id)
    assert (task["payload"], task["queue"], task["tenant_id"]) == ({"n": 9}, "nightly", str(theirs.tenant_id))
    assert (task["owner_kind"], task["owner_id"]) == ("schedule", str(stored(operator, name).id))
    told = cli.json("schedules", "history", name)["fires"]
    assert [(fire["task_id"], fire["is_manual"], fire["status"]) for fire in told] == [
        (again, True, "pending"), (task_id, True, "pending")
    ]  # fmt: skip
    assert "by hand" in cli.ok("schedules", "history", name)
    assert "enqueued, pending" in cli.ok("schedules", "show", name)
    assert events(shared, name) == ["schedule.added", "schedule.paused", "schedule.run", "schedule.run"]


def test_a_run_that_is_refused_leaves_nothing(
    cli: Inline, operator: Connection, shared: Database, nightly: str
) -> None:
    shared.rows("UPDATE queue.schedules SET task_type = 'test.gone' WHERE name = %s", (nightly,))
    done = cli.run("schedules", "run", nightly)
    assert done.returncode == 2
    assert "unknown task type 'test.gone'" in done.stderr
    assert fires.history(operator, stored(operator, nightly).id, limit=1) == []
    # of a type that nobody knows nobody knows what is secret
    assert cli.json("schedules", "show", nightly)["payload"] == {"n": "**********"}


@pytest.mark.parametrize("deed", ["show", "edit", "pause", "resume", "run", "preview", "history", "remove"])
def test_a_schedule_that_is_not_there_is_told(cli: Inline, deed: str) -> None:
    done = cli.run("schedules", deed, "nobody", *(("--queue", "q") if deed == "edit" else ()))
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no schedule 'nobody': `greenroom schedules list` names them" in done.stderr


# ---------------------------------------------------------------------------------------------------- to come and gone


def test_a_preview_says_what_daylight_saving_does(cli: Inline) -> None:
    berlin = ("schedules", "preview", "--zone", "Europe/Berlin", "-n", "2", "--cron")
    moved = cli.json(*berlin, "30 2 * 3 0L")["next"]  # the last Sunday of March
    assert [each["local"][10:] for each in moved] == ["T03:30:00+02:00"] * 2
    assert [each["note"] for each in moved] == ["moved: daylight saving leaves out 02:30:00"] * 2
    plain = cli.ok(*berlin, "30 2 * 10 0L", "--fold", "both").splitlines()
    assert plain[0].endswith("Europe/Berlin, at both of times that come twice")
    doubled = [re.split(r"\s{2,}", line.strip()) for line in plain if "comes twice" in line]
    assert [fire[0][-14:] for fire in doubled] == ["02:30:00+02:00", "02:30:00+01:00"]
    assert [fire[0][:4] for fire in doubled] == ["Sun "] * 2
    assert [fire[-1] for fire in doubled] == [f"comes twice that day: the {which}" for which in ("first", "second")]


def test_a_preview_of_a_schedule_is_what_it_will_do(cli: Inline, operator: Connection, nightly: str) -> None:
    said = cli.json("schedules", "preview", nightly, "-n", "3")
    times = [datetime.fromisoformat(each["at"]) for each in said["next"]]
    assert {time.astimezone(UTC).hour for time in times} == {4}
    assert times[0] > stored(operator, nightly).settled_at
    assert [times[n + 1] - times[n] for n in range(2)] == [timedelta(days=1)] * 2
    assert "it never fires again" in cli.ok("schedules", "preview", "--at", "2020-01-01T00:00:00Z")


def test_an_interval_is_told_though_its_schedule_was_made_in_a_future_that_was_none(
    cli: Inline, shared: Database, name: str
) -> None:
    cli.ok("schedules", "add", name, "test.noop", "--every", "1h")
    shared.rows("UPDATE queue.schedules SET created_at = now() + interval '1 day' WHERE name = %s", (name,))
    told = [
        cli.json("schedules", "preview", name)["next"][0]["at"],
        cli.json("schedules", "edit", name, "--queue", "q")["next"][0]["at"],
        cli.json("schedules", "show", name)["next_fire_at"],
    ]
    assert all(datetime.fromisoformat(at) - datetime.now(UTC) <= timedelta(hours=1) for at in told)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name a schedule, or give one of"),
        (("some", "--cron", "@daily"), "name a schedule, or give one of"),
        (("--zone", "UTC"), "give exactly one of"),
        (("--cron", "1--100000000 * * * *"), "the minute"),
        (("--cron", "@daily", "-n", "0"), "-n"),
    ],
)
def test_a_preview_of_nothing_is_refused(cli: Inline, arguments: tuple[str, ...], told: str) -> None:
    done = cli.run("schedules", "preview", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr


def test_a_history_goes_back_a_page_at_a_time(
    cli: Inline, operator: Connection, scheduler: Connection, name: str
) -> None:
    cli.ok("schedules", "add", name, *NOOP, "--zone", "Asia/Tokyo")
    row, start = stored(operator, name), datetime(2026, 1, 1, 19, tzinfo=UTC)
    told: list[dict[str, Any]] = [
        {"outcome": "missed", "missed_count": 4}, {"outcome": "refused", "error": "the tenant is gone"},
        {"outcome": "overlapped"},
    ]  # fmt: skip
    for day, what in enumerate(told):
        fires.fire(scheduler, row.id, fires.NewFire(fire_at=start + timedelta(days=day), **what))
    first = cli.run("schedules", "history", name, "--limit", "2")
    assert re.search(r"Sun 2026-01-04 04:00:00\+09:00 +overlapped", first.stdout)
    assert "the tenant is gone" in first.stdout
    more = first.stderr.strip().removeprefix("more: ").split()
    rest = cli.run("schedules", "history", name, *more)
    assert "4 missed before it" in rest.stdout
    assert "overlapped" not in rest.stdout
    assert rest.stderr == ""
    page = cli.json("schedules", "history", name, "--limit", "2")
    assert [fire["outcome"] for fire in page["fires"]] == ["overlapped", "refused"]
    following = cli.json("schedules", "history", name, "--before", page["next"])
    assert ([fire["outcome"] for fire in following["fires"]], following["next"]) == (["missed"], None)
    assert "no fires yet" in cli.ok("schedules", "history", name, "--before", "2020-01-01T00:00:00Z")


def test_a_listing_goes_on_behind_its_last_name(cli: Inline) -> None:
    made = sorted(f"zz-{uuid4()}" for _ in range(3))
    for each in reversed(made):
        cli.ok("schedules", "add", each, *NOOP)
    page = cli.json("schedules", "list", "--after", "zz-", "--limit", "2")
    rest = cli.json("schedules", "list", "--after", page["next"], "--limit", "2")
    assert [each["name"] for each in (*page["schedules"], *rest["schedules"])] == made
    assert (page["next"], rest["next"]) == (made[1], None)
    assert f"more: --after {made[1]}" in cli.run("schedules", "list", "--after", "zz-", "--limit", "2").stderr


def test_a_listing_tells_the_last_fire_and_a_next_one_that_is_late(
    cli: Inline, operator: Connection, scheduler: Connection, nightly: str
) -> None:
    row, now = stored(operator, nightly), datetime.now(UTC)
    last = fires.NewFire(fire_at=now - timedelta(days=2), outcome="missed")
    fires.fire(scheduler, row.id, fires.NewFire(fire_at=now - timedelta(days=9), outcome="overlapped"))
    fires.fire(scheduler, row.id, last)
    late = now - timedelta(hours=3)
    fires.settle(scheduler, row.id, settled_at=late - timedelta(hours=1), next_fire_at=late, last_fire_at=last.fire_at)
    [line] = [each for each in cli.ok("schedules", "list", "--limit", "1000").splitlines() if nightly in each]
    assert "(3 h late)" in line
    assert f"{last.fire_at:%Y-%m-%d %H:%M:%S}Z missed" in line


def test_a_schedule_that_was_written_past_its_checks_hides_no_other(
    cli: Inline, shared: Database, nightly: str
) -> None:
    shared.rows("UPDATE queue.schedules SET zone = 'Mars/Base' WHERE name = %s", (nightly,))
    [line] = [each for each in cli.ok("schedules", "list", "--limit", "1000").splitlines() if nightly in each]
    assert "never: zone 'Mars/Base' is unknown" in line
    assert cli.ok("schedules", "pause", nightly) == f"{nightly} is paused\n"
    assert cli.ok("schedules", "resume", nightly) == f"{nightly} is resumed\n"
    assert "no fires yet" in cli.ok("schedules", "history", nightly)
    assert cli.run("schedules", "preview", nightly).returncode == 2
    assert "edited" in cli.ok("schedules", "edit", nightly, "--zone", "UTC")


# ---------------------------------------------------------------------------------------------------- secrets


def test_secrets_of_payloads_print_as_stars(cli: Inline, shared: Database, name: str) -> None:
    outputs: list[Callable[[], str]] = [
        lambda: cli.ok("schedules", "add", name, "test.strict", *CRON, "--payload", json.dumps(STRICT), "--json"),
        lambda: cli.ok("schedules", "edit", name, "--cron", "0 5 * * *", "--json"),
        lambda: cli.ok("schedules", "show", name),
        lambda: cli.ok("schedules", "show", name, "--json"),
        lambda: cli.ok("schedules", "list", "--limit", "1000", "--json"),
        lambda: cli.ok("schedules", "pause", name, "--json"),
        lambda: cli.ok("tasks", "show", cli.ok("schedules", "run", name).strip()),
    ]
    shown = [output() for output in outputs]
    assert [text for text in shown if "hunter2" in text] == []
    assert all('"**********"' in text for text in shown if "token" in text)
    assert cli.json("schedules", "show", name)["payload"] == SHOWN
    wrong = json.dumps(STRICT | {"token": 7, "word": "hunter2" * 9})
    assert "hunter2" not in cli.run("schedules", "edit", name, "--payload", wrong).stderr


def test_secrets_of_what_the_code_declares_print_as_stars_whatever_became_of_it(
    cli: Inline, shared: Database, name: str
) -> None:
    spec = ScheduleSpec(name=name, task_type="test.strict", payload=STRICT, cron="0 4 * * *")
    schedules.install(shared.connect(), [Declaration(spec=spec, module="shop.tasks", design="003")], [])
    cli.ok("schedules", "edit", name, "--type", "test.noop", "--payload", "{}")
    said = cli.json("schedules", "show", name)
    assert (said["payload"], said["declared"]["payload"]) == ({}, SHOWN)
    assert "hunter2" not in cli.ok("schedules", "show", name)


# ---------------------------------------------------------------------------------------------------- the page


def test_the_examples_of_the_page_run_as_they_stand(shared: Database, cli: Inline) -> None:
    publish_types(shared.connect(), load_registry())
    install_schedules(shared.connect(), Settings())
    page = (PROJECT / "docs" / "schedules.md").read_text(encoding="utf-8")
    calls = [shlex.split(line, comments=True) for line in re.findall(r"^greenroom .*$", page, re.MULTILINE)]
    deeds = {call[2] for call in calls}
    assert deeds == {"list", "preview", "add", "edit", "run", "pause", "resume", "history", "remove"}
    for call in calls:
        cli.ok(*call[1:])
