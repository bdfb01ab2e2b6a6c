"""Enqueue in bulk: any number in one call, read as it is written, all or none; ids in order and unlike any others."""

from collections.abc import Iterator

import psycopg
import pytest

from core.errors import InvalidOptionsError, InvalidPayloadError
from pipelines.enqueue import enqueue_many
from pipelines.payload import Payload
from tests.support.database import Database
from tests.support.engine import Line
from tests.support.tasks import Noop, Report, Write

pytestmark = pytest.mark.usefixtures("line")
COUNT = "SELECT count(*) FROM queue.tasks_live"


@pytest.mark.parametrize("autocommit", [True, False])
def test_twelve_thousand_from_an_iterator(database: Database, line: Line, autocommit: bool) -> None:
    with psycopg.connect(database.url("producer"), autocommit=autocommit) as producer:
        ids = enqueue_many(producer, (Noop(n=n) for n in range(12_000)))
        assert database.value(COUNT) == (12_000 if autocommit else 0)
    rows = dict(database.rows("SELECT id, (payload->>'n')::integer FROM queue.tasks_live"))
    assert [rows[i] for i in ids] == list(range(12_000))
    assert ids[:5000] == sorted(ids[:5000]), "one statement's ids count up"
    assert {i.version for i in ids} == {7}


@pytest.mark.parametrize("autocommit", [True, False])
def test_all_or_none(database: Database, autocommit: bool) -> None:
    def payloads() -> Iterator[Payload]:
        yield from (Noop(n=n) for n in range(11_000))
        yield Write(n=1)

    with psycopg.connect(database.url("producer"), autocommit=autocommit) as producer:
        with pytest.raises(InvalidPayloadError, match="one type"):
            enqueue_many(producer, payloads())
        producer.rollback()
    assert database.value(COUNT) == 0


def test_large_payloads_go_in_more_statements(database: Database) -> None:
    assert len(enqueue_many(database.connect("producer"), [Report(text="x" * 900_000) for _ in range(12)])) == 12


def test_a_unique_key_names_one_of_however_many(database: Database) -> None:
    with pytest.raises(InvalidOptionsError, match="one task"):
        enqueue_many(database.connect("producer"), (Noop(n=n) for n in range(6000)), unique_key="k")
