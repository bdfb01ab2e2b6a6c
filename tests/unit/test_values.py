"""What operators write: spans of time, moments that every reader can hold, JSON from a file."""

import io
from datetime import timedelta
from pathlib import Path

import pytest

from console.values import moment_of, object_of, span_of
from core.errors import UsageError


def test_a_span_is_a_number_of_a_unit() -> None:
    assert [span_of(text) for text in ("90", "90s", "1.5min", "2h", "1d")] == [
        timedelta(seconds=90), timedelta(seconds=90), timedelta(seconds=90), timedelta(hours=2), timedelta(days=1)
    ]  # fmt: skip


@pytest.mark.parametrize("wrong", ["", "s", "1w", "-5s", "1 h", "5 minutes", "1h30min", "9" * 400, "nan", "1e9"])
def test_a_span_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="write 90s, 30min, 2h or 1d"):
        span_of(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        "0001-01-01T00:00:00+14:00", "9999-01-01T00:00:00Z", "0002-01-01T00:00:00+14:00", "9998-12-31T23:00:00-14:00",
        "9999-12-31T23:00:00-14:00",
    ],
)  # fmt: skip
def test_a_moment_that_no_reader_holds_is_refused(wrong: str) -> None:
    with pytest.raises(UsageError, match="write a year from 2 to 9998"):
        moment_of(wrong)


def test_a_payload_is_a_text_a_file_or_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "payload.json").write_text('{"word": "Tee"}', encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.StringIO('{"b": 1}'))
    assert object_of('{"a": 1}') == {"a": 1}
    assert object_of(f"@{tmp_path}/payload.json") == {"word": "Tee"}
    assert object_of("-") == {"b": 1}


@pytest.mark.parametrize(
    ("content", "told"), [(b"{", "is not JSON"), (b"[1]", "must be a JSON object"), (b"\xff\xfe{}", "cannot be read")]
)
def test_a_file_that_holds_no_payload_is_told(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "payload.json").write_bytes(content)
    with pytest.raises(UsageError, match=told):
        object_of(f"@{tmp_path}/payload.json")
    with pytest.raises(UsageError, match="Is a directory"):
        object_of(f"@{tmp_path}")
