"""`python -m tests.faults.anew NAME=VALUE … MODULE …`: this process as a fresh interpreter that runs a module.

A library that is to be preloaded (faketime) reaches no fork of a running interpreter.
"""

import os
import sys


def main() -> None:
    """Take over the environment, and begin again."""
    given = [text for text in sys.argv[1:] if "=" in text]
    os.environ.update({name: value for name, _, value in (text.partition("=") for text in given)})
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1 + len(given) :]])  # noqa: S606 - without a shell


if __name__ == "__main__":
    main()
