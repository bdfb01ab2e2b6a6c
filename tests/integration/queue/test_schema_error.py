"""`queue.schema_error` against pydantic's own verdict, case by case, for every kind of field that payloads use."""

import json
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from tests.support.database import Database


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    x: int


class Model(BaseModel):
    """Every kind of field that payloads use."""

    model_config = ConfigDict(extra="forbid", strict=False)

    text: str = Field("ab", min_length=2, max_length=4)
    whole: int = Field(5, ge=0, lt=10)
    real: float = Field(0.5, gt=0, le=1)
    flag: bool = False
    ref: UUID | None = None
    when: datetime | None = None
    word: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    inner: Inner | None = None
    tags: list[str] = Field(default_factory=list, min_length=0, max_length=2)
    counts: dict[str, int] = Field(default_factory=dict)
    either: int | str = 0


CASES: list[Any] = [
    {},
    [],
    "text",
    None,
    {"text": "abc"}, {"text": "a"}, {"text": "abcde"}, {"text": 5}, {"text": None}, {"text": "äöüß"},
    {"whole": 0}, {"whole": 9}, {"whole": 10}, {"whole": -1}, {"whole": 1.5}, {"whole": None}, {"whole": [1]},
    {"real": 1}, {"real": 0}, {"real": 0.001}, {"real": 1.01}, {"real": {}},
    {"flag": True}, {"flag": []},
    {"ref": "3b1f6c1e-9d2a-4d0e-8a52-1f2f3a4b5c6d"}, {"ref": "x"}, {"ref": 5}, {"ref": None},
    {"when": "2026-01-01T00:00:00Z"}, {"when": "not a date at all"}, {"when": None},
    {"word": "a"}, {"word": "c"}, {"word": 1},
    {"colour": "blue"}, {"colour": "green"},
    {"inner": {"x": 1}}, {"inner": {}}, {"inner": {"x": 1, "y": 2}}, {"inner": {"x": "no"}},
    {"inner": None}, {"inner": []},
    {"tags": []}, {"tags": ["a", "b"]}, {"tags": ["a", "b", "c"]}, {"tags": [1]}, {"tags": "a"}, {"tags": {}},
    {"counts": {"a": 1}}, {"counts": {"a": "x"}}, {"counts": []},
    {"either": 1}, {"either": "x"}, {"either": []},
    {"unknown": 1},
]  # fmt: skip


def verdict(database: Database, schema: dict[str, Any], value: Any) -> str | None:
    query = "SELECT queue.schema_error(%(s)s::jsonb, %(v)s::jsonb, %(s)s::jsonb, '')"
    found = database.value(query, {"s": json.dumps(schema), "v": json.dumps(value)})
    return None if found is None else str(found)


def accepts(model: Any, value: Any) -> bool:
    try:
        TypeAdapter(model).validate_json(json.dumps(value))
    except ValidationError:
        return False
    return True


def test_it_agrees_with_pydantic(database: Database) -> None:
    schema = Model.model_json_schema()
    differing = [
        (value, found)
        for value in CASES
        if ((found := verdict(database, schema, value)) is None) != accepts(Model, value)
    ]
    assert differing == []


def test_it_names_the_field_and_never_the_value(database: Database) -> None:
    schema = Model.model_json_schema()
    for value, field in (
        ({"text": "toolongsecret"}, "text"),
        ({"inner": {"x": "secret"}}, "inner"),
        ({"tags": ["a", 5]}, "tags[1]"),
    ):
        found = verdict(database, schema, value)
        assert found is not None
        assert field in found
        assert "secret" not in found


@pytest.mark.parametrize("depth", [50])
def test_a_recursive_schema_ends_with_its_value(database: Database, depth: int) -> None:
    schema = {
        "$defs": {
            "N": {
                "type": "object",
                "properties": {"n": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}},
                "required": ["n"],
            }
        },
        "$ref": "#/$defs/N",
    }
    value: Any = None
    for _ in range(depth):
        value = {"n": value}
    assert verdict(database, schema, value) is None
    assert verdict(database, schema, {"n": {}}) is not None
