"""`tasks show` draws what a task waits for, what waits for it, and its batch."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from db.embedded import running_url
from pipelines.batches import open_batch
from tests.support.command import Inline, Running


@pytest.fixture(autouse=True)
def cleared(up: Running, home: Path) -> Iterator[None]:
    """A queue that nobody serves is no good to leave behind: the doctor of others would find it."""
    yield
    with psycopg.connect(running_url(home) or "") as connection:
        connection.execute("DELETE FROM queue.tasks_live WHERE queue = 'nobody'")


def enqueue(inline: Inline, *arguments: str) -> str:
    return inline.ok("enqueue", "document.delete", f"document_id={uuid4()}", "--queue", "nobody", *arguments).strip()


def test_the_tree_and_the_json(inline: Inline) -> None:
    top = enqueue(inline)
    middle = enqueue(inline, "--depends-on", top)
    children = [enqueue(inline, "--depends-on", middle, "--on-parent-failed", "run") for _ in range(2)]
    shown = inline.ok("tasks", "show", middle)
    lines = [line for line in shown.splitlines() if "──" in line]
    assert [word for line in lines for word in ("waits for", "waited for by") if word in line] == [
        "waits for", "waited for by",
    ]  # fmt: skip
    assert sum(top in line and "(pending)" in line for line in lines) == 1
    assert sum(child in line and "(waiting, run if not done)" in line for child in children for line in lines) == 2
    found = inline.json("tasks", "show", middle)
    assert [node["id"] for node in found["parents"]] == [top]
    assert {node["id"] for node in found["children"]} == set(children)
    assert (found["parent_count"], found["child_count"], found["batch"]) == (1, 2, None)


def test_more_than_it_shows_is_said(inline: Inline, home: Path) -> None:
    top = enqueue(inline)
    url = running_url(home)
    assert url is not None
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT queue.enqueue_array('document.delete',"
            " jsonb_agg(jsonb_build_object('document_id', gen_random_uuid())),"
            " jsonb_build_object('depends_on', ARRAY[%s::text], 'queue', 'nobody')) FROM generate_series(1, 60)",
            (top,),
        )
    assert "… and 10 more" in inline.ok("tasks", "show", top)
    assert len(inline.json("tasks", "show", top)["children"]) == 50


def test_the_batch_is_named(inline: Inline, home: Path) -> None:
    url = running_url(home) or ""
    enqueue(inline)
    with psycopg.connect(url) as connection:
        batch = open_batch(connection, "import of May")
    member = enqueue(inline, "--batch", str(batch))
    assert f"batch {batch} import of May" in inline.ok("tasks", "show", member)
    assert inline.json("tasks", "show", member)["batch"]["name"] == "import of May"


def test_a_task_without_relations_has_no_tree(inline: Inline) -> None:
    assert "──" not in inline.ok("tasks", "show", enqueue(inline))


def test_wrong_calls_say_so(inline: Inline) -> None:
    for arguments in (["--depends-on", "no-id"], ["--batch", "no-id"], ["--on-parent-failed", "explode"]):
        done = inline.run("enqueue", "document.delete", f"document_id={uuid4()}", *arguments)
        assert done.returncode == 2, arguments
    done = inline.run("enqueue", "document.delete", f"document_id={uuid4()}", "--depends-on", str(uuid4()))
    assert "does not exist" in done.stderr
