"""Encrypted values and the keys that they are under, never clear. Typed calls over `sql/vault.sql`."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from db.connection import Connection
from db.queries import Queries

QUERIES = Queries("vault")
_FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class SecretName:
    """What a secret is found by: its persona (None: the whole tenant's), its type and what it is called."""

    tenant_id: UUID
    secret_type: str
    key_name: str
    persona_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """An encrypted value where it stands: `table` is schema and name."""

    table: str
    id: UUID
    tenant_id: UUID
    text: str
    key_id: str


def secret_id(connection: Connection, name: SecretName) -> UUID:
    """Return the id of the row that holds a secret, or a new one for it. Needs a transaction bound to the tenant."""
    [[found]] = QUERIES.run(connection, "secret_id", _values(name))
    return UUID(str(found))


def put_secret(connection: Connection, name: SecretName, row_id: UUID, text: str, key_id: str) -> bool:
    """Write a secret's value, the row's id being known; False where another row took its name meanwhile."""
    values = _values(name) | {"id": row_id, "text": text, "key_id": key_id}
    return QUERIES.count(connection, "put_secret", values) == 1


def secret(connection: Connection, name: SecretName) -> Stored | None:
    """Return a secret as it stands."""
    rows = QUERIES.run(connection, "secret", _values(name))
    return Stored("vault.secrets", rows[0][0], name.tenant_id, rows[0][1], rows[0][2]) if rows else None


def secret_of_id(connection: Connection, tenant_id: UUID, row_id: UUID) -> Stored | None:
    """Return a secret by its row, as it stands. Needs a transaction bound to the tenant."""
    rows = QUERIES.run(connection, "secret_of_id", {"id": row_id})
    return Stored("vault.secrets", row_id, tenant_id, rows[0][0], rows[0][1]) if rows else None


def change_secret(connection: Connection, before: Stored, text: str, key_id: str) -> bool:
    """Write a value in the place of another; False where somebody changed it meanwhile."""
    values = {"id": before.id, "before": before.text, "text": text, "key_id": key_id}
    return QUERIES.count(connection, "change_secret", values) == 1


def under(connection: Connection, key_ids: Sequence[str], most: int, after: Stored | None = None) -> list[Stored]:
    """Return values that stand under any of some keys by their ids, at most so many, from behind one of them on."""
    place, row_id = (after.table, after.id) if after else ("", _FIRST)
    values = {"key_ids": list(key_ids), "most": most, "after": row_id, "place": place}
    return [Stored(*row) for row in QUERIES.run(connection, "under", values)]


def count_by_key(connection: Connection) -> dict[str, int]:
    """Return how many values stand under each key, by its id."""
    return dict(QUERIES.run(connection, "count_by_key"))


def sealed_types(connection: Connection) -> list[str]:
    """Return the task types whose payloads have fields that stand encrypted."""
    return [name for (name,) in QUERIES.run(connection, "sealed_types")]


def has_hashes(connection: Connection) -> bool:
    """Return whether there are API keys; as the system role, of any tenant."""
    return QUERIES.run(connection, "has_hashes") == [(True,)]


def reseal(connection: Connection, before: Sequence[Stored], texts: Sequence[str], key_id: str) -> int:
    """Put values under a key, those that nobody changed meanwhile; return how many."""
    changed = 0
    for table, query in (("vault.secrets", "reseal_secrets"), ("vault.provider_keys", "reseal_provider_keys")):
        pairs = [(stored, text) for stored, text in zip(before, texts, strict=True) if stored.table == table]
        values = {
            "ids": [stored.id for stored, _ in pairs],
            "befores": [stored.text for stored, _ in pairs],
            "texts": [text for _, text in pairs],
            "key_id": key_id,
        }
        changed += QUERIES.count(connection, query, values) if pairs else 0
    return changed


def _values(name: SecretName) -> dict[str, object]:
    return {
        "tenant_id": name.tenant_id,
        "persona_id": name.persona_id,
        "secret_type": name.secret_type,
        "key_name": name.key_name,
    }
