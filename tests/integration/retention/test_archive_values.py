"""Whatever Postgres can hold comes back as it was: each value of each type, by the hash of its row."""

from pathlib import Path

import pytest

from core.errors import PermanentError
from tests.support.archives import archiving, printed
from tests.support.database import Database

ZOO = """
CREATE TABLE ops.zoo (
    id uuid DEFAULT ops.uuid_v7() PRIMARY KEY, at timestamptz NOT NULL, said text, amount numeric, price numeric(10, 2),
    wide float8, narrow float4, truth boolean, moment timestamptz, day date, open jsonb, words text[],
    numbers integer[],
    vector vector, bytes bytea, span interval, address inet, big bigint, small smallint,
    halved bigint GENERATED ALWAYS AS (big / 2) STORED
)
"""
AT = "2020-02-03 00:00+00"
VALUES: dict[str, list[str | None]] = {
    "said": [
        "",
        None,
        'a "quoted", text',
        "two\nlines\r\nand\ttabs",
        "\\.",
        "\\N",
        "NULL",
        "null",
        ",",
        '"',
        "'",
        " kept  ",
        "\x01\x1f\x7f",
        "\u202eabc\u2066\u2069 שלום",
        "🦄",
        "x" * 3_000_000,
        "\n",
        "\r",
        "t",
        "infinity",
    ],
    "amount": ["1.00", "1", "0.000", "NaN", "Infinity", "-Infinity", "1e200", "-0", None],
    "price": ["1.00", "0.10"],
    "wide": [
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "0",
        "5e-324",
        "1.7976931348623157e308",
        "0.1",
        "1e23",
        "123456789012345680",
    ],
    "narrow": ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1", "16777216"],
    "truth": ["true", "false", None],
    "moment": [
        "infinity",
        "-infinity",
        "1970-01-01 00:00+00",
        "1969-12-31 23:59:59.999999+00",
        "0001-01-01 00:00+00",
        "0001-12-31 23:59:59.999999+00 BC",
        "0044-03-15 12:34:56.000001+00 BC",
        "4713-01-01 00:00+00 BC",
        "9999-12-31 23:59:59.999999+00",
        "10000-01-01 00:00+00",
        "292000-02-29 00:00:00.5+00",
        "2020-02-29 00:00:00.1+13:45",
        None,
    ],
    "day": [
        "infinity",
        "-infinity",
        "1970-01-01",
        "0001-01-01",
        "0044-03-15 BC",
        "9999-12-31",
        "10000-02-29",
        "5874897-12-31",
    ],
    "open": ['{"a": [1, null, "\\"\\n"], "b": 1.00}', "null", '""', "[]", '"\\u202e"'],
    "words": ["{}", '{"",NULL,"a,b","q\\"q","NULL"}', "{{a,b},{c,d}}", None],
    "numbers": ["{1,NULL,3}", "[0:1]={1,2}"],
    "vector": ["[1,2.5,-0.1]", "[1e-30]"],
    "bytes": ["\\x", "\\x00ff0a22", None],
    "span": ["1 year -2 mons +3 days -04:05:06.789", "-1 days", "00:00"],
    "address": ["::1", "10.0.0.0/8"],
    "big": ["9223372036854775807", "-9223372036854775808", "0"],
    "small": ["-32768"],
}
INSERT = "INSERT INTO ops.zoo (at, {}) VALUES (%s, %s)"


def test_every_value_comes_back_as_it_was(database: Database, tmp_path: Path) -> None:
    database.rows(ZOO)
    for column, values in VALUES.items():
        for value in values:
            database.rows(INSERT.format(column), (AT, value))
    before = printed(database, "ops.zoo")
    assert before.total() == sum(len(values) for values in VALUES.values())
    run = archiving(database, tmp_path / "archives", "ops.zoo", "at")
    assert run.work() is None
    assert run.archived() == before
    assert printed(database, "ops.zoo").total() == 0


def test_a_session_of_another_form_archives_the_same(database: Database, tmp_path: Path) -> None:
    database.rows(ZOO)
    for column, value in (("moment", AT), ("span", "1 year -2 mons +3 days"), ("wide", "0.1"), ("bytes", "\\xff00")):
        database.rows(INSERT.format(column), (AT, value))
    before = printed(database, "ops.zoo")
    run = archiving(database, tmp_path / "archives", "ops.zoo", "at")
    for setting in ("timezone = 'Pacific/Auckland'", "datestyle = 'German'", "intervalstyle = 'sql_standard'"):
        run.connection.execute(f"SET {setting}".encode())
    for setting in ("extra_float_digits = -15", "bytea_output = 'escape'"):
        run.connection.execute(f"SET {setting}".encode())
    assert run.work() is None
    assert run.archived() == before


def test_a_time_that_no_archive_holds_is_told_and_stays(database: Database, tmp_path: Path) -> None:
    database.rows(ZOO)
    database.rows(INSERT.format("moment"), (AT, "294276-12-31 00:00+00"))
    run = archiving(database, tmp_path / "archives", "ops.zoo", "at")
    with pytest.raises(PermanentError, match="column moment has a time beyond the year 292277"):
        run.work()
    assert printed(database, "ops.zoo").total() == 1
