"""`greenroom tenants`: who there is, and what becomes of one."""

import json
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from db.connection import connect
from db.embedded import running_url
from tests.support.command import Inline
from tests.support.factory import Factory


@pytest.fixture
def slug(inline: Inline) -> str:
    """The slug of a tenant of the test's own."""
    slug = f"tenant-{uuid4().hex[:8]}"
    inline.ok("tenants", "add", slug, "--name", "Ada's", "--plan", "pro", "--contact-email", "ada@example.com")
    return slug


def status_of(inline: Inline, tenant: str) -> str:
    return str(inline.json("tenants", "show", tenant)["status"])


def test_a_tenant_is_added_listed_and_shown(inline: Inline, slug: str) -> None:
    [listed] = [each for each in inline.json("tenants", "list")["tenants"] if each["slug"] == slug]
    shown = inline.json("tenants", "show", slug)
    assert {name: shown[name] for name in listed} == listed
    assert (shown["name"], shown["plan_type"], shown["contact_email"]) == ("Ada's", "pro", "ada@example.com")
    assert (shown["status"], shown["tasks"], shown["hold"]) == ("active", 0, None)
    assert inline.json("tenants", "show", shown["id"]) == shown
    assert slug in inline.ok("tenants", "list")
    assert "ada@example.com" in inline.ok("tenants", "show", slug)
    assert inline.json("tenants", "add", f"{slug}-2").keys() == {"id", "slug"}


def test_a_suspended_tenants_tasks_wait_until_it_is_active_again(inline: Inline, slug: str) -> None:
    assert inline.ok("tenants", "suspend", slug) == f"{slug} is suspended\n"
    task_id = inline.json("enqueue", "terms.count", "{}", "--tenant", slug)["id"]
    shown = inline.json("tenants", "suspend", slug)
    assert (shown["status"], shown["tasks"], shown["held_tasks"]) == ("suspended", 1, 1)
    assert "already suspended, 1 of its 1 tasks held" in inline.ok("tenants", "suspend", slug)
    assert inline.json("tasks", "show", task_id)["hold_reason"] == "tenant is suspended"
    assert inline.ok("tenants", "activate", slug).startswith(f"{slug} is active")
    assert inline.json("tasks", "show", task_id)["hold_reason"] is None


@pytest.mark.timeout(120)
def test_a_deleted_tenant_is_erased_with_its_files(inline: Inline, slug: str, home: Path, tmp_path: Path) -> None:
    tenant_id = inline.json("tenants", "show", slug)["id"]
    (tmp_path / "tea.md").write_text("# Tea\n\nOolong is half oxidised.\n")
    inline.ok("ingest", str(tmp_path), "--tenant", slug)
    assert list((home / "storage" / tenant_id).rglob("*"))

    refused = inline.run("tenants", "delete", slug)
    assert (refused.returncode, status_of(inline, slug)) == (2, "active")
    assert "for good: say --yes" in refused.stderr
    told = inline.ok("tenants", "delete", slug, "--yes")
    assert told.endswith(f"{slug} is erased\n")

    assert not (home / "storage" / tenant_id).exists()
    gone = inline.run("tenants", "show", tenant_id)
    assert (gone.returncode, "no tenant has the slug or the id" in gone.stderr) == (1, True)
    assert inline.ok("tenants", "add", slug).startswith("added")


def test_a_deletion_is_not_waited_for_unless_wanted_and_told_as_json(inline: Inline, slug: str) -> None:
    told = inline.json("tenants", "delete", slug, "--yes", "--no-wait")
    assert told["slug"] == slug
    assert inline.json("tasks", "show", told["task_id"])["task_type"] == "tenant.erase"
    other = f"{slug}-2"
    inline.ok("tenants", "add", other)
    *_, last = inline.ok("tenants", "delete", other, "--yes", "--json").splitlines()
    assert json.loads(last)["status"] == "done"


def test_what_cannot_be_is_refused_and_says_why(inline: Inline, slug: str) -> None:
    for given, status, says in (
        (("show", "nobody"), 1, "no tenant has the slug or the id 'nobody'"),
        (("suspend", "nobody"), 1, "no tenant has the slug or the id 'nobody'"),
        (("delete", "nobody", "--yes"), 1, "no tenant has the slug or the id 'nobody'"),
        (("add", slug), 2, "has the slug"),
        (("add", "No Such"), 2, "cannot be a tenant"),
        (("add", "fine", "--name", ""), 2, "cannot be a tenant"),
        (("add", "fine", "--plan", "gold"), 2, "gold"),
        (("delete", "default", "--yes"), 2, "the default tenant cannot be deleted"),
    ):
        refused = inline.run("tenants", *given)
        assert (refused.returncode, says in refused.stderr) == (status, True), refused.stderr


@pytest.mark.timeout(120)
def test_a_deletion_that_a_hold_stopped_goes_on_when_it_is_lifted(inline: Inline, slug: str, home: Path) -> None:
    tenant_id = inline.json("tenants", "show", slug)["id"]
    with connect(str(running_url(home)), name="test") as owner:
        hold = Factory(owner, UUID(tenant_id)).row(
            "ops.retention_policies", tenant_id=tenant_id, name=slug, is_held=True, hold_reason="a court's order"
        )
        assert inline.json("tenants", "show", slug)["hold"] == f"{slug} (a court's order)"
        stopped = inline.run("tenants", "delete", slug, "--yes")
        assert stopped.returncode == 1
        assert f"held by {slug} (a court's order): lift the hold" in stopped.stderr
        assert status_of(inline, tenant_id) == "deleted"
        back = inline.run("tenants", "activate", slug)
        assert (back.returncode, "does not come back" in back.stderr) == (2, True)
        owner.execute("DELETE FROM ops.retention_policies WHERE id = %s", (hold["id"],))
        assert inline.ok("tenants", "delete", slug, "--yes").endswith("is erased\n")
        events = "SELECT event_type, actor, tenant_id FROM audit.audit_events WHERE resource_id = %s"
        assert owner.execute(events, (tenant_id,)).fetchall() == [("tenant.erased", "greenroom_system", None)]


def test_each_deed_is_in_the_audit_once(inline: Inline, slug: str, home: Path) -> None:
    for deed in ("suspend", "suspend", "activate", "activate"):
        inline.ok("tenants", deed, slug)
    tenant_id = inline.json("tenants", "show", slug)["id"]
    with connect(str(running_url(home)), name="test") as owner:
        query = b"SELECT event_type, actor, resource_id FROM audit.audit_events WHERE tenant_id = %s ORDER BY id"
        found = owner.execute(query, (tenant_id,)).fetchall()
    deeds = ("tenant.added", "tenant.suspended", "tenant.activated")
    assert found == [(deed, "greenroom_operator", tenant_id) for deed in deeds]
