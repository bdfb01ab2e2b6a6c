"""The tasks around one, and its batch, as `greenroom tasks show` prints them: a tree for people, lists for programs."""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from console import output
from db import dependencies
from db.connection import Connection

if TYPE_CHECKING:
    from rich.tree import Tree

_SHOWN = 50


class Around(NamedTuple):
    """What stands around a task: the graph of its dependencies, and the batch that it belongs to while it lives."""

    task_id: UUID
    graph: dependencies.Graph
    batch: dependencies.BatchRow | None


def around(connection: Connection, task_id: UUID) -> Around:
    """Return what stands around a task, at most 50 tasks above it and 50 below."""
    graph = dependencies.graph(connection, task_id, _SHOWN)
    return Around(task_id, graph, dependencies.batch_of(connection, task_id))


def facts(found: Around) -> dict[str, Any]:
    """Return it for JSON."""
    graph = found.graph
    return {
        "parents": [_fact(node) for node in graph.nodes if node.level < 0],
        "children": [_fact(node) for node in graph.nodes if node.level > 0],
        "parent_count": graph.parents,
        "child_count": graph.children,
        "batch": found.batch and asdict(found.batch),
    }


def show(found: Around, title: str) -> None:
    """Print the tree, if the task waits for others or they for it, and the batch, if it is in one."""
    if batch := found.batch:
        ended = f"{batch.done} done, {batch.failed} failed, {batch.cancelled} cancelled"
        output.show_line(f"\nbatch {batch.id} {batch.name}: {batch.added} tasks, {ended}")
    if not found.graph.nodes:
        return
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(Text(output.clean(title)))
    above = [node for node in found.graph.nodes if node.level < 0]
    below = [node for node in found.graph.nodes if node.level > 0]
    _branch(tree, "waits for", found.task_id, above, found.graph.parents)
    _branch(tree, "waited for by", found.task_id, below, found.graph.children)
    output.terminal(sys.stdout).print(tree)


def _branch(tree: "Tree", word: str, root: UUID, nodes: Sequence[dependencies.Node], count: int) -> None:
    if not nodes:
        return
    from rich.text import Text

    near = sum(abs(node.level) == 1 for node in nodes)
    branch = tree.add(Text(word))
    places = {root: branch}
    for node in nodes:  # nearest first: what a task hangs on is there before it
        if parent := places.get(node.near_id):
            places[node.id] = parent.add(Text(_label(node)))
    if count > near:
        branch.add(Text(f"… and {count - near} more"))
    elif len(nodes) >= _SHOWN:
        branch.add(Text(f"… only the nearest {_SHOWN} are shown"))


def _label(node: dependencies.Node) -> str:
    status = "waiting" if node.is_waiting else node.status
    policy = "" if node.on_parent_failed == "fail" else f", {node.on_parent_failed} if not done"
    return output.clean(f"{node.id} {node.task_type or 'gone from history'} ({status}{policy})")


def _fact(node: dependencies.Node) -> dict[str, Any]:
    return node._asdict()
