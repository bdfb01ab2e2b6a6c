"""`greenroom retention plan` and `run`, beside a running `up`."""

import json
from typing import Any
from uuid import uuid4

import pytest

from db.connection import connect
from db.embedded import running_url
from tests.support.command import Inline
from tests.support.factory import Factory

OLD = "2020-02-03 00:00+00"


@pytest.fixture
def policy(inline: Inline) -> str:
    """A policy of a tenant of the test's own, which has three old runs with a step each and a young one."""
    slug = f"tenant-{uuid4().hex[:8]}"
    inline.ok("tenants", "add", slug)
    tenant_id = inline.json("tenants", "show", slug)["id"]
    with connect(running_url(inline.home) or "", name="test") as owner:
        ours = Factory(owner, tenant_id)
        for moment in (OLD, OLD, OLD, "now"):
            times = {"created_at": moment, "started_at": moment, "completed_at": moment, "status": "completed"}
            run = ours.row("assistants.runs", **times)
            ours.row("assistants.run_steps", run_id=run["id"])
    speaks = ("--table", "assistants.runs", "--column", "completed_at", "--age", "1 year", "--share", "0.001")
    inline.ok("retention", "add", slug, *speaks, "--tenant", slug)
    return slug


def test_a_plan_shows_what_a_run_takes_once_it_is_confirmed(inline: Inline, policy: str) -> None:
    [planned] = inline.json("retention", "plan", policy)["plans"]
    assert (planned["rows"], planned["held"], planned["asks"]) == (3, 0, True)
    assert planned["dependents"] == [{"table": "assistants.run_steps", "rows": 3, "links": 0}]
    shown = inline.run("retention", "plan", policy)
    assert {"2020-02", "█", "assistants.run_steps"} <= set(shown.stdout.split())
    assert "3 rows would go" in shown.stdout
    assert f"{policy} would ask first: 3 of" in shown.stderr

    asked = inline.run("retention", "run", policy)
    assert asked.returncode == 0
    assert "asking" in asked.stdout
    assert f"`greenroom retention run {policy} --confirm` lets them go" in asked.stderr
    again = inline.run("retention", "run", policy)
    assert f"{policy} asks: look with `greenroom retention plan {policy}`" in again.stderr

    ended: dict[str, Any] = inline.json("retention", "run", policy, "--confirm")
    [run] = [each for each in ended["result"]["runs"] if each["policy"] == policy]
    assert (ended["status"], run["status"], run["rows_deleted"]) == ("done", "completed", 3)
    assert run["dependents"] == {"assistants.run_steps": {"rows": 3}}
    assert inline.json("retention", "plan", policy, "--tenant", policy)["plans"][0]["rows"] == 0
    deeds = "SELECT metadata FROM audit.audit_events WHERE event_type = 'retention.requested' ORDER BY created_at"
    with connect(running_url(inline.home) or "", name="test") as owner:
        said = [metadata for (metadata,) in owner.execute(deeds) if metadata["policies"] == [policy]]
    assert [each["is_confirmed"] for each in said] == [False, False, True]


def test_a_plan_of_all_has_totals_and_a_table_its_policies(inline: Inline, policy: str) -> None:
    told = inline.ok("retention", "plan")
    assert policy in told
    assert " rows would go (" in told
    assert policy in {each["policy"] for each in inline.json("retention", "plan", "assistants.runs")["plans"]}


def test_a_run_is_followed_by_whoever_wants_to(inline: Inline, policy: str) -> None:
    task_id = json.loads(inline.ok("retention", "run", policy, "--no-wait", "--json"))["task_id"]
    assert inline.json("tasks", "show", task_id)["task_type"] == "retention.enforce"
    assert "lets go what policies take" in inline.ok("retention", "run", policy, "--no-wait")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("plan", "no-such"), "no policy is named 'no-such' or speaks of such a table: see `greenroom retention show`"),
        (("plan", "--tenant", "no-such"), "no-such"),
        (("run", "no-such"), "there is no retention policy 'no-such': `greenroom retention show` lists them"),
    ],
)
def test_a_name_that_is_none_is_refused(inline: Inline, call: tuple[str, ...], says: str) -> None:
    done = inline.run("retention", *call)
    assert done.returncode == 1
    assert says in done.stderr


def test_a_policy_that_is_off_is_said_to_be(inline: Inline, policy: str) -> None:
    inline.ok("retention", "disable", policy)
    shown = inline.run("retention", "plan", policy)
    assert (shown.returncode, f"{policy} is off" in shown.stderr) == (0, True)
    refused = inline.run("retention", "run", policy)
    says = f"{policy} is off: `greenroom retention enable {policy}` switches it on"
    assert (refused.returncode, says in refused.stderr) == (2, True)


def test_a_hold_runs_nothing_and_says_so(inline: Inline, policy: str) -> None:
    hold = f"hold-{policy}"
    inline.ok(
        "retention", "hold", hold, "--table", "assistants.runs", "--tenant", policy, "--reason", "a court's order"
    )
    refused = inline.run("retention", "run", hold)
    assert (refused.returncode, f"{hold} is a hold: it keeps rows and takes none" in refused.stderr) == (2, True)
    inline.ok("retention", "release", hold)
