"""`greenroom retention`: what operators write and are shown of policies and holds."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.command import Inline
from tests.support.database import Database
from tests.support.factory import Factory

DOCUMENTS = ("--table", "knowledge.documents")
EVENTS = "SELECT event_type FROM audit.audit_events WHERE resource_id = %s ORDER BY created_at"


@pytest.fixture(scope="module")
def cli(shared: Database, tmp_path_factory: pytest.TempPathFactory) -> Inline:
    """The command as an operator."""
    return Inline(tmp_path_factory.mktemp("home"), {"GREENROOM_DATABASE_URL": shared.url("operator")})


@pytest.fixture
def slug(shared: Database, ours: Factory) -> str:
    return str(shared.value("SELECT slug FROM identity.tenants WHERE id = %s", (ours.tenant_id,)))


@pytest.fixture
def name() -> str:
    return f"p-{uuid4()}"


@pytest.fixture
def added(cli: Inline, slug: str, name: str) -> Any:
    """A policy of our tenant's on documents of one title."""
    where = ("--tenant", slug, "--where", "title=x", "--description", "Old ones")
    return cli.json("retention", "add", name, *DOCUMENTS, "--age", "30 days", *where)


# ------------------------------------------------------------------------------------------------ policies


def test_a_policy_is_added_with_what_is_usual(added: dict[str, Any], ours: Factory, name: str) -> None:
    usual = {"age_column": "created_at", "action": "delete", "cadence": "daily", "most_share": 0.5, "is_enabled": True}
    told = {
        "table": "knowledge.documents",
        "age": "30 days",
        "filter": {"title": "x"},
        "name": name,
        "persona_id": None,
    }
    assert {key: added[key] for key in usual | told} == usual | told
    assert (added["tenant_id"], added["source"], added["is_held"]) == (str(ours.tenant_id), "operator", False)


def test_a_policy_says_all_that_it_is_told(cli: Inline, ours: Factory, slug: str, name: str) -> None:
    persona = str(ours.row("assistants.personas")["id"])
    rest = ("--column", "updated_at", "--persona", persona, "--cadence", "hourly", "--share", "0.25")
    where = ("--where", "page_count=4", "--where", "title=")
    age = ("--age", "1 year 6 months")
    made = cli.json("retention", "add", name, *DOCUMENTS, *age, "--tenant", slug, "--action", "archive", *rest, *where)
    assert made["filter"] == {"page_count": 4, "title": None}
    assert (made["age"], made["age_column"], made["action"]) == ("1 year 6 mons", "updated_at", "archive")
    assert (made["persona_id"], made["cadence"], made["most_share"]) == (persona, "hourly", 0.25)
    assert cli.ok("retention", "show", name).splitlines()[0] == (
        f"{name}: rows of knowledge.documents of {slug}, persona {persona} with title = none and page_count = 4 "
        "older than 1 year 6 mons by updated_at are archived by whole months, then deleted; hourly; "
        "a run of more than 25% of the table asks"
    )


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("assistants.messages", "created_at"),
        ("ops.persona_health_hourly", "created_at"),
        ("queue.tasks_history", "completed_at"),
        ("ops.persona_health_metrics", "measured_at"),
    ],
)
def test_the_time_is_what_a_table_is_parted_by_or_its_rows_making(
    cli: Inline, slug: str, name: str, table: str, column: str
) -> None:
    made = cli.json("retention", "add", name, "--table", table, "--age", "1 day", "--tenant", slug)
    assert made["age_column"] == column


