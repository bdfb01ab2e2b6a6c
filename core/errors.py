"""The error tree. Callers match on classes and attributes, never on text.

GreenroomError
├── UsageError                 the call is wrong; the command line exits with 2
│   ├── SettingsError          a setting is missing or contradicts another
│   ├── UnknownTaskTypeError   no task type of that name is registered or published
│   ├── InvalidPayloadError    a payload does not fit its type
│   ├── InvalidOptionsError    an enqueue option is out of range
│   ├── RegistrationError      a task module or definition cannot be registered
│   ├── ScheduleError          a schedule's times or policies make no sense
│   ├── RetentionError         a retention policy makes no sense, or contradicts another
│   └── ConstraintError        a row breaks a rule of the schema; `constraint` names it
│       ├── DuplicateError     a key is taken
│       ├── MissingMonthError  no month takes a row's time
│       └── MissingRowError    what a row refers to is not there, or another tenant's
├── StaleVersionError          a row was written by somebody else since it was read
├── NotFoundError              the row that a command names does not exist
├── PermanentError             an attempt that must not be repeated: the task fails now
├── RetryableError             an attempt worth repeating, optionally not before `retry_after`
│   ├── UnavailableError       a service that we depend on does not answer
│   └── RateLimitedError       a provider refuses for now: all that go by its limit key wait
├── TimeLimitError             an attempt ran for longer than its task type allows
├── WaitTimeoutError           a task did not end in the time that the caller gave
├── SchemaError                the database's schema and this program do not fit
└── EmbeddedServerError        the embedded PostgreSQL cannot be started or stopped

InterruptionError              raised in a handler's thread to end it; passes `except Exception`
├── TaskCancelledError         the task is not wanted any more
└── AttemptLostError           the attempt's lease or claim is no longer ours: nothing of it can be written
"""

from datetime import timedelta
from typing import ClassVar


class GreenroomError(Exception):
    """Base of every error that Greenroom raises on purpose."""


class UsageError(GreenroomError):
    """The call is wrong and says how to mend it."""


class SettingsError(UsageError):
    """A setting is missing, malformed or contradicts another."""


class UnknownTaskTypeError(UsageError):
    """No task type of that name exists; `known` lists those that do."""

    def __init__(self, task_type: str, known: tuple[str, ...] = ()) -> None:
        self.task_type = task_type
        self.known = known
        listed = f"; known are {', '.join(sorted(known))}" if known else ""
        super().__init__(f"unknown task type {task_type!r}{listed}")


class InvalidPayloadError(UsageError):
    """A payload does not fit its task type; the text names fields, never their values."""


class InvalidOptionsError(UsageError):
    """An option of `enqueue` is out of range."""


class RegistrationError(UsageError):
    """A task definition or a task module cannot be registered."""


class ScheduleError(UsageError):
    """A schedule cannot be as it is wanted: its expression, zone, times or policies; the text says how to mend it."""


class RetentionError(UsageError):
    """A retention policy or hold cannot be as it is wanted; the text says how to mend it."""


class ConstraintError(UsageError):
    """A row breaks a rule of the schema.

    `table` is schema and name; `constraint` the rule's name, or the column's where a value is required.
    """

    def __init__(self, table: str, constraint: str) -> None:
        self.table = table
        self.constraint = constraint
        super().__init__(self._say())

    def _say(self) -> str:
        return f"a row of {self.table} breaks the rule {self.constraint} (docs/data-model.md lists them)"


class DuplicateError(ConstraintError):
    """A unique key of a table is taken by another row."""

    def _say(self) -> str:
        return f"{self.table} has a row of this key already ({self.constraint})"


class MissingMonthError(ConstraintError):
    """A row's time is in a month that its table does not have; the rule is `month`."""

    def __init__(self, table: str) -> None:
        super().__init__(table, "month")

    def _say(self) -> str:
        return (
            f"{self.table} has no month for the row's time: for history, have the system role call"
            f" ops.create_months_of('{self.table}', since, until); months ahead are the relay's to make"
        )


class MissingRowError(ConstraintError):
    """A row refers to one that does not exist, is another tenant's, or is still referred to itself."""

    def _say(self) -> str:
        return f"a row of {self.table} refers to what is not there, or is still referred to ({self.constraint})"


class StaleVersionError(GreenroomError):
    """A row was written by somebody else since it was read: read it again.

    `table` is schema and name; None where a SQLAlchemy session noticed, which does not say.
    """

    def __init__(self, table: str | None = None) -> None:
        self.table = table
        what = f"a row of {table}" if table else "a row"
        super().__init__(f"{what} was changed since it was read: read it again and repeat the change")


class NotFoundError(GreenroomError):
    """The row that was asked for does not exist or belongs to another tenant."""


class PermanentError(GreenroomError):
    """The attempt failed in a way that repeating cannot mend: the task becomes `failed` at once."""


class RetryableError(GreenroomError):
    """The attempt failed and may succeed later; `retry_after` is the earliest useful moment, if known."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(message)


class UnavailableError(RetryableError):
    """A database, broker or remote service does not answer; waiting may help."""


class RateLimitedError(RetryableError):
    """A provider refuses for now (429, 503): `key` is the limit key of the tasks that go to it, and all of them wait.

    The attempt is not counted; the task waits for `pause`, and so does every other of that key.
    """

    UNKNOWN_PAUSE: ClassVar[timedelta] = timedelta(seconds=30)
    LONGEST_PAUSE: ClassVar[timedelta] = timedelta(hours=1)

    def __init__(self, key: str, message: str = "", *, retry_after: timedelta | None = None) -> None:
        if not 1 <= len(key) <= 200 or key == "*":
            raise ValueError("the key of a RateLimitedError is a limit key: 1 to 200 characters and not *")
        self.key = key
        super().__init__(message or f"{key} refuses for now", retry_after=retry_after)

    @property
    def pause(self) -> timedelta:
        """For how long nothing of the key is to be tried: what the provider asked for, at most LONGEST_PAUSE."""
        wanted = self.UNKNOWN_PAUSE if self.retry_after is None else self.retry_after
        return min(max(wanted, timedelta(0)), self.LONGEST_PAUSE)


class TimeLimitError(GreenroomError):
    """The attempt ran for longer than its task type allows."""

    def __init__(self, message: str = "the attempt ran for longer than its time limit") -> None:
        super().__init__(message)


class WaitTimeoutError(GreenroomError):
    """The awaited task has not ended in time; it goes on by itself."""


class SchemaError(GreenroomError):
    """The database's schema is missing, older or newer than this program."""


class EmbeddedServerError(GreenroomError):
    """The embedded PostgreSQL server cannot do what was asked; the text says what to do."""


class InterruptionError(BaseException):
    """Base of what is raised in a handler's thread to end it. A handler may clean up, and has to let it pass."""


class TaskCancelledError(InterruptionError):
    """The task was asked to end while it ran."""


class AttemptLostError(InterruptionError):
    """Another claim owns the task by now: nothing that this attempt computes can be written."""


def raised_at(error: BaseException) -> str:
    """Return `module:line` of where an error was raised, "" for one that was not; holds no data of the raiser."""
    trace = error.__traceback__
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_globals.get('__name__', '?')}:{trace.tb_lineno}"
