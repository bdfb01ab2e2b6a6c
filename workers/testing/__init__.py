"""The kit for tests of producers and of handlers, against a real database; docs/testing.md shows it.

Nothing imports it at run time. `pytest_plugins = ["workers.testing.plugin"]` makes its fixtures known.

| module | owns |
| --- | --- |
| `enqueued` | what a producer enqueued: `enqueued`, `assert_enqueued` |
| `running` | `drain` runs what is due, `run_task` one handler |
| `line` | the engine by hand that both are built upon |
| `database` | server, template and clones |
| `plugin` | the fixtures of pytest |
"""

from workers.testing.database import Database
from workers.testing.enqueued import EnqueuedTask, assert_enqueued, enqueued
from workers.testing.running import Drained, TaskRun, drain, run_task

__all__ = ["Database", "Drained", "EnqueuedTask", "TaskRun", "assert_enqueued", "drain", "enqueued", "run_task"]
