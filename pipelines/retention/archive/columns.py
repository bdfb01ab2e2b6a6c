"""Postgres' values as Arrow's, and back to text that Postgres reads as the same values.

Integers, floats, booleans, times and dates have Arrow's own types; everything else is Postgres' own text. A time that
is infinite is the greatest or least number of its type, as in Postgres itself.
"""

import re
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.retention.archive.errors import UnfitValueError

TEXT: Final = pa.large_string()
_MOMENT, _DAY = pa.timestamp("us", tz="UTC"), pa.date32()
_TYPES: Final[dict[str, pa.DataType]] = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "boolean": pa.bool_(),
    "timestamp with time zone": _MOMENT,
    "date": _DAY,
}
_TIME: Final = re.compile(r"(\d+)-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?\+00)?( BC)?")
_DAY_MICROS: Final = 86_400_000_000
# The years that Arrow reads and writes by itself: 1 to 9999.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file: its name, and the type that it has in Postgres, beneath a domain."""

    name: str
    type: str

    @property
    def arrow(self) -> pa.DataType:
        """The type that it has in a file."""
        return _TYPES.get(self.type, TEXT)

    @property
    def parsed(self) -> pa.DataType:
        """The type that it is read from COPY's text as: times are text first."""
        return TEXT if self.arrow in (_MOMENT, _DAY) else self.arrow


def from_text(values: pa.ChunkedArray, column: Column) -> pa.Array:
    """Return a column as it stands in a file, of its `parsed` values; raises UnfitValueError for a time beyond it."""
    array = values.combine_chunks()
    if column.arrow == column.parsed:
        return array
    raw = pa.int64() if column.arrow == _MOMENT else pa.int32()
    is_plain = pc.match_substring_regex(array, r"^\d{4}-[^B]*$")
    known = pc.if_else(is_plain, array, pa.scalar(None, TEXT)).cast(column.arrow).cast(raw)
    if known.null_count == array.null_count:
        return known.cast(column.arrow)
    ends = (_end(raw, True), _end(raw, False))
    patched = [
        number if number is not None or text is None else _number(text, column, ends)
        for number, text in zip(known.to_pylist(), array.to_pylist(), strict=True)
    ]
    return pa.array(patched, raw).cast(column.arrow)


def to_text(array: pa.Array, column: Column) -> pa.Array:
    """Return a column of a file as text, or as numbers and truth values, that COPY reads as the same values."""
    if column.arrow == column.parsed:
        return array
    raw = pa.int64() if column.arrow == _MOMENT else pa.int32()
    numbers, unit = array.cast(raw), _DAY_MICROS if column.arrow == _MOMENT else 1
    is_plain = pc.and_(
        pc.greater_equal(numbers, pa.scalar(_FIRST_DAY * unit, raw)),
        pc.less(numbers, pa.scalar((_LAST_DAY + 1) * unit, raw)),
    )
    known = pc.if_else(is_plain, array, pa.scalar(None, column.arrow)).cast(TEXT)
    if known.null_count == array.null_count:
        return known
    ends = {_end(raw, True): "infinity", _end(raw, False): "-infinity"}
    patched = [
        text if text is not None or number is None else ends.get(number) or _spelt(number, unit)
        for text, number in zip(known.to_pylist(), numbers.to_pylist(), strict=True)
    ]
    return pa.array(patched, TEXT)


def _end(raw: pa.DataType, is_last: bool) -> int:
    bits = raw.bit_width - 1
    return int(2**bits - 1) if is_last else int(-(2**bits))


def _number(text: str, column: Column, ends: tuple[int, int]) -> int:
    """Return a time that Arrow cannot read, as a number of its type."""
    if text in ("infinity", "-infinity"):
        return ends[text.startswith("-")]
    found = _TIME.fullmatch(text)
    if found is None:
        raise UnfitValueError(f"column {column.name} has a time in a form that is not Postgres' own ISO form in UTC")
    year, month, day, hour, minute, second = (int(part or 0) for part in found.groups()[:6])
    days = _days(1 - year if found[8] else year, month, day)
    number = days
    if column.arrow == _MOMENT:
        micros = int((found[7] or "").ljust(6, "0"))
        number = days * _DAY_MICROS + ((hour * 60 + minute) * 60 + second) * 1_000_000 + micros
    if not ends[1] < number < ends[0]:
        raise UnfitValueError(
            f"column {column.name} has a time beyond the year 292277, which no archive holds: mend it"
        )
    return number


def _spelt(number: int, unit: int) -> str:
    """Return a time of a year that Arrow cannot write as Postgres reads it."""
    days, micros = divmod(number, unit)
    year, month, day = _civil(days)
    name, era = (year, "") if year > 0 else (1 - year, " BC")
    seconds, fraction = divmod(micros, 1_000_000)
    clock = f" {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}+00" if unit > 1 else ""
    return f"{name:04}-{month:02}-{day:02}{clock}{era}"


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 of a date of the proleptic Gregorian calendar (Hinnant, days_from_civil)."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _civil(days: int) -> tuple[int, int, int]:
    """The date of so many days since 1970 (Hinnant, civil_from_days)."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1