def test_a_policy_is_edited_switched_and_removed(
    cli: Inline, shared: Database, added: dict[str, Any], name: str
) -> None:
    edited = cli.json("retention", "edit", name, "--age", "2 weeks", "--share", "1", "--where", "page_count=1")
    assert (edited["age"], edited["most_share"], edited["filter"]) == ("14 days", 1.0, {"page_count": 1})
    assert edited["description"] == "Old ones"
    assert cli.json("retention", "edit", name, "--all-rows")["filter"] == {}
    for done in ("disabled", "already disabled"):
        assert cli.ok("retention", "disable", name).startswith(f"{done}:\n{name} (off): ")
    assert cli.json("retention", "enable", name)["is_enabled"] is True
    assert cli.ok("retention", "remove", name) == f"{name} is removed\n"
    assert cli.run("retention", "show", name).returncode == 1
    told = [event for (event,) in shared.rows(EVENTS, (added["id"],))]
    assert told == [f"retention.{done}" for done in ("added", "edited", "edited", "disabled", "enabled", "removed")]


def test_tables_are_explained(cli: Inline, added: dict[str, Any], slug: str, name: str) -> None:
    cli.ok("retention", "add", f"{name} b", *DOCUMENTS, "--age", "9 days", "--tenant", slug)
    cli.ok("retention", "hold", f"{name} h", "--table", "knowledge.chunks", "--tenant", slug, "--reason", "an audit")
    lines = cli.ok("retention", "show", "knowledge.documents", "--tenant", slug).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        name, f"{name} b", "deleted-documents", f"held by {name} h", "go along", "are changed",
    ]  # fmt: skip
    assert f"but for what {name} speaks of" in lines[1]
    assert "knowledge.chunks" in lines[4]
    assert lines[5] == "are changed: knowledge.memories (superseded_by)"
    found = cli.json("retention", "show", "knowledge.documents", "--tenant", slug)
    assert [(each["name"], each["yields_to"]) for each in found["policies"]] == [
        (name, []), (f"{name} b", [name]), ("deleted-documents", [name, f"{name} b"]),
    ]  # fmt: skip
    assert [each["hold_reason"] for each in found["holds"]] == ["an audit"]
    assert {each["effect"] for each in found["dependents"]} == {"cascade", "set_null"}
    tools = cli.ok("retention", "show", "tools.tools")
    assert "keep what they refer to: tools.tool_executions" in tools
    assert "are changed: assistants.run_steps (tool_id)" in tools
    assert cli.ok("retention", "show", "mail.mailboxes").startswith("mail.mailboxes: no policy, rows stay\n")


def test_all_are_listed_and_those_of_a_tenant(cli: Inline, added: dict[str, Any], slug: str, name: str) -> None:
    listed = {each["name"] for each in cli.json("retention", "show")["policies"]}
    assert listed > {name, "tasks", "sessions"}
    assert cli.ok("retention", "show").count(name) == 1
    default = {each["name"] for each in cli.json("retention", "show", "--tenant", "default")["policies"]}
    assert name not in default
    assert "tasks" in default
    assert "sessions: all rows of identity.sessions older than 1 day" in cli.ok("retention", "show", "sessions")
    assert name in {each["name"] for each in cli.json("retention", "show", "--tenant", slug)["policies"]}


# ------------------------------------------------------------------------------------------------ holds


def test_a_hold_is_set_told_and_released_for_good(cli: Inline, shared: Database, slug: str, name: str) -> None:
    made = cli.json("retention", "hold", name, "--table", "identity.tenants", "--tenant", slug, "--reason", "an order")
    assert (made["is_held"], made["hold_reason"], made["filter"]) == (True, "an order", {})
    assert f"hold {name}: rows of identity.tenants of {slug} stay: an order" in cli.ok("retention", "show", name)
    assert f"{name} (an order)" in cli.ok("tenants", "show", slug)
    assert "held: an order" in cli.ok("retention", "show")
    for refused in ("remove", "disable", "enable"):
        done = cli.run("retention", refused, name)
        assert (done.returncode, "`greenroom retention release` lifts it" in done.stderr) == (2, True)
    assert cli.ok("retention", "release", name) == f"{name} is released\n"
    assert shared.rows("SELECT 1 FROM ops.retention_policies WHERE name = %s", (name,)) == []
    assert shared.rows(EVENTS, (made["id"],)) == [("retention.held",), ("retention.released",)]


