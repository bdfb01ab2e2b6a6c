"""Secrets stay under their labels, and configurations refer to the vault: no key stands there in clear."""

from typing import Any
from uuid import uuid4

import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from core.errors import ConstraintError
from db.constraints import rules
from tests.support.database import Database
from tests.support.factory import Factory
from tests.support.statements import changed, value
from tests.support.tenants import acting, named

CONFIGURED = {
    "tools.mcp_server_configs": ("config", "environment"),
    "tools.persona_tools": ("config",),
    "governance.agent_sessions": ("agent_config",),
}
COLUMNS = [(table, each) for table, columns in CONFIGURED.items() for each in columns]
LABELS = {
    "vault.secrets": {"id": uuid4(), "secret_type": "email_imap", "key_name": "other", "persona_id": None},
    "vault.provider_keys": {"id": uuid4(), "service": "telegram", "user_id": None},
}
CLEAR: list[Any] = [
    {"OPENAI_API_KEY": "sk-1"},
    {"api_key": "sk-1"},
    {"apiKey": "sk-1"},
    {"accessToken": "x"},
    {"apikey": "sk-1"},
    {"key": "sk-1"},
    {"GITHUB_TOKEN": "ghp"},
    {"GITHUB_TOKEN_2": "ghp"},
    {"db-password": "x"},
    {"client_secret": "x"},
    {"deep": [{"er": {"secret": "x"}}]},
    {"tokens": ["a"]},
    {"api_key": {"value": "sk-1"}},
    {"api_key": {"secret": "sk-1"}},
    {"api_key": {"secret": "00000000-0000-7000-8000-000000000001", "note": "x"}},
]
OPEN: list[Any] = [
    {},
    {"max_tokens": 800, "api_key": None, "password": "", "has_key": True},
    {"eos_token": "</s>", "primary_key": "id", "keyboard": "qwerty", "monkey": "x", "tokenizer": "cl100k"},
    {"credentials": {"user": "ada"}},
    {"tools": ["key", "token"]},
]


# ------------------------------------------------------------------------------------------------ references


@pytest.mark.parametrize(("table", "where"), COLUMNS)
def test_a_key_in_clear_is_refused(shared: Database, ours: Factory, table: str, where: str) -> None:
    values = ours.values(table)
    with acting(shared, "worker", ours.tenant_id) as worker:
        for clear in CLEAR:
            with pytest.raises(ConstraintError) as caught, rules(), worker.transaction():
                Factory(worker, ours.tenant_id).insert(table, values | {where: clear})
            assert caught.value.constraint == f"{table.partition('.')[2]}_{where}_reference_check"
            assert "sk-1" not in str(caught.value.__cause__)


@pytest.mark.parametrize(("table", "where"), COLUMNS)
def test_what_is_no_key_may_stand_anywhere(shared: Database, ours: Factory, table: str, where: str) -> None:
    values = ours.values(table)
    with acting(shared, "worker", ours.tenant_id) as worker:
        row_id = Factory(worker, ours.tenant_id).insert(table, values)["id"]
        update = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(named(table), sql.Identifier(where))
        assert [changed(worker, update, Jsonb(each), row_id) for each in OPEN] == [1] * len(OPEN)


@pytest.mark.parametrize(("kind", "table"), [("secret", "vault.secrets"), ("provider_key", "vault.provider_keys")])
def test_a_reference_is_to_the_tenants_own_vault(
    shared: Database, ours: Factory, theirs: Factory, kind: str, table: str
) -> None:
    mine, others, user_id = ours.row(table)["id"], theirs.row(table)["id"], ours.row("identity.users")["id"]
    both = {"secret": str(ours.row("vault.secrets")["id"]), "provider_key": str(ours.row("vault.provider_keys")["id"])}
    row_id = ours.row("tools.mcp_server_configs")["id"]
    update = "UPDATE tools.mcp_server_configs SET environment = %s WHERE id = %s"
    with acting(shared, "worker", ours.tenant_id, user_id) as worker:  # who may not see the key itself may name it
        for wrong in (others, uuid4()):
            with pytest.raises(ConstraintError, match="reference_check"), rules(), worker.transaction():
                changed(worker, update, Jsonb({"OPENAI_API_KEY": {kind: str(wrong)}}), row_id)
        with pytest.raises(ConstraintError, match="reference_check"), rules(), worker.transaction():
            changed(worker, update, Jsonb({"where": both}), row_id)
        assert changed(worker, update, Jsonb({"OPENAI_API_KEY": {kind: str(mine)}}), row_id) == 1


