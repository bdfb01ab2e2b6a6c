"""The command: `python -m tests.benchmarks.memory [FOLDER]`, a folder that the texts are fetched to.

A persona reads them through the pipelines as they ship, is asked, condenses its memory by the settings of the
environment (GREENROOM_MEMORY_…), and is asked again; prints JSON. Ends with status 1 unless the condensed memory has at
most half of the tokens, and each question of which an answer was among the first five hits before has one there after.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.settings import load_settings
from pipelines.registry import provide_resources
from pipelines.resources import Resources
from tests.benchmarks.memory.persona import Found, Persona
from tests.benchmarks.memory.questions import PARTS, Question, questions
from tests.benchmarks.memory.texts import fetch, texts_of
from tests.support.database import cloned, fast_server, migrate_template


def main() -> None:
    """Read, ask, condense, ask, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="kept; without one the texts are fetched anew")
    parser.add_argument("--part", choices=PARTS, action="append", help="ask these alone: tuning looks at nothing else")
    parser.add_argument("--show", action="store_true", help="tell which answers are not found any more, and not yet")
    options = parser.parse_args()
    asked = [each for each in questions() if each.part in (options.part or PARTS)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "texts"
        fetch(folder)
        run, before, after = _run(folder, asked)
    figures = {part: _figures(part, asked, before, after) for part in options.part or PARTS}
    sys.stdout.write(json.dumps(run | {"answers": figures}, indent=2) + "\n")
    lost = [each.answer for each, old, new in zip(asked, before, after, strict=True) if _is_lost(old, new)]
    if options.show:
        missed = [each.answer for each, old in zip(asked, before, strict=True) if not old.is_answered]
        sys.stdout.write(json.dumps({"lost": lost, "never_found": missed}, indent=2) + "\n")
    if lost or run["condensed"]["reduction"] < 0.5:
        raise SystemExit(f"{len(lost)} answers lost, {run['condensed']['reduction']:.0%} of the tokens saved")


def _run(folder: Path, asked: Sequence[Question]) -> tuple[dict[str, Any], list[Found], list[Found]]:
    with (
        fast_server() as server,
        cloned(server, migrate_template(server)) as database,
        tempfile.TemporaryDirectory() as root,
    ):
        settings = load_settings(_env_file=None, storage={"root": root})
        resources = provide_resources(Resources(), settings)
        persona = Persona(database, resources, Path(root))
        read = persona.read(texts_of(folder))
        if absent := [each.answer for each in asked if not persona.holds(each)]:
            raise SystemExit(f"these texts do not have {absent}")
        before = persona.ask(asked)
        condensed = persona.condense()
        after = persona.ask(asked)
        resources.close()
    told = settings.memory.model_dump(exclude={"api_key", "url"})
    return {"memory": told, "read": read, "condensed": condensed}, before, after


def _figures(part: str, asked: Sequence[Question], before: Sequence[Found], after: Sequence[Found]) -> dict[str, int]:
    of_part = [pair for each, *pair in zip(asked, before, after, strict=True) if each.part == part]
    return {
        "questions": len(of_part),
        "before": sum(old.is_answered for old, _ in of_part),
        "after": sum(new.is_answered for _, new in of_part),
        "lost": sum(_is_lost(old, new) for old, new in of_part),
        "by_condensed_alone": sum(new.by_condensed for _, new in of_part),
        "by_sources_of_hits": sum(new.by_sources for _, new in of_part),
    }


def _is_lost(before: Found, after: Found) -> bool:
    return before.is_answered and not after.is_answered


if __name__ == "__main__":
    main()
