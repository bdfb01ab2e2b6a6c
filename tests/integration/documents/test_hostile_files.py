"""A corpus of broken and hostile files: each has its outcome, and the parser stays within its memory."""

from collections import Counter
from pathlib import Path

import psutil
import pytest

from pipelines.documents.parsing import ParserProcess
from pipelines.documents.parsing.types import normalise
from tests.integration.documents.hostile import markup, messages, office, pdfs, plain, records
from tests.integration.documents.hostile.outcome import SECRET, WICK, Case
from tests.integration.documents.parsed import Parse, texts

CASES = [case for family in (plain, markup, records, pdfs, messages, office) for case in family.CASES]
MEMORY = 2_000_000_000


def test_the_corpus_is_as_large_as_it_says() -> None:
    assert len(CASES) >= 150
    assert SECRET in Path("/etc/passwd").read_text(encoding="utf-8"), "nothing that is looked for could be found"
    assert max(Counter(case.name for case in CASES).values()) == 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:60])
def test_a_file_has_its_outcome_and_takes_nobody_along(parse: Parse, parser: ParserProcess, case: Case) -> None:
    if case.error is not None:
        with pytest.raises(case.error, match=case.says or None) as caught:
            parse(case.name, case.content, max_memory_bytes=MEMORY)
        assert str(caught.value).endswith(".")
    else:
        text = parse(case.name, case.content, max_memory_bytes=MEMORY).text
        assert normalise(text) == text
        assert [held for held in case.holds if held not in text] == []
        assert [lacked for lacked in case.lacks if lacked in text] == []
        assert case.most is None or len(text) <= case.most
    assert texts(parse("next.txt", WICK)) == [WICK]
    if parser._process is not None:  # it ends itself after so many documents
        assert peak(parser._process.pid) <= MEMORY


def peak(pid: int) -> int:
    """Return the most resident memory that a process ever had."""
    assert psutil.pid_exists(pid)
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024
