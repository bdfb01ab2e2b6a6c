"""What a summary names that its sources do not: the cases by hand, and the promises of the page about memory."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipelines.memory.summarising.facts import Facts
from pipelines.memory.summarising.sentences import sentences_of

CASES: dict[str, list[dict[str, Any]]] = tomllib.loads(Path(__file__).with_name("facts.toml").read_text("utf-8"))
PAGE = Path(__file__).resolve().parents[3] / "docs" / "memory.md"


def figures(part: str) -> tuple[int, int, int, int]:
    """Return how many were rejected rightly and wrongly, and taken wrongly and rightly."""
    found = [(bool(Facts([case["source"]]).foreign(case["summary"])), case["is_foreign"]) for case in CASES[part]]
    pairs = [(True, True), (True, False), (False, True), (False, False)]
    rightly, wrongly, missed, taken = (found.count(pair) for pair in pairs)
    return rightly, wrongly, missed, taken


@pytest.mark.parametrize("part", ["tuning", "held_out"])
def test_the_page_tells_how_well_the_check_tells(part: str) -> None:
    rightly, wrongly, missed, taken = figures(part)
    row = f"| {part} | {rightly} | {wrongly} | {missed} | {taken} |"
    row += f" {rightly / (rightly + wrongly):.2f} | {rightly / (rightly + missed):.2f} |"
    assert row in PAGE.read_text("utf-8")


def test_there_are_enough_cases_and_half_of_them_were_held_out() -> None:
    assert len(CASES["tuning"]) == len(CASES["held_out"]) >= 30
    texts = [case["summary"] for part in CASES.values() for case in part]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize(
    "text", ["", "…", "''\"\"", "\0", "[]()<>", "A", "ﬁ ½ ² ٣", "//////", "1,2,3,,,4", "x" * 50_000]
)
def test_any_text_can_be_looked_at(text: str) -> None:
    assert Facts([text]).foreign(text) == []
    assert isinstance(Facts([]).foreign(text), list)


def test_what_is_said_in_other_scripts_digits_is_the_same_number() -> None:
    facts = Facts(["٢٠٢٤ and \uff11\uff12 and 1 250 000 and 3,50"])
    assert facts.foreign("2024 and 12 and 1,250,000 and 3.50") == []
    assert [fact.kind for fact in facts.foreign("2025")] == ["number"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith met Mr. Jones. They spoke.", ["Dr. Smith met Mr. Jones.", "They spoke."]),
        ("今日は雨です。明日は晴れです。", ["今日は雨です。", "明日は晴れです。"]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("One line\nthat goes on.\n\nAnother block", ["One line that goes on.", "Another block"]),
        ("Items:\n- first thing\n- second thing", ["Items:", "- first thing", "- second thing"]),
        ("  \n ", []),
    ],
)
def test_sentences_are_told_in_more_than_one_script(text: str, sentences: list[str]) -> None:
    assert sentences_of(text) == sentences


def test_what_has_no_stop_is_cut_between_words() -> None:
    text = "word " * 1000
    found = sentences_of(text)
    assert max(map(len, found)) <= 1000
    assert re.sub(r"\s+", " ", " ".join(found)) == text.strip()
