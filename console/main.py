"""The entry point: parses the call, runs the command, and turns errors into a sentence and an exit status.

0 success · 1 failure · 2 wrong call. No traceback reaches a user, unless it was asked for with --debug.
"""

import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from console import output
from console.commands import (
    bench,
    collections,
    database,
    demo,
    doctor,
    documents,
    embeddings,
    enqueue,
    health,
    ingest,
    mail,
    mailboxes,
    memory,
    processes,
    queues,
    retention,
    schedules,
    search,
    statistics,
    tasks,
    tenants,
    up,
)
from console.runtime import end
from console.signals import INTERRUPTED, interrupt_on_signals
from core.errors import GreenroomError, UsageError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True, rich_markup_mode=None)
app.command()(up.up)
app.command()(demo.demo)
app.command()(ingest.ingest)
app.add_typer(tenants.app, name="tenants")
app.add_typer(documents.app, name="documents")
app.add_typer(collections.app, name="collections")
app.command()(search.search)
app.command()(search.feedback)
app.add_typer(memory.app, name="memory")
app.add_typer(embeddings.app, name="embeddings")
app.command()(enqueue.enqueue)
app.add_typer(tasks.app, name="tasks")
app.add_typer(queues.app, name="queues")
app.add_typer(schedules.app, name="schedules")
app.add_typer(retention.app, name="retention")
app.add_typer(mailboxes.app, name="mailboxes")
mailboxes.app.command("watch")(processes.watch)
app.add_typer(mail.app, name="mail")
app.command("statistics")(statistics.show)
app.command("health")(health.show)
app.command()(processes.relay)
app.command()(processes.worker)
app.command()(processes.scheduler)
app.add_typer(database.app, name="db")
app.command()(doctor.doctor)
app.command()(bench.bench)


@app.callback()
def greenroom(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the traceback of an unexpected error.")] = False,
) -> None:
    """Background jobs and data pipelines: write a row, the work gets done."""


def main() -> None:
    """Run the command line and end the process with its exit status."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run one call and return its exit status."""
    interrupt_on_signals()
    try:
        return _run(arguments)
    finally:
        end()


def _run(arguments: Sequence[str]) -> int:
    if list(arguments) == ["--version"]:
        _show_version()
        return 0
    try:
        return _exit_status(
            typer.main.get_command(app).main(list(arguments), prog_name="greenroom", standalone_mode=False)
        )
    except typer.TyperException as error:
        return _refuse(error)
    except GreenroomError as error:
        output.show_error(str(error))
        _trace(arguments)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        output.silence()
        return 1
    except (KeyboardInterrupt, typer.Abort):
        return _exit_status(INTERRUPTED)
    except UnicodeEncodeError as error:
        output.show_error(f"{error.object!r} holds bytes that are no UTF-8: write it as text")
        _trace(arguments)
        return 2
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        output.show_error(f"unexpected {type(error).__name__}: {first}; `greenroom --debug …` shows where")
        _trace(arguments)
        return 1


def _exit_status(returned: object) -> int:
    if returned == INTERRUPTED:
        output.show_error("interrupted; what was enqueued stays enqueued")
        return 1
    return returned if isinstance(returned, int) else 0


def _refuse(error: typer.TyperException) -> int:
    """Say what is wrong with a call, and where the help is."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "greenroom"
    message = str(getattr(error, "format_message", lambda: error)())
    if type(error).__name__ == "NoArgsIsHelpError":
        output.note(message)
    else:
        output.show_error(f"{message.rstrip('.')}; see `{path} --help`")
    return int(getattr(error, "exit_code", 2))


def _show_version() -> None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        output.show_line(f"greenroom {version('greenroom')}")
    except PackageNotFoundError:
        output.show_line("greenroom, from a folder that is not installed")


def _trace(arguments: Sequence[str]) -> None:
    if "--debug" in arguments:
        output.show_traceback(traceback.format_exc())


if __name__ == "__main__":
    main()
