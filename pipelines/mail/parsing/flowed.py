"""Text that is format=flowed (RFC 3676): lines that were broken to be sent are joined again."""

from typing import Final

_SIGNATURE: Final = "-- "


def unflow(text: str, *, deletes_space: bool) -> str:
    """Return the text with its paragraphs in one line each; quotes keep their depth."""
    done: list[str] = []
    flowing: list[str] = []
    depth = 0
    for line in text.split("\n"):
        here, words = _depth(line)
        if flowing and (here != depth or words == _SIGNATURE):
            done.append(_joined(depth, flowing))
            flowing = []
        depth = here
        if words.endswith(" ") and words != _SIGNATURE:
            flowing.append(words[:-1] if deletes_space else words)
        else:
            done.append(_joined(depth, [*flowing, words]))
            flowing = []
    return "\n".join([*done, _joined(depth, flowing)] if flowing else done)


def _depth(line: str) -> tuple[int, str]:
    """Return how deep a line is quoted, and its words without the blank that it was stuffed with."""
    words = line.lstrip(">")
    return len(line) - len(words), words.removeprefix(" ")


def _joined(depth: int, words: list[str]) -> str:
    line = "".join(words)
    return f"{'>' * depth} {line}" if depth else line
