"""Actors: each task type is one Dramatiq actor, which hands its message to the executor and never raises."""

from collections.abc import Callable
from functools import partial

import dramatiq
from dramatiq.broker import Broker

from core import events
from core.errors import raised_at
from db.queue import Claims
from pipelines.registry import AnyTask, Registry
from workers.broker import STRANGER, claims_in


def declare_actors(
    broker: Broker,
    registry: Registry,
    run_message: Callable[[AnyTask, Claims], None],
    refuse: Callable[[Claims], None],
) -> None:
    """Declare an actor for each task type, under its name and aliases; messages of all other types are refused."""

    def declare(name: str, queue_name: str, act: Callable[[Claims], None]) -> None:
        body = _body(name, act)
        dramatiq.Actor(body, broker=broker, actor_name=name, queue_name=queue_name, priority=0, options={})

    for task in registry:
        for name in (task.name, *task.payload.aliases):
            declare(name, task.queue, partial(run_message, task))
    declare(STRANGER, next(iter(registry)).queue, refuse)


def _body(name: str, act: Callable[[Claims], None]) -> Callable[[list[list[str | int]]], None]:
    def run(claims: list[list[str | int]]) -> None:
        try:
            act(claims_in(claims))
        except Exception as error:
            events.emit(events.MessageFailed(name, type(error).__name__, raised_at(error)))

    return run
