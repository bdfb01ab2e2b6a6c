"""How retention's policies and holds are told, to people and to programs."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from console import output
from db.retention import Dependent, Effect, Effective, Policy

_DEEDS = {
    "delete": "are deleted",
    "archive": "are archived by whole months, then deleted",
    "roll_up": "are rolled up by the hour, then deleted",
    "drop_partition": "go with their month, as a whole",
}
_EFFECTS: dict[Effect, str] = {"cascade": "go along", "set_null": "are changed", "refuse": "keep what they refer to"}


def facts(policy: Policy) -> dict[str, Any]:
    """Return a policy as JSON has it."""
    return asdict(policy)


def whose(policy: Policy) -> str:
    """Return whose rows a policy speaks of."""
    if policy.tenant_id is None:
        return "all"
    tenant = policy.tenant or str(policy.tenant_id)
    return f"{tenant}, persona {policy.persona_id}" if policy.persona_id else tenant


def which(policy: Policy) -> str:
    """Return which rows a policy's filter speaks of."""
    said = (f"{name} = {'none' if value is None else value}" for name, value in policy.filter.items())
    return " and ".join(said) or "all"


def show_list(policies: Iterable[Policy]) -> None:
    """Print policies and holds as a table."""
    columns = ("name", "table", "of", "rows", "older than", "by", "action", "cadence", "#share", "state")
    output.show_table(columns, [_cells(each) for each in policies], empty="no policies")


def show_policy(policy: Policy, found: Effective) -> None:
    """Print one policy or hold, and what it comes to."""
    if policy.is_held:
        output.show_line(f"hold {policy.name}: {_rows(policy)} stay: {policy.hold_reason}")
    else:
        output.show_line(_sentence(policy, found))
    output.show_fields([("source", policy.source), ("description", policy.description), ("id", policy.id)])
    if not policy.is_held:
        _show_ties(found)


def show_table(found: Effective) -> None:
    """Print what becomes of a table's rows: policies as they outrank each other, what stays, what goes along."""
    if not found.policies:
        output.show_line(f"{found.table}: no policy, rows stay")
    for policy in found.policies:
        output.show_line(_sentence(policy, found))
    _show_ties(found)


def effective_facts(found: Effective) -> dict[str, Any]:
    """Return what becomes of a table's rows as JSON has it."""
    return asdict(found) | {
        "policies": [facts(each) | {"yields_to": found.yields_to.get(each.name, [])} for each in found.policies]
    }


def _cells(policy: Policy) -> tuple[Any, ...]:
    if policy.is_held:
        kept = ("", "", "hold", "", "", f"held: {policy.hold_reason}")
        return (policy.name, policy.table, whose(policy), which(policy), *kept)
    return (
        policy.name, policy.table, whose(policy), which(policy), policy.age, policy.age_column, policy.action,
        policy.cadence, _share(policy), "on" if policy.is_enabled else "off",
    )  # fmt: skip


def _rows(policy: Policy) -> str:
    of_whom = f" of {whose(policy)}" if policy.tenant_id else ""
    with_what = f" with {which(policy)}" if policy.filter else ""
    return f"{'rows' if of_whom or with_what else 'all rows'} of {policy.table}{of_whom}{with_what}"


def _share(policy: Policy) -> str:
    return f"{policy.most_share * 100:g}%"


def _sentence(policy: Policy, found: Effective) -> str:
    state = "" if policy.is_enabled else " (off)"
    others = found.yields_to.get(policy.name, [])
    but = f", but for what {' and '.join(others)} speak{'s' if len(others) == 1 else ''} of," if others else ""
    asks = f"a run of more than {_share(policy)} of the table asks" if policy.most_share < 1 else "a run never asks"
    return (
        f"{policy.name}{state}: {_rows(policy)} older than {policy.age} by "
        f"{policy.age_column}{but} {_DEEDS[policy.action]}; {policy.cadence}; {asks}"
    )


def _show_ties(found: Effective) -> None:
    for hold in found.holds:
        output.show_line(f"held by {hold.name}: {_rows(hold)}, and what they need: {hold.hold_reason}")
    for effect, told in _EFFECTS.items():
        if named := list(dict.fromkeys(_tie(each) for each in found.dependents if each.effect == effect)):
            output.show_line(f"{told}: {', '.join(named)}")


def _tie(dependent: Dependent) -> str:
    return f"{dependent.child} ({', '.join(dependent.cleared)})" if dependent.cleared else dependent.child
