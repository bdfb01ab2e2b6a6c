"""`doctor`: each check finds what it is for, where all is well nothing is found, and nothing keeps it from its end."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest

from console.checks.findings import Bounds, Check, Finding, Sight
from console.checks.registry import CHECKS
from console.checks.running import chosen, look
from core import contradictions
from core.settings import load_settings
from db.drift import QUERIES
from db.health import SCHEMAS
from db.schema import WANTED_REVISION
from tests.acceptance.pgbouncer import pgbouncer, require_pgbouncer, through
from tests.integration.console import breaking_places, breaking_server, breaking_work
from tests.support.command import PROJECT, Inline
from tests.support.database import Database
from tests.support.doctor import CASES, IMPATIENT, Bench, Case, check_of, found
from tests.support.waiting import eventually

# What a login may not ask after.
UNSEEN = {
    "relay": {"files", "mailboxes", "retention", "schedules", "unknown_mail"},
    "worker": {"mailboxes", "months", "retention", "schedules", "unknown_mail"},
    "scheduler": {"files", "mailboxes", "months", "retention", "queues", "providers", "alerts", "unknown_mail"},
}
MODULES = (breaking_places, breaking_server, breaking_work)


@pytest.fixture
def bench(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[Bench]:
    with ExitStack() as stack:
        yield Bench(database, tmp_path, monkeypatch, stack, redis_url)


@pytest.fixture
def vacuumed(database: Database) -> Iterator[None]:
    """A server that vacuums by itself, as those of the suite do not."""

    def alter(change: str) -> None:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM {change}".encode())
            connection.execute("SELECT pg_reload_conf()")

    alter("SET autovacuum = on")
    eventually(lambda: database.value("SELECT current_setting('autovacuum')") == "on")
    yield
    alter("RESET autovacuum")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_broken_is_found(bench: Bench, case: Case) -> None:
    told = found(case.break_it(bench), case.check)
    assert [finding for finding in told if finding.level == case.level and case.says in finding.detail], told
    assert not [finding for finding in told if "hunter2" in finding.detail]


def test_each_check_has_a_case_that_breaks_what_it_looks_at() -> None:
    assert {case.check for case in CASES} == {check.name for check in CHECKS}
    assert {module.__name__ for module in MODULES} == {case.break_it.__module__ for case in CASES}


@pytest.mark.usefixtures("vacuumed")
@pytest.mark.parametrize("role", ["owner", "operator", "relay", "worker", "scheduler"])
def test_where_nothing_is_wrong_nothing_is_found(bench: Bench, role: str) -> None:
    bench.live()
    bench.settings["broker"] = {"url": bench.redis_url}
    told = look(bench.sight(role=role), chosen(is_own=False, is_deep=False))
    unseen = UNSEEN.get(role, set())
    assert {finding.name for finding in told if finding.level != "ok"} == unseen, told
    if role == "owner":
        assert len(told) >= len(CHECKS) - 2, told  # no space is there, and models are not loaded


def test_a_host_s_own_health_is_quick_and_about_itself(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "host")
    bench.live()
    started = time.monotonic()
    told = look(bench.sight(role="worker", is_own=True), chosen(is_own=True, is_deep=False))
    assert time.monotonic() - started < 2
    assert [finding.name.split()[0] for finding in told] == ["database", "pgvector", "schema", "worker", "broker"]
    assert {finding.level for finding in told} == {"ok"}


def test_what_hangs_is_found_within_seconds_and_keeps_nobody_waiting(bench: Bench) -> None:
    port = breaking_places.silent_port(bench)
    bench.settings["database"] = {"url": f"postgresql://greenroom_worker@127.0.0.1:{port}/greenroom"}
    bench.settings["broker"] = {"url": f"redis://127.0.0.1:{port}/0"}
    started = time.monotonic()
    told = look(bench.sight(bounds=Bounds(answer=0.3, look=3.0)), chosen(is_own=False, is_deep=False))
    assert time.monotonic() - started < 4
    levels = {finding.name: finding.level for finding in told}
    assert levels["database"] == levels["broker"] == "wrong"
    assert levels["storage"] == levels["model all-MiniLM-L6-v2"] == "ok"
    assert "checks were not made: mend the database first" in told[-1].detail


def test_a_direct_address_that_leads_nowhere_keeps_no_other_check(bench: Bench) -> None:
    bench.live()
    bench.settings["database"] = {"direct_url": "postgresql://greenroom_owner@127.0.0.1:9/greenroom"}
    told = found(bench.sight(), "notify", "alerts")
    assert [(finding.name, finding.level) for finding in told] == [("notify", "wrong"), ("alerts", "ok")]


def test_a_server_that_ends_meanwhile_is_found(bench: Bench) -> None:
    def ends(sight: Sight) -> Iterable[Finding]:
        sight.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return []

    broken, alerts = look(bench.sight(), [Check(name="ends", finds="", look=ends), check_of("alerts")])
    assert (broken.level, broken.detail) == ("wrong", "the database does not answer: AdminShutdown")
    assert alerts.level == "ok", "it is back, over another connection"


def test_a_lock_on_a_table_keeps_only_those_who_read_it(bench: Bench) -> None:
    bench.live()
    told = found(breaking_work.the_live_tasks_are_locked(bench), "queues", "alerts", "processes")
    assert [finding.name for finding in told if finding.level == "wrong"] == ["queues"]
    assert len(told) == 4


def test_a_check_that_raises_is_a_finding(bench: Bench) -> None:
    def raises(sight: Sight) -> Iterable[Finding]:
        raise ZeroDivisionError(f"of {sight.place.url}")

    checks = [Check(name="broken", finds="", look=raises), *chosen(is_own=True, is_deep=False)]
    broken, database, *_ = look(bench.sight(), checks)
    assert broken.detail.startswith("it could not be looked at (ZeroDivisionError, test_doctor.py:")
    assert database.level == "ok"


def test_a_check_that_never_comes_back_is_left_behind(bench: Bench) -> None:
    def hangs(sight: Sight) -> Iterable[Finding]:
        sight.connection.execute("SELECT set_config('statement_timeout', '0', true)")
        sight.connection.execute("SELECT pg_sleep(5)")
        return []

    checks = [Check(name="stuck", finds="", look=hangs), *chosen(is_own=True, is_deep=False)]
    stuck, database, *_ = look(bench.sight(bounds=IMPATIENT), checks)
    assert (stuck.level, stuck.detail) == ("wrong", "it did not come back within 0.5 s: what it looks at hangs")
    assert database.level == "ok"


def test_a_check_changes_nothing(bench: Bench) -> None:
    def writes(sight: Sight) -> Iterable[Finding]:
        sight.connection.execute("DELETE FROM queue.processes")
        return []

    bench.live()
    [finding] = look(bench.sight(), [Check(name="writes", finds="", look=writes)])
    assert finding.level == "wrong"
    assert bench.database.value("SELECT count(*) FROM queue.processes") == 2


@pytest.mark.parametrize("revision", ["0000", "9999"])
def test_without_its_schema_what_needs_none_is_looked_at(bench: Bench, revision: str) -> None:
    bench.database.rows("UPDATE public.alembic_version SET version_num = %s", (revision,))
    told = look(bench.sight(), chosen(is_own=False, is_deep=False))
    assert {"clock", "transactions", "broker"} <= {finding.name for finding in told}
    assert not {"queues", "relay", "keys"} & {finding.name for finding in told}
    assert told[-1].name == "left out"


def test_a_pooler_in_transaction_mode_is_deaf(bench: Bench) -> None:
    with pgbouncer(require_pgbouncer(), bench.database.owner_url) as port:
        url = through(port, bench.database.owner_url)
        bench.settings["database"] = {"url": url}
        [deaf] = found(bench.sight(bounds=Bounds(answer=0.5)), "notify")
        assert deaf.level == "wrong"
        bench.settings["database"] = {"url": url, "is_pooled": True, "direct_url": bench.database.owner_url}
        [hears] = found(bench.sight(), "notify")
        assert hears.level == "ok", hears


def test_the_command_prints_for_people_and_for_programs(bench: Bench) -> None:
    greenroom = Inline(bench.folder / "home", {"GREENROOM_DATABASE_URL": bench.database.url("operator")})
    people, programs = greenroom.run("doctor"), greenroom.run("doctor", "--json")
    assert people.returncode == programs.returncode == 1
    assert people.stderr == "greenroom: relay: none lives: start `greenroom relay`, or `greenroom up`\n"
    answer = json.loads(programs.stdout)
    assert answer["is_well"] is False
    assert {"name": "schema", "level": "ok", "detail": WANTED_REVISION} in answer["checks"]


def test_deep_checks_are_made_when_asked_for() -> None:
    shallow, deep = (chosen(is_own=False, is_deep=is_deep) for is_deep in (False, True))
    assert {check.name for check in deep} - {check.name for check in shallow} == {"loading"}


def test_the_schemas_that_are_looked_at_are_ours(database: Database) -> None:
    with database.connect() as connection:
        assert [name for (name,) in QUERIES.run(connection, "schemas")] == list(SCHEMAS)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"relay": {"poll_seconds": 0.1}}, "polls less often"),
        ({"alerts": {"stalled_seconds": 30}}, "one claim given back is an alert"),
        ({"alerts": {"webhook_secret": "a secret of many characters"}}, "nobody is told of alerts"),
        ({"database": {"direct_url": "postgresql://owner@db/app"}}, "neither of them"),
        ({"storage": {"options": "{}"}}, "a folder takes no options"),
        ({"embedding": {"threads": 64}}, "wait for each other"),
        ({"endpoint": {"url": "https://api.example.org/v1", "model": "large"}}, "nobody asks it"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_are_named(given: dict[str, object], says: str) -> None:
    [sentence] = contradictions.contradictions(load_settings(_env_file=None, **given))
    assert says in sentence


def test_settings_as_they_come_contradict_nothing() -> None:
    assert contradictions.contradictions(load_settings(_env_file=None)) == []


def test_the_documentation_lists_every_check_and_what_it_finds() -> None:
    page = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = page.split("\n## Doctor\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    assert rows[2:] == [[f"`{check.name}`", check.finds, _where(check)] for check in CHECKS]


def _where(check: Check) -> str:
    return "`--own` too" if check.is_own else "`--deep`" if check.is_deep else ""