def test_a_policy_is_not_released(cli: Inline, added: dict[str, Any], name: str) -> None:
    done = cli.run("retention", "release", name)
    assert (done.returncode, "is a policy and no hold" in done.stderr) == (2, True)


# ------------------------------------------------------------------------------------------------ bad input

AGE = ("--age", "30 days")
ADD: dict[str, tuple[tuple[str, ...], str]] = {
    "no such table": (("--table", "knowledge.document", *AGE), "there is no table 'knowledge.document'"),
    "a table without its schema": (("--table", "documents", *AGE), "with its schema"),
    "a table of the server": (("--table", "pg_catalog.pg_class", *AGE), "there is no table"),
    "a table of several times": (("--table", "queue.alerts", *AGE), "say by which time rows of queue.alerts age: "),
    "tasks that wait": (("--table", "queue.tasks_live", *AGE), "none that steers the installation"),
    "an age of zero": ((*DOCUMENTS, "--age", "0 days"), "'0 days' is no age"),
    "an age below zero": ((*DOCUMENTS, "--age", "-3 days"), "is no age: write '12 hours'"),
    "an age without a unit": ((*DOCUMENTS, "--age", "30"), "is no age"),
    "no age at all": ((*DOCUMENTS, "--age", "soon"), "is no age"),
    "an age of many years": ((*DOCUMENTS, "--where", "title=z", "--age", "5000 years"), "from 1 hour to 1000 years"),
    "a column that there is not": ((*DOCUMENTS, *AGE, "--column", "made"), "has no time 'made' to go by: it has"),
    "a column that is no time": ((*DOCUMENTS, *AGE, "--column", "title"), "has no time 'title'"),
    "a filter by nothing": ((*DOCUMENTS, *AGE, "--where", "title"), "'title' is no COLUMN=VALUE"),
    "a filter by no column": ((*DOCUMENTS, *AGE, "--where", "tilte=x"), "has no column 'tilte': it has id"),
    "a filter of another type": (
        (*DOCUMENTS, *AGE, "--where", "page_count=many"),
        "'many' is no value of knowledge.documents's page_count, which is integer",
    ),
    "a filter of two values": ((*DOCUMENTS, *AGE, "--where", "title=a", "--where", "title=b"), "title is given twice"),
    "no such action": ((*DOCUMENTS, *AGE, "--action", "forget"), "it is one of delete, archive"),
    "months of what has none": (
        ("--table", "mail.attachments", *AGE, "--action", "drop-partition"),
        "goes by the column",
    ),
    "an archive of secrets": (("--table", "vault.secrets", *AGE, "--action", "archive"), "archives hold no secrets"),
    "months of a tenant": (
        ("--table", "assistants.messages", *AGE, "--action", "drop-partition", "--tenant", "default"),
        "whole months of all tenants",
    ),
    "no such tenant": ((*DOCUMENTS, *AGE, "--tenant", "nobody"), "no tenant has the slug or the id"),
    "a persona of no tenant": ((*DOCUMENTS, *AGE, "--persona", str(uuid4())), "give --tenant, too"),
    "a persona that is no id": ((*DOCUMENTS, *AGE, "--tenant", "default", "--persona", "Ada"), "is no id of a persona"),
    "no such persona": ((*DOCUMENTS, *AGE, "--tenant", "default", "--persona", str(uuid4())), "has no persona"),
    "a table without personas": (
        ("--table", "identity.users", *AGE, "--tenant", "default", "--persona", "{persona}"),
        "this persona_id of identity.users. Its rows are nobody's: leave it out.",
    ),
    "a name that is taken": (("--table", "assistants.agents", *AGE, "--name", "tasks"), "there is a policy 'tasks'"),
    "what another says": (("--table", "queue.attempts", *AGE), "a policy of queue.attempts with this filter"),
    "what contradicts another": (
        ("--table", "governance.agent_sessions", *AGE, "--where", "agent_type=x"),
        "contradicts the policy agent-sessions",
    ),
    "a number that JSON has not": ((*DOCUMENTS, *AGE, "--where", "page_count=nan"), "'nan' is no value of"),
    "a number without end": ((*DOCUMENTS, *AGE, "--where", "page_count=1e400"), "'1e400' is no value of"),
    "a number of many digits": ((*DOCUMENTS, *AGE, "--where", f"page_count={9:0<400}"), "is no value of"),
    "a table of three parts": (("--table", "a.b.c", *AGE), "there is no table 'a.b.c'"),
    "a name that rings": ((*DOCUMENTS, *AGE, "--name", "a\x07"), "holds control characters"),
    "a name that is no Unicode": ((*DOCUMENTS, *AGE, "--name", "\udcff"), "holds control characters"),
    "a value that is no Unicode": ((*DOCUMENTS, *AGE, "--where", "title=\udcff"), "holds bytes that are no UTF-8"),
    "an empty name": ((*DOCUMENTS, *AGE, "--name", ""), "1 to 100 characters"),
    "a share of nothing": ((*DOCUMENTS, *AGE, "--share", "0"), "0.001"),
}  # fmt: skip


