"""Random policies and rows: the condition takes what a plain model of the rules takes, row by row."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.database import Database
from tests.support.retention import DOCUMENTS, Trial, trial

_TITLES, _PAGES = ("x", "y", None), (1, None)
_MOMENTS = ("2020-01-31 23:59:59+00", "2020-02-29 23:00:00+00", "2020-03-01 00:00:00+00", "2020-03-20 00:00:00+00")
_CUTOFF = "2020-03-15 12:00:00+00"
_MONTH = "2020-03-01 00:00:00+00"


@dataclass(frozen=True)
class Written:
    """A policy as the model knows it."""

    tenant: UUID | None
    persona: UUID | None
    filter: dict[str, Any]
    is_enabled: bool
    is_held: bool
    action: str

    @property
    def scope(self) -> tuple[UUID | None, UUID | None]:
        return self.tenant, self.persona

    @property
    def counts(self) -> bool:
        return self.is_enabled and not self.is_held

    def speaks_of(self, row: dict[str, Any]) -> bool:
        whose = self.tenant in (None, row["tenant_id"]) and self.persona in (None, row["persona_id"])
        return whose and all(row[name] == wanted for name, wanted in self.filter.items())

    def says_all_of(self, other: "Written") -> bool:
        return other.filter.items() <= self.filter.items()

    def outranks(self, other: "Written") -> bool:
        if self.scope == other.scope:
            return self.says_all_of(other) and self.filter != other.filter
        narrower = self.tenant is not None and other.tenant is None
        return narrower or (self.tenant == other.tenant and self.persona is not None and other.persona is None)

    def contradicts(self, other: "Written") -> bool:
        both = self.filter.keys() & other.filter.keys()
        meet = all(self.filter[name] == other.filter[name] for name in both)
        nested = self.says_all_of(other) or other.says_all_of(self)
        return self.counts and other.counts and self.scope == other.scope and meet and not nested

    def is_taken(self, other: "Written") -> bool:
        """Whether the key is taken that policies have."""
        return not (self.is_held or other.is_held) and (self.scope, self.filter) == (other.scope, other.filter)

    def takes(self, row: dict[str, Any], others: list["Written"], *, holds: bool) -> bool:
        bound = _MONTH if self.action == "archive" else _CUTOFF
        is_old = self.speaks_of(row) and row["at"] < bound
        is_anothers = any(each.counts and each.outranks(self) and each.speaks_of(row) for each in others)
        is_held = holds and any(each.is_held and each.speaks_of(row) for each in others)
        return is_old and not is_anothers and not is_held


@pytest.fixture
def made(shared: Database) -> Iterator[Trial]:
    with trial(shared) as made:
        yield made


def rows_of(made: Trial, chance: random.Random) -> dict[UUID, dict[str, Any]]:
    """Write documents of two tenants and their personas; return them by id."""
    found = {}
    for tenant in (made.ours, made.theirs):
        personas = [tenant.row("assistants.personas")["id"] for _ in "ab"]
        for number in range(18):
            given = {"title": chance.choice(_TITLES), "page_count": chance.choice(_PAGES)}
            whose = {"persona_id": [*personas, None][number % 3]}
            at = chance.choice(_MOMENTS)
            row = tenant.row(DOCUMENTS, **given, **whose, created_at=at)
            found[row["id"]] = given | whose | {"tenant_id": tenant.tenant_id, "at": at}
    return found


def drawn(chance: random.Random, rows: dict[UUID, dict[str, Any]]) -> Written:
    """Draw a policy of the rows' tenants and personas."""
    row = chance.choice(list(rows.values()))
    tenant = row["tenant_id"] if chance.random() < 0.6 else None
    persona = row["persona_id"] if tenant and chance.random() < 0.5 else None
    filter: dict[str, Any] = {}
    if chance.random() < 0.6:
        filter["title"] = chance.choice(_TITLES)
    if chance.random() < 0.4:
        filter["page_count"] = chance.choice(_PAGES)
    is_held = chance.random() < 0.15
    if is_held:
        tenant, filter = row["tenant_id"], {"title": row["title"], "page_count": row["page_count"]}
    return Written(tenant, persona, filter, chance.random() < 0.85, is_held, chance.choice(("delete", "archive")))


@pytest.mark.parametrize("seed", range(4))
def test_each_policy_takes_what_the_model_says(made: Trial, seed: int) -> None:
    chance = random.Random(seed)
    rows = rows_of(made, chance)
    known: dict[UUID, Written] = {}
    outcomes = set()
    for _ in range(40):
        new = drawn(chance, rows)
        expected = outcome_of(new, list(known.values()))
        assert written(made, new, known) == expected, new
        outcomes.add(expected)
    assert outcomes == {"written", "taken", "contradiction"}
    taken: list[UUID] = []
    for policy_id, policy in known.items():
        for holds in (True, False):
            if not policy.counts:
                assert made.condition(policy_id, _CUTOFF, holds=holds) is None
                continue
            wanted = {key for key, row in rows.items() if policy.takes(row, list(known.values()), holds=holds)}
            assert made.taken(policy_id, _CUTOFF, holds=holds) == wanted, policy
            taken += wanted if holds else ()
    assert len(taken) == len(set(taken)) > 0


def outcome_of(new: Written, known: list[Written]) -> str:
    """Return what the model says of a policy that is to be written."""
    if any(new.is_taken(each) for each in known):
        return "taken"
    return "contradiction" if any(new.contradicts(each) for each in known) else "written"


def written(made: Trial, new: Written, known: dict[UUID, Written]) -> str:
    """Write a policy beside the known ones; return what came of it."""
    given: dict[str, Any] = {"tenant_id": new.tenant, "persona_id": new.persona, "filter": new.filter}
    given |= {"is_enabled": new.is_enabled, "action": new.action}
    try:
        with made.connection.transaction():
            policy_id = made.hold(**given) if new.is_held else made.policy(**given)
    except psycopg.errors.UniqueViolation:
        return "taken"
    except psycopg.errors.CheckViolation as error:
        return str(error.diag.constraint_name).removeprefix("retention_policies_").removesuffix("_check")
    known[policy_id] = new
    return "written"
