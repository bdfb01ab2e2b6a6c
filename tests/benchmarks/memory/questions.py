"""The questions, and whether a text answers one: it holds the phrase, whatever its quotes, case and white space."""

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PARTS: Final = ("tuning", "held_out")
_MARKS: Final = re.compile(r'["“”`*]')


@dataclass(frozen=True)
class Question:
    """A question in other words than its book's, and a phrase that stands in what answers it."""

    part: str
    question: str
    answer: str
    book: str

    def is_answered_by(self, texts: Iterable[str]) -> bool:
        """Tell whether one of the texts holds the phrase."""
        wanted = plain(self.answer)
        return any(wanted in plain(text) for text in texts)


def questions() -> list[Question]:
    """Return all questions, part by part."""
    found = tomllib.loads(Path(__file__).with_name("questions.toml").read_text("utf-8"))
    return [Question(part, **each) for part in PARTS for each in found[part]]


def plain(text: str) -> str:
    """Return a text without its quotes, in lower case, with its white space made one space."""
    return " ".join(_MARKS.sub("", text).replace("’", "'").split()).lower()
