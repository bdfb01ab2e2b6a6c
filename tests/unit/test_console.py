"""The command line's small parts: what is printed and what never is, excerpts, addresses, starts."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from console import output
from console.addresses import given_place
from console.runtime import when_database_answers
from console.sources import find_files
from console.values import moment_of, payload_of
from core import events
from core.errors import SettingsError, UnavailableError, UsageError
from core.groups import DatabaseSettings
from core.settings import Settings

OWNER = "postgresql://owner:p%40ss@db.example:5432/app?sslmode=require"


def settings(url: str, **more: object) -> Settings:
    return Settings.model_validate({"database": DatabaseSettings(url=SecretStr(url)), **more})


def test_nothing_that_steers_a_terminal_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_line("a\x1b[31mb\udcff\x07")
    output.show_table(("name", "#size"), [("x\x9b2J", 5)])
    shown = capsys.readouterr().out
    assert not set(shown) & set("\x1b\x07\x9b\udcff")
    assert "a\N{REPLACEMENT CHARACTER}[31mb" in shown


def test_secrets_print_as_stars(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_json(
        {"password": SecretStr("hunter2"), "at": datetime(2026, 1, 31, tzinfo=UTC), "span": timedelta(hours=1)}
    )
    shown = capsys.readouterr().out
    assert "hunter2" not in shown
    assert '"2026-01-31T00:00:00+00:00"' in shown
    assert output.mask_url(OWNER) == "postgresql://owner:**********@db.example:5432/app?sslmode=require"
    assert output.masked({"text": "t", "n": 1}, ["text"]) == {"text": output.MASK, "n": 1}
    assert output.masked({"text": "t"}, None) == {"text": output.MASK}
    assert output.masked("text", None) == output.MASK


def test_spans_and_sizes_read_well() -> None:
    assert [output.duration(s) for s in (1, 119, 600, 7300, 200_000, -60)] == [
        "1 s",
        "119 s",
        "10 min",
        "2 h",
        "2 d",
        "-60 s",
    ]
    assert [output.size(n) for n in (None, 12, 4128, 5_000_000)] == ["", "12 B", "4.1 kB", "5.0 MB"]


def test_a_hit_shows_its_marked_words_and_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_hit("1. a.md", "the \x02lens\x03 weighs\n three\x07 tonnes")
    assert capsys.readouterr().out.splitlines() == [
        "1. a.md",
        "   the lens weighs three\ufffd tonnes",
    ]


def test_each_process_gets_its_login_from_the_owners() -> None:
    place = given_place(settings(OWNER, role_passwords={"worker": "w/x"}))
    assert place.login("worker") == "postgresql://greenroom_worker:w%2Fx@db.example:5432/app?sslmode=require"
    assert place.login("operator").startswith("postgresql://greenroom_operator:")
    assert "p%40ss" not in place.login("operator")
    operator = given_place(settings("postgresql://greenroom_operator:x@db.example/app"))
    assert operator.login("operator") == operator.url
    with pytest.raises(SettingsError, match="owner"):
        operator.owner()


@pytest.mark.parametrize("kind", ["relay", "worker"])
def test_from_the_owners_addresses_a_process_derives_all_of_its_own(kind: str) -> None:
    database = {"url": OWNER, "direct_url": OWNER.replace("db.", "direct."), "is_pooled": True}
    place = given_place(Settings.model_validate({"database": database}))
    found = place.process(kind)
    assert (found.url, found.system_url) == (place.login(kind), place.login("system"))
    assert found.direct_url == found.url.replace("db.", "direct.")
    assert found.pooled
    assert found.system_direct_url == place.login("system").replace("db.", "direct.")
    assert "owner" not in f"{found.url} {found.direct_url} {found.system_url} {found.system_direct_url}"


def test_a_process_with_a_login_of_its_own_uses_what_it_was_given() -> None:
    worker, system = "postgresql://greenroom_worker:x@db/app", "postgresql://greenroom_system:y@db/app"
    given = {"url": worker, "direct_url": worker.replace("@db", "@direct"), "system_url": system}
    found = given_place(Settings.model_validate({"database": given})).process("worker")
    assert (found.url, found.direct_url, found.system_url) == (worker, given["direct_url"], system)
    assert found.system_direct_url == system.replace("@db", "@direct")
    alone = given_place(settings(worker)).process("worker")
    assert (alone.direct_url, alone.system_url) == (None, None), "the worker's password tells no other's"
    assert alone.system_direct_url is None


def test_payloads_come_as_json_or_as_pairs() -> None:
    assert payload_of([]) == {}
    assert payload_of(["a=1", "b=text", "c=[true]", "d=x=y"]) == {"a": 1, "b": "text", "c": [True], "d": "x=y"}
    assert payload_of(['{"a": 1}']) == {"a": 1}
    for wrong in (["=1"], ["a"], ["{"], ["[]"]):
        with pytest.raises(UsageError):
            payload_of(wrong)


def test_times_need_a_zone() -> None:
    assert moment_of("2026-01-31T08:00:00Z") == datetime(2026, 1, 31, 8, tzinfo=UTC)
    assert moment_of("60") > datetime.now(UTC)
    for wrong in ("2026-01-31", "tomorrow", "1e400"):
        with pytest.raises(UsageError):
            moment_of(wrong)


def test_files_are_found_once_and_hidden_ones_not(tmp_path: Path) -> None:
    for name in ("a.md", "sub/b.pdf", ".hidden/c.md", ".d.md", "e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    wanted = [tmp_path / "a.md", tmp_path / "sub" / "b.pdf"]
    assert find_files([str(tmp_path)]) == wanted
    assert find_files([str(tmp_path / "a.md"), str(tmp_path / "**" / "*.pdf"), str(tmp_path / "a.*")]) == wanted
    assert find_files([str(tmp_path / "e.png")]) == [tmp_path / "e.png"]  # named by itself, it fails with its reason
    for nothing in ("", str(tmp_path / "*.txt"), str(tmp_path / "sub" / "none"), str(tmp_path / ".hidden" / "x**y[")):
        with pytest.raises(UsageError, match="names no file"):
            find_files([nothing])


def test_a_start_is_tried_again_while_the_database_is_away(recorded: list[events.Event]) -> None:
    away = [UnavailableError("starting"), psycopg.OperationalError("the connection is lost")]

    def start() -> None:
        if away:
            raise away.pop()

    class Unhurried(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            return False

    assert when_database_answers(start, "worker", Unhurried())
    failed = [event for event in recorded if isinstance(event, events.LoopFailed)]
    assert [event.loop for event in failed] == ["worker start"] * 2


def test_a_start_that_fails_for_another_reason_is_not_tried_again() -> None:
    def start() -> None:
        raise psycopg.errors.UndefinedTable("no such table")

    with pytest.raises(psycopg.errors.UndefinedTable):
        when_database_answers(start, "worker", threading.Event())


def test_a_start_ends_when_told_to_stop() -> None:
    stopping = threading.Event()

    def start() -> None:
        stopping.set()
        raise UnavailableError("starting")

    assert not when_database_answers(start, "worker", stopping)
