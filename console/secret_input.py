"""How a command is given a secret: from the environment, from standard input, or asked for; never as an argument.

What stands in a call is seen by whoever lists processes, and kept by the shell's history.
"""

import getpass
import os
import sys

from core.errors import UsageError

STDIN = "-"


def read_secret(source: str | None, what: str) -> str:
    """Return a secret: of the environment's variable of that name, of standard input (`-`), or of who is asked.

    Raises UsageError where there is none, or nobody to ask.
    """
    if source is None and not sys.stdin.isatty():
        raise UsageError(f"there is no {what}: name the variable of the environment that holds it, or - to read it")
    if source is None:
        found = getpass.getpass(f"{what}: ")
    elif source == STDIN:
        found = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    else:
        found = os.environ.get(source, "")
    if not found:
        raise UsageError(f"the {what} is empty" if source in (None, STDIN) else f"the environment has no {source}")
    return found