def test_a_key_that_stood_there_before_hinders_no_other_change(shared: Database, ours: Factory) -> None:
    session = ours.row("governance.agent_sessions")["id"]
    clear = Jsonb({"api_key": "sk-1"})
    with acting(shared, "owner") as owner:
        owner.execute("ALTER TABLE governance.agent_sessions DISABLE TRIGGER check_references")
        changed(owner, "UPDATE governance.agent_sessions SET agent_config = %s WHERE id = %s", clear, session)
        owner.execute("ALTER TABLE governance.agent_sessions ENABLE TRIGGER check_references")
        update = "UPDATE governance.agent_sessions SET agent_config = %s, token_cost = 1 WHERE id = %s"
        assert changed(owner, update, clear, session) == 1
        with pytest.raises(ConstraintError, match="reference_check"), rules():
            changed(owner, update, Jsonb({"api_key": "sk-2"}), session)


# ------------------------------------------------------------------------------------------------ labels


@pytest.mark.parametrize("role", ["worker", "operator", "system"])
@pytest.mark.parametrize(("table", "label"), [(table, each) for table, labels in LABELS.items() for each in labels])
def test_a_secret_stays_under_its_label(
    shared: Database, ours: Factory, theirs: Factory, role: str, table: str, label: str
) -> None:
    given = {"persona_id": ours.row("assistants.personas")["id"]} if table == "vault.secrets" else {}
    row_id = ours.row(table, **given)["id"]
    wanted = ours.row("identity.users")["id"] if label == "user_id" else LABELS[table][label]
    update = sql.SQL("UPDATE {} SET {} = %s WHERE id = %s").format(named(table), sql.Identifier(label))
    with acting(shared, role, ours.tenant_id) as connection, pytest.raises(ConstraintError) as caught, rules():
        changed(connection, update, wanted, row_id)
    assert caught.value.constraint == f"{table.partition('.')[2]}_label_stays_check"


@pytest.mark.parametrize("table", LABELS)
def test_the_system_gives_no_secret_to_another_tenant(
    shared: Database, ours: Factory, theirs: Factory, table: str
) -> None:
    given = {"user_id": theirs.row("identity.users")["id"]} if table == "vault.provider_keys" else {}
    sets = sql.SQL(", ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in ("tenant_id", *given))
    update = sql.SQL("UPDATE {} SET {} WHERE id = %s").format(named(table), sets)
    row_id = ours.row(table)["id"]
    with acting(shared, "system") as system, pytest.raises(ConstraintError, match="label_stays"), rules():
        changed(system, update, theirs.tenant_id, *given.values(), row_id)


@pytest.mark.parametrize(
    ("table", "text"), [("vault.secrets", "encrypted_value"), ("vault.provider_keys", "encrypted_key")]
)
def test_a_secret_is_written_anew_under_its_label(shared: Database, ours: Factory, table: str, text: str) -> None:
    row_id = ours.row(table)["id"]
    update = sql.SQL("UPDATE {} SET {} = repeat('x', 40), key_id = 'k2' WHERE id = %s").format(
        named(table), sql.Identifier(text)
    )
    with acting(shared, "worker", ours.tenant_id) as worker:
        assert changed(worker, update, row_id) == 1


def test_a_tenants_end_finds_its_servers_by_an_index(shared: Database) -> None:
    query = "SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%ON tools.mcp_servers USING btree (tenant_id)'"
    assert value(shared.connect(), query) == 1
