"""The alert rules for Prometheus: what they ask for exists, and what they must watch is watched."""

import importlib
import re
from pathlib import Path
from typing import Any

from tests.contracts.test_reference import _metrics

# It comes with other packages and brings no types.
yaml: Any = importlib.import_module("yaml")
RULES = Path(__file__).resolve().parents[2] / "docs" / "prometheus-alerts.yaml"
_NAME = re.compile(r"\bgreenroom_\w+")
_LABELS = re.compile(r"(greenroom_\w+)\{([^}]*)\}")


def rules() -> list[dict[str, Any]]:
    """Return the rules of the file."""
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_every_metric_that_a_rule_names_exists() -> None:
    known = {name for name, _, _ in _metrics()}
    known |= {f"{name}_{part}" for name, kind, _ in _metrics() if kind == "histogram" for part in ("sum", "count")}
    named = {name for rule in rules() for name in _NAME.findall(rule["expr"])}
    assert len(named) > 8
    assert named - known == set()


def test_every_label_that_a_rule_picks_by_is_the_metric_s() -> None:
    labels = {name: set(text.split(", ")) for name, _, text in _metrics()}
    for rule in rules():
        for name, picked in _LABELS.findall(rule["expr"]):
            assert {part.split("=")[0].strip() for part in picked.split(",")} <= labels[name], rule["alert"]


def test_what_must_be_watched_is() -> None:
    asked = " ".join(rule["expr"] for rule in rules())
    for needed in (
        'greenroom_attempts_total{outcome="fail"}',
        "greenroom_queue_oldest_seconds",
        "greenroom_loop_late_seconds",
        "silent_process",
        "greenroom_listen_heard",
        "greenroom_publish_failures_total",
        'greenroom_fires_total{outcome="refused"}',
        "greenroom_fire_late_seconds",
    ):
        assert needed in asked


def test_each_rule_has_a_name_of_its_own_and_says_what_to_do() -> None:
    names = [rule["alert"] for rule in rules()]
    assert len(names) == len(set(names))
    for rule in rules():
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
