"""The worked example of docs/tasks.md, as it stands there: loaded by its module's name, enqueued, run."""

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from uuid import uuid4

import pytest

from pipelines.enqueue import enqueue
from pipelines.registry import load_registry
from tests.support.database import Database
from tests.support.engine import Line

_DOCUMENT = Path(__file__).parents[2] / "docs" / "tasks.md"


@pytest.fixture
def shop_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The example's module, importable as a user's would be."""
    [source] = re.findall(r"```python\n(# shop_tasks\.py\n.*?)```", _DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "shop_tasks.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("shop_tasks")
    del sys.modules["shop_tasks"]


def test_the_worked_example_does_what_it_says(database: Database, shop_tasks: ModuleType) -> None:
    database.rows("CREATE SCHEMA shop")
    database.rows("CREATE TABLE shop.customers (id uuid)")
    database.rows("CREATE TABLE shop.greetings (customer_id uuid, text text)")
    database.rows("GRANT USAGE ON SCHEMA shop TO greenroom_worker")
    database.rows("GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA shop TO greenroom_worker")
    customer = uuid4()
    line = Line(database, load_registry(["shop_tasks"], ours=()))
    task_id = enqueue(database.connect("producer"), shop_tasks.GreetCustomer(customer_id=customer, name="Ada"))

    assert line.run_once() == 1
    waiting = line.task(task_id)
    assert (waiting["status"], waiting["snoozes"], waiting["attempts"]) == ("pending", 1, 0)

    database.rows("INSERT INTO shop.customers VALUES (%s)", (customer,))
    database.rows("UPDATE queue.tasks_live SET run_after = now(), is_due = true WHERE id = %s", (task_id,))
    assert line.run_once() == 1
    done = line.task(task_id)
    assert (done["status"], done["result"]) == ("done", {"length": len("Welcome, Ada")})
    assert database.rows("SELECT customer_id, text FROM shop.greetings") == [(customer, "Welcome, Ada")]
    line.close()
