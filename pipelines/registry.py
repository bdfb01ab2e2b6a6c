"""The registry: which task types this program knows. Registration is explicit and all-or-nothing.

A task module has `TASKS`, a sequence of Task, and may have `SCHEDULES`, a sequence of Schedule, and
`provide(resources, settings)`, which says how the resources of its handlers are made. Ours are listed here; users add
theirs by the setting `GREENROOM_TASK_MODULES`.
"""

import importlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from types import ModuleType
from typing import Any

from core.errors import RegistrationError, UnknownTaskTypeError
from core.settings import Settings
from pipelines.resources import Resources
from pipelines.schedule import Schedule
from pipelines.task import Task

OUR_MODULES = (
    "pipelines.care.counters",
    "pipelines.care.indexes",
    "pipelines.care.tables",
    "pipelines.documents.tasks",
    "pipelines.health.measure",
    "pipelines.health.rollup",
    "pipelines.mail.poll",
    "pipelines.mail.send",
    "pipelines.memory.tasks",
    "pipelines.replay",
    "pipelines.retention.enforce",
    "pipelines.retention.expiry",
    "pipelines.retention.files",
    "pipelines.retention.forgetting",
    "pipelines.retention.orphans",
    "pipelines.retention.partitions",
    "pipelines.retention.restoring.task",
    "pipelines.tenants.erasure",
    "pipelines.tenants.users",
    "pipelines.vault.rotation",
)
_OUR_PACKAGES = frozenset({"console", "core", "db", "pipelines", "scheduler", "workers"})

AnyTask = Task[Any]


class Registry:
    """Task types by name; a name or alias that is taken is refused before anything is registered."""

    def __init__(self, tasks: Iterable[AnyTask] = ()) -> None:
        self._tasks: dict[str, AnyTask] = {}
        self._names: dict[str, str] = {}
        self.add(tasks)

    def add(self, tasks: Iterable[AnyTask]) -> None:
        """Register definitions, all or none."""
        listed = list(tasks)
        names: dict[str, str] = {}
        for task in listed:
            for name in (task.name, *task.payload.aliases):
                if name in self._names or name in names:
                    raise RegistrationError(f"task type {name!r} is registered twice")
                names[name] = task.name
        self._names |= names
        self._tasks |= {task.name: task for task in listed}

    def __iter__(self) -> Iterator[AnyTask]:
        return iter(self._tasks.values())

    def names(self) -> list[str]:
        """Return the names of all task types, sorted."""
        return sorted(self._tasks)

    def versions(self) -> dict[str, int]:
        """Return the payload version of each name and alias: what a task's row may be called, and how new it may be."""
        return {alias: self._tasks[name].payload.payload_version for alias, name in sorted(self._names.items())}

    def queues(self) -> list[str]:
        """Return the queues that the task types default to, sorted."""
        return sorted({task.queue for task in self._tasks.values()})

    def get(self, name: str) -> AnyTask:
        """Return the definition of a name or alias; raises UnknownTaskTypeError, which lists what exists."""
        try:
            return self._tasks[self._names[name]]
        except KeyError:
            raise UnknownTaskTypeError(name, tuple(self._tasks)) from None


def load_registry(modules: Sequence[str] = (), *, ours: Sequence[str] = OUR_MODULES) -> Registry:
    """Import our task modules and the named ones, and register what they define.

    Raises RegistrationError naming the module that cannot be imported, has no TASKS, or bears a name of ours.
    """
    registry = Registry()
    for module in _import_all(modules, ours):
        registry.add(module.TASKS)
    return registry


def load_schedules(modules: Sequence[str] = (), *, ours: Sequence[str] = OUR_MODULES) -> dict[str, list[Schedule]]:
    """Import our task modules and the named ones; return what schedules each declares, none where it has none.

    Raises RegistrationError for one whose name is taken or whose task type no module registers, ScheduleError for one
    that makes no sense.
    """
    registry, names = load_registry(modules, ours=ours), set[str]()
    found = {module.__name__: list(getattr(module, "SCHEDULES", ())) for module in _import_all(modules, ours)}
    for schedule in chain.from_iterable(found.values()):
        if schedule.name in names:
            raise RegistrationError(f"schedule {schedule.name!r} is declared twice")
        if schedule.task_type not in registry.names():
            raise RegistrationError(f"schedule {schedule.name!r}: no module registers {schedule.task_type!r}")
        schedule.spec()
        names.add(schedule.name)
    return found


def provide_resources(resources: Resources, settings: Settings, *, ours: Sequence[str] = OUR_MODULES) -> Resources:
    """Let each task module say how its resources are made; nothing is made yet."""
    for module in _import_all(settings.task_modules, ours):
        if callable(provide := getattr(module, "provide", None)):
            provide(resources, settings)
    return resources


def _import_all(theirs: Sequence[str], ours: Sequence[str]) -> list[ModuleType]:
    for name in theirs:
        if name.partition(".")[0] in _OUR_PACKAGES:
            raise RegistrationError(
                f"task module {name!r} clashes with Greenroom's own package {name.partition('.')[0]!r}: "
                "rename yours, or put it into a package of another name"
            )
    return [_import(name) for name in (*ours, *theirs)]


def _import(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise RegistrationError(f"task module {name!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(getattr(module, "TASKS", None), Sequence):
        raise RegistrationError(f"task module {name!r} has no TASKS, the sequence of its task definitions")
    return module
