"""Every named query of every file prepares on the migrated schema, as the role that runs it."""

import re
from importlib import resources

import psycopg
import pytest
from psycopg import sql

from db.queries import Queries
from tests.support.database import Database

FILES = sorted(
    entry.name.removesuffix(".sql")
    for entry in resources.files("db").joinpath("sql").iterdir()
    if entry.name.endswith(".sql")
)
QUERIES = [(file, name) for file in FILES for name in Queries(file).names()]
_PARAMETER = re.compile(r"%\((\w+)\)[sb]")


def numbered(text: str) -> str:
    """Turn psycopg's named parameters into the server's own $1, $2 …"""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _PARAMETER.sub(number, text).replace("%%", "%")


def test_there_are_queries() -> None:
    assert {"queue", "tasks"} <= set(FILES)
    assert len(QUERIES) > 30


def test_each_named_query_prepares(database: Database) -> None:
    connection = database.connect()
    problems = []
    for file, name in QUERIES:
        text = numbered(Queries(file).text(name).as_string(None))
        try:
            connection.execute(sql.SQL("PREPARE q AS ") + sql.SQL(text))
            connection.execute("DEALLOCATE q")
        except psycopg.Error as error:
            problems.append(f"{file}.{name}: {error}")
    assert problems == []


@pytest.mark.parametrize(("file", "name"), QUERIES)
def test_each_query_is_one_statement_with_one_line_that_says_what_it_does(file: str, name: str) -> None:
    text = Queries(file).text(name).as_string(None)
    assert ";" not in re.sub(r"--[^\n]*|'[^']*'", "", text)


def test_whoever_ends_a_task_takes_all_of_it_into_history(database: Database) -> None:
    """All that a task is; how it waited, was claimed and was run differs by who ends it."""
    its_own = {
        "id", "task_type", "payload", "payload_version", "status", "attempts", "max_attempts", "snoozes", "last_error",
        "run_after", "completed_at", "created_at", "updated_at", "tenant_id", "owner_kind", "owner_id", "metadata",
        "trace_context", "queue", "priority", "rank", "unique_key", "limit_key", "claim_number",
    }  # fmt: skip
    texts = {name: Queries(file).text(name).as_string(None) for file, name in QUERIES}
    found = {
        name: its_own - set(re.split(r"[\s,]+", listed))
        for name, text in texts.items()
        for listed in re.findall(r"INSERT INTO queue\.tasks_history \(([^)]*)\)", text)
    }
    assert len(found) == 5
    assert {name: missing for name, missing in found.items() if missing} == {}


def test_a_name_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Queries("queue").text("no_such_query")
