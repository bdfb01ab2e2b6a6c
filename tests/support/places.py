"""What a map may name that is no object of the database: a file, a part of a module, a setting, a command, a task."""

import importlib
from pathlib import Path
from typing import Any

import typer

from console.main import app
from core.errors import UnknownTaskTypeError
from pipelines.registry import load_registry

ROOT = Path(__file__).parents[2]


def is_place(name: str) -> bool:
    """Tell whether the program has what bears a name."""
    if "/" in name:
        return (ROOT / name).exists()
    if name.startswith("GREENROOM_"):
        return f"`{name}`" in (ROOT / "docs" / "settings.md").read_text()
    if name.startswith("greenroom "):
        return _is_command(name.split()[1:])
    return _is_task_type(name) or _is_member(name)


def _is_command(words: list[str]) -> bool:
    found: Any = typer.main.get_command(app)
    for word in words:
        found = getattr(found, "commands", {}).get(word)
    return found is not None


def _is_task_type(name: str) -> bool:
    try:
        load_registry().get(name)
    except UnknownTaskTypeError:
        return False
    return True


def _is_member(name: str) -> bool:
    """Tell whether a dotted name is a module, or what stands in one."""
    module, _, member = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return bool(module) and _is_module(module) and hasattr(importlib.import_module(module), member)
    return True


def _is_module(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True
