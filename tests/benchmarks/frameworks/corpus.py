"""Texts that are on every machine that can run this: docstrings of the standard library and of what is installed."""

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_LEAST_CHARACTERS = 2_000
_MOST_CHARACTERS = 30_000


def write_texts(folder: Path, count: int) -> int:
    """Write so many texts, one a module, into a folder; return their characters in all."""
    written = 0
    for number, text in enumerate(_texts(count)):
        (folder / f"text-{number:05}.txt").write_text(text)
        written += len(text)
    return written


def _texts(count: int) -> Iterator[str]:
    paths = sysconfig.get_paths()
    seen: set[str] = set()
    for root in (paths["stdlib"], paths["purelib"]):
        for path in sorted(Path(root).rglob("*.py")):
            if len(seen) == count:
                return
            if root == paths["stdlib"] and "site-packages" in path.parts:
                continue
            text = _docstrings(path)[:_MOST_CHARACTERS]
            if len(text) >= _LEAST_CHARACTERS and text not in seen:
                seen.add(text)
                yield text
    raise SystemExit(f"there are {len(seen)} modules with enough to read, not {count}")


def _docstrings(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_text(errors="replace"))
        except (SyntaxError, ValueError):  # a file that tests how they are refused
            return ""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = [ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds)]
    return "\n\n".join(docstring for docstring in found if docstring).replace("\0", "")
