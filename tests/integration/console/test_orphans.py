"""`greenroom retention orphans`: storage and rows are compared both ways, and files go when that is said twice."""

import os
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from db.connection import connect
from db.embedded import running_url
from pipelines.storage.base import MARK
from tests.support.command import Inline

OLD = timedelta(hours=25).total_seconds()


@pytest.fixture
def slug(inline: Inline) -> str:
    slug = f"tenant-{uuid4().hex[:8]}"
    inline.ok("tenants", "add", slug)
    return slug


def put(home: Path, tenant_id: str, name: str) -> Path:
    file = home / "storage" / tenant_id / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("hello")
    with connect(str(running_url(home)), name="test") as owner:
        [(installation,)] = owner.execute("SELECT id FROM ops.installation").fetchall()
    (home / "storage" / MARK).write_text(str(installation))
    moment = file.stat().st_mtime - OLD
    os.utime(file, (moment, moment))
    return file


def test_what_is_of_no_row_and_what_is_missing_is_told(inline: Inline, slug: str, home: Path) -> None:
    tenant_id = inline.json("tenants", "show", slug)["id"]
    assert "storage and rows agree" in inline.ok("retention", "orphans", "--tenant", slug)
    orphan = put(home, tenant_id, "orphan")
    with connect(str(running_url(home)), name="test") as owner:
        missing = f"{tenant_id}/gone"
        made = "INSERT INTO knowledge.documents (tenant_id, name, file_path) VALUES (%s, 'gone', %s)"
        owner.execute(made, (tenant_id, missing))

    found = inline.json("retention", "orphans", "--tenant", slug)
    assert found["orphans"] == {"count": 1, "bytes": 5, "first": [f"{tenant_id}/orphan"]}
    assert found["missing"]["first"] == [missing]
    told = inline.ok("retention", "orphans", "--tenant", slug)
    assert "1 files (5 B): 1 of no row (5 B), 1 missing" in told

    refused = inline.run("retention", "orphans", "--tenant", slug, "--remove")
    assert (refused.returncode, orphan.exists()) == (2, True)
    assert "this removes 1 files (5 B) for good: look at them, then say --yes" in refused.stderr
    assert "1 of them removed" in inline.ok("retention", "orphans", "--tenant", slug, "--remove", "--yes")
    assert not orphan.exists()
    with connect(str(running_url(home)), name="test") as owner:
        events = "SELECT event_type FROM audit.audit_events WHERE tenant_id = %s AND event_type ^@ 'files.' ORDER BY id"
        assert [event for (event,) in owner.execute(events, (tenant_id,))][-2:] == ["files.requested", "files.checked"]


def test_files_of_all_tenants_are_compared(inline: Inline, slug: str, home: Path) -> None:
    tenant_id = inline.json("tenants", "show", slug)["id"]
    put(home, tenant_id, "orphan")
    foreign = put(home, "elsewhere", "file")
    told = inline.run("retention", "orphans")
    assert f"{tenant_id}/orphan" in told.stdout
    assert "1 files in no tenant's folder are not ours, and stay" in told.stderr + told.stdout
    inline.ok("retention", "orphans", "--remove", "--yes")
    assert foreign.exists()
    foreign.unlink()


def test_a_tenant_that_is_none_is_refused(inline: Inline) -> None:
    refused = inline.run("retention", "orphans", "--tenant", "no-such-tenant")
    assert refused.returncode != 0
    assert "no-such-tenant" in refused.stderr
