"""Actors: each task type is one Dramatiq actor, which hands its message to the executor and never raises."""

from collections.abc import Callable, Sequence
from uuid import UUID

import dramatiq
from dramatiq.broker import Broker

from core import events
from pipelines.registry import AnyTask, Registry

RunMessage = Callable[[AnyTask, Sequence[tuple[UUID, int]]], None]


def declare_actors(broker: Broker, registry: Registry, run_message: RunMessage) -> None:
    """Declare an actor for each task type of the registry, under the type's name and its aliases."""
    for task in registry:
        for name in (task.name, *task.payload.aliases):
            dramatiq.Actor(
                _body(task, run_message), broker=broker, actor_name=name, queue_name=task.queue, priority=0, options={}
            )


def _body(task: AnyTask, run_message: RunMessage) -> Callable[[list[list[str | int]]], None]:
    def run(claims: list[list[str | int]]) -> None:
        try:
            run_message(task, [(UUID(str(task_id)), int(number)) for task_id, number in claims])
        except Exception as error:
            events.emit(events.LoopFailed(f"actor {task.name}", type(error).__name__, str(error), 0.0))

    return run
