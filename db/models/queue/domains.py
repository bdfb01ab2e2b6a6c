"""The queue's domains: bounds of one column; Postgres keeps them parsed for a session, unlike a CHECK."""

from typing import Any

from sqlalchemy import REAL, Dialect, Integer, SmallInteger, Text
from sqlalchemy.dialects.postgresql import DOMAIN, JSONB, TIMESTAMP
from sqlalchemy.types import TypeEngine


class Domain(DOMAIN):
    """A domain of the schema queue, made by migrations; values are bound as those of the type beneath."""

    def bind_processor(self, dialect: Dialect) -> Any:
        """Return how the type beneath is sent."""
        return self.data_type.dialect_impl(dialect).bind_processor(dialect)


def _domain(name: str, beneath: TypeEngine[Any], check: str) -> Domain:
    return Domain(name, beneath, schema="queue", check=check, create_type=False)


SHORT_NAME = _domain("short_name", Text(), "length(VALUE) BETWEEN 1 AND 100")
KEY_TEXT = _domain("key_text", Text(), "length(VALUE) BETWEEN 1 AND 200")
LIMIT_KEY = _domain("limit_key", Text(), "length(VALUE) BETWEEN 1 AND 200 AND VALUE <> '*'")
LARGE_JSON = _domain("large_json", JSONB(), "pg_column_size(VALUE) <= 1048576")
SMALL_JSON = _domain("small_json", JSONB(), "pg_column_size(VALUE) <= 65536")
PRIORITY = _domain("priority", SmallInteger(), "VALUE BETWEEN -100 AND 100")
ATTEMPT_LIMIT = _domain("attempt_limit", SmallInteger(), "VALUE BETWEEN 1 AND 100")
WHOLE_NUMBER = _domain("whole_number", Integer(), "VALUE >= 0")
SHARE = _domain("share", REAL(), "VALUE BETWEEN 0 AND 1")
DUE_AT = _domain("due_at", TIMESTAMP(timezone=True), "VALUE >= '1970-01-01 00:00+00' AND VALUE < '9999-01-01 00:00+00'")
TEXT_50 = _domain("text_50", Text(), "length(VALUE) <= 50")
TEXT_512 = _domain("text_512", Text(), "length(VALUE) <= 512")
TEXT_1000 = _domain("text_1000", Text(), "length(VALUE) <= 1000")
TEXT_2000 = _domain("text_2000", Text(), "length(VALUE) <= 2000")
TEXT_10000 = _domain("text_10000", Text(), "length(VALUE) <= 10000")
TEXT_20000 = _domain("text_20000", Text(), "length(VALUE) <= 20000")