@pytest.mark.parametrize("case", ADD)
def test_what_cannot_be_is_one_sentence(cli: Inline, shared: Database, ours: Factory, name: str, case: str) -> None:
    given, says = ADD[case]
    arguments = list(given)
    if "--name" in arguments:
        at = arguments.index("--name")
        _, name = arguments[at], arguments[at + 1]
        del arguments[at : at + 2]
    if "{persona}" in arguments:
        default = Factory(ours.owner, shared.value("SELECT identity.default_tenant_id()"))
        arguments[-1] = str(default.row("assistants.personas")["id"])
    done = cli.run("retention", "add", name, *arguments)
    assert done.returncode != 0
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1 or "Usage" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "say what to change"),
        (("--age", "0 hours"), "is no age"),
        (("--where", "title=y", "--all-rows"), "contradict each other"),
        (("--action", "drop"), "there is no action 'drop'"),
        (("--where", "nothing=y"), "has no column 'nothing'"),
    ],
)
def test_an_edit_that_cannot_be_changes_nothing(
    cli: Inline, added: dict[str, Any], name: str, arguments: tuple[str, ...], says: str
) -> None:
    done = cli.run("retention", "edit", name, *arguments)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert cli.json("retention", "show", name)["updated_at"] == added["updated_at"]


@pytest.mark.parametrize("command", ["edit", "enable", "disable", "remove", "release", "show"])
def test_a_policy_that_there_is_not_is_said(cli: Inline, command: str) -> None:
    done = cli.run("retention", command, "nothing", *(("--age", "1 day") if command == "edit" else ()))
    assert (done.returncode, "there is no retention policy 'nothing'" in done.stderr) == (1, True)


def test_a_hold_of_what_has_no_time_or_reason_is_refused(cli: Inline, name: str) -> None:
    done = cli.run("retention", "hold", name, "--table", "knowledge.chunk_terms", "--reason", "why")
    assert (done.returncode, "has no time" in done.stderr) == (2, True)
    for reason in ("", "  "):
        done = cli.run("retention", "hold", name, *DOCUMENTS, "--reason", reason)
        assert (done.returncode, "1 to 2000 characters" in done.stderr) == (2, True)


def test_a_plan_has_as_much_time_as_postgres_can_count(cli: Inline) -> None:
    assert cli.json("retention", "plan", "--timeout", "1e300")["plans"]


def test_a_restore_that_lets_be_for_ever_is_refused(cli: Inline) -> None:
    done = cli.run("retention", "restore", "assistants.messages", "--all", "--keep", "999999999999 days")
    assert (done.returncode, "too long" in done.stderr) == (2, True)
