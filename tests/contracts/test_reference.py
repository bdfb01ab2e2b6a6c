"""The reference pages hold what the code has: events, metrics and settings.

`python -m tests.contracts.test_reference` writes docs/settings.md anew.
"""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic_core import PydanticUndefined

from core import events
from core.groups import Group
from core.logs import level_of
from core.metrics import Metrics
from core.settings import PREFIX, Settings, known_variables

DOCS = Path(__file__).resolve().parents[2] / "docs"
OBSERVABILITY = DOCS / "observability.md"
SETTINGS = DOCS / "settings.md"
# Defaults that the machine decides.
COMPUTED = {"GREENROOM_HOME": "`/var/lib/greenroom` for root, else `~/.local/share/greenroom`"}
INTRODUCTION = """\
# Settings

Read once at the start from the environment and from `.env` in the working directory; the environment wins. Times are in
seconds, sizes in bytes, lists with commas. An unknown name that begins with `GREENROOM_` is refused. Secrets are masked
wherever settings print.
"""


# ---------------------------------------------------------------------------------------------------- observability


def table(heading: str) -> list[list[str]]:
    """Return the rows of the first table below a heading of docs/observability.md, without code marks."""
    section = OBSERVABILITY.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in row.strip("|").replace("`", "").split("|")] for row in rows]


def all_events() -> list[type[events.Event]]:
    return [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, events.Event)][1:]


def test_every_event_is_listed_with_its_fields() -> None:
    listed = {name: set(names.split(", ")) for name, _, names, _ in table("Events")}
    assert listed == {kind.name: {field.name for field in fields(kind)} for kind in all_events()}


def test_every_event_s_level_is_true() -> None:
    by_outcome = {"attempt.ended", "relay.listen_changed"}
    listed = {name: level for name, level, _, _ in table("Events") if name not in by_outcome}
    assert listed == {kind.name: kind.level for kind in all_events() if kind.name not in by_outcome}
    assert {kind.level for kind in all_events()} <= {"debug", "info", "warning", "error"}


def test_the_levels_of_attempts_are_true() -> None:
    [text] = [level for name, level, _, _ in table("Events") if name == "attempt.ended"]
    stated = {
        outcome: level for level, outcomes in re.findall(r"(\w+): ([\w ,]+)", text) for outcome in outcomes.split(", ")
    }
    found = {
        outcome: level_of(events.AttemptEnded("test.noop", UUID(int=1), outcome, 1, 0.0, 0.0))
        for outcome in ("done", "retry", "snooze", "fail", "cancel")
    }
    assert stated == found


def test_no_field_has_the_name_of_a_line_s_own_key() -> None:
    taken = {"event", "level", "timestamp", "service", "logger", "trace_id"}
    assert not [field for kind in all_events() for field in fields(kind) if field.name in taken]


def test_every_metric_is_listed_with_its_type_and_labels() -> None:
    listed = {(name, kind, labels) for name, kind, labels, _ in table("Metrics")}
    assert listed == set(_metrics())


def _metrics() -> list[tuple[str, str, str]]:
    # prometheus_client tells no labels of a metric without samples, so they are read where it keeps them.
    metrics = Metrics()
    found = []
    for collector in vars(metrics).values():
        for family in collector.describe() if hasattr(collector, "describe") else []:
            name = f"{family.name}_total" if family.type == "counter" else family.name
            found.append((name, family.type, ", ".join(collector._labelnames)))
    return [*found, ("greenroom_loop_late_seconds", "gauge", "loop")]


# ---------------------------------------------------------------------------------------------------- settings


def settings_page() -> str:
    """Return docs/settings.md as the code wants it."""
    known = known_variables()
    own = {name: info for name, info in Settings.model_fields.items() if not _group(info)}
    parts = [INTRODUCTION, _settings_table("", own, known)]
    for name, info in Settings.model_fields.items():
        if group := _group(info):
            parts.append(f"## {name.capitalize()}\n\n{(group.__doc__ or '').strip()}\n")
            parts.append(_settings_table(f"{name}_", group.model_fields, known))
    return "\n".join(parts)


def _settings_table(prefix: str, named: dict[str, Any], known: dict[str, str]) -> str:
    rows = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, info in named.items():
        variable = f"{PREFIX}{prefix}{name}".upper()
        rows.append(f"| `{variable}` | {COMPUTED.get(variable) or _default(info)} | {known[variable]} |")
    return "\n".join(rows) + "\n"


def _group(info: Any) -> type[Group] | None:
    kind = info.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Group) else None


def _default(info: Any) -> str:
    value = info.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None:
        return "unset"
    if value in ((), {}):
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def test_the_page_of_settings_is_the_code_s() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == settings_page(), "python -m tests.contracts.test_reference mends it"


def test_the_page_of_settings_names_every_variable_once() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", settings_page(), re.MULTILINE)
    assert sorted(listed) == sorted(known_variables())


if __name__ == "__main__":
    SETTINGS.write_text(settings_page(), encoding="utf-8")
