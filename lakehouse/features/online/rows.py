"""One entity's features as the online store keeps them: a key and a value of bytes, packed by DuckDB where there are many.

A value is a head of five numbers, which compare as their bytes do, and a JSON array of the features in the view's order. Of two values for
a key the store keeps the greater: the head begins with what says which is newer. A value without features says that there are none.
"""

import json
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import orjson

from lakehouse.errors import FeatureError
from lakehouse.sql import quote_identifier

_HEAD = struct.Struct(">QQQQQ")
_MIDDLE = 1 << 63
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
NEVER = -_MIDDLE
"""The instant of what was always true."""
_BITS = {"TINYINT": 8, "SMALLINT": 16, "INTEGER": 32, "BIGINT": 64}
_INTEGERS = frozenset(_BITS)
_FLOATS = frozenset({"FLOAT", "DOUBLE"})
_NAIVE, _AWARE = "TIMESTAMP", "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True, slots=True)
class Typed:
    """A column with its DuckDB type."""

    name: str
    type: str


class Packed(NamedTuple):
    """A value, taken apart but for its features; a tuple, because it is made for every row that is served. Instants are microseconds since 1970.

    Attributes:
        rank: two numbers that say which of two values is the newer one.
        event_us: from when the features were true.
        known_us: from when they were known.
        written_us: when they came to the store.
        payload: the features, as JSON; empty where there are none.
    """

    rank: tuple[int, int]
    event_us: int
    known_us: int
    written_us: int
    payload: bytes

    @classmethod
    def of(cls, value: bytes) -> "Packed":
        """The value that `pack` made."""
        first, second, event, known, written = _HEAD.unpack_from(value)
        rank = (first - _MIDDLE, second - _MIDDLE)
        return cls(rank, event - _MIDDLE, known - _MIDDLE, written - _MIDDLE, value[_HEAD.size :])


def pack(*, rank: tuple[int, int], event_us: int, known_us: int, written_us: int, payload: bytes) -> bytes:
    """The bytes of a value."""
    numbers = (rank[0], rank[1], event_us, known_us, written_us)
    return _HEAD.pack(*(number + _MIDDLE for number in numbers)) + payload


def microseconds(instant: datetime) -> int:
    """Since 1970; without a zone the instant is taken as UTC."""
    aware = instant if instant.tzinfo is not None else instant.replace(tzinfo=UTC)
    return (aware - EPOCH) // _MICROSECOND


def instant_of(microseconds: int) -> datetime | None:
    """The instant, None for what was always true."""
    return None if microseconds == NEVER else EPOCH + timedelta(microseconds=microseconds)


# ---- keys


def key_sql(view: str, entity: Sequence[Typed], *, prefix: str = "") -> str:
    """SQL of the key of an entity; as `key_of`.

    Args:
        view: named in errors.
        entity: its columns.
        prefix: what stands before a column's number instead of its name, such as `__e`.

    Raises:
        FeatureError: a column's type can't be part of a key.
    """
    texts = []
    for place, column in enumerate(entity):
        _require_key_type(view, column)
        name = f"{prefix}{place}" if prefix else quote_identifier(column.name)
        texts.append(_key_text_sql(name, column.type))
    if len(texts) == 1:
        return f"encode({texts[0]})"
    return f"encode({' || '.join(f'strlen({text}) || {chr(39)}:{chr(39)} || {text}' for text in texts)})"


def _key_text_sql(name: str, kind: str) -> str:
    if kind in (_NAIVE, _AWARE):
        return f"CAST(epoch_us({name}) AS VARCHAR)"
    if kind in _FLOATS:
        # As Python writes them; the two zeros are one, and so is what is no number.
        return f"CASE WHEN isnan({name}) THEN 'nan' ELSE CAST(CAST({name} AS DOUBLE) + 0.0 AS VARCHAR) END"
    return f"lower(hex({name}))" if kind == "BLOB" else f"CAST({name} AS VARCHAR)"


def key_of(view: str, entity: Sequence[Typed], values: Mapping[str, Any]) -> bytes:
    """The key of an entity; its values may be text, as a command line gives them.

    Raises:
        FeatureError: a value is missing, or is none of its column's type.
    """
    texts: list[bytes] = []
    for column in entity:
        if values.get(column.name) is None:
            raise FeatureError(
                f"feature view {view}",
                f"is asked for an entity without {column.name}",
                expected=", ".join(one.name for one in entity),
                found=", ".join(values) or "nothing",
            )
        texts.append(_key_bytes(view, column, values[column.name]))
    return texts[0] if len(texts) == 1 else b"".join(b"%d:%b" % (len(text), text) for text in texts)


def entity_of(entity: Sequence[Typed], key: bytes) -> tuple[str, ...] | None:
    """The values of an entity's columns in a key, as text (an instant is microseconds since 1970); None where the key is no such entity's."""
    try:
        if len(entity) == 1:
            return (key.decode(),)
        texts: list[str] = []
        rest = key
        while rest:
            length, _, rest = rest.partition(b":")
            texts.append(rest[: int(length)].decode())
            rest = rest[int(length) :]
    except ValueError:
        return None
    return tuple(texts) if len(texts) == len(entity) else None


def _key_bytes(view: str, column: Typed, value: Any) -> bytes:
    try:
        return _key_text(view, column, value).encode()
    except UnicodeEncodeError as error:
        # Half of a pair of code units, as JSON can write it and no text has it.
        raise _no_text(view, column, error) from error


def _no_text(view: str, column: Typed, error: UnicodeEncodeError) -> FeatureError:
    found = repr(error.object[error.start : error.end])
    return FeatureError(f"feature view {view}: {column.name}", "is given what is no text", expected="Unicode", found=found)


def _key_text(view: str, column: Typed, value: Any) -> str:  # noqa: PLR0911 - one line per type.
    _require_key_type(view, column)
    try:
        if column.type == "VARCHAR":
            return str(value)
        if column.type in _INTEGERS:
            if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
                raise ValueError(value)
            return str(int(value))
        if column.type == "BOOLEAN":
            return {"true": "true", "false": "false"}[str(value).lower()]
        if column.type == "DATE":
            return (value if type(value) is date else date.fromisoformat(str(value)[:10])).isoformat()
        if column.type in _FLOATS:
            return repr(_as_float(column.type, value) + 0.0)
        if column.type == "BLOB":
            return (value if isinstance(value, bytes) else bytes.fromhex(value)).hex()
        if column.type in (_NAIVE, _AWARE):
            return str(microseconds(value if isinstance(value, datetime) else datetime.fromisoformat(str(value))))
        scale = int(column.type.rstrip(")").partition(",")[2] or 0)
        return f"{Decimal(str(value)).quantize(Decimal(1).scaleb(-scale)):f}"
    except (ValueError, TypeError, KeyError, InvalidOperation, OverflowError) as error:
        problem = "is asked for an entity that can't be"
        raise FeatureError(f"feature view {view}: {column.name}", problem, expected=column.type, found=repr(value)) from error


def _as_float(kind: str, value: Any) -> float:
    """The number that a column of this type holds."""
    number = float(value)
    return float(struct.unpack("f", struct.pack("f", number))[0]) if kind == "FLOAT" else number


def _require_key_type(view: str, column: Typed) -> None:
    plain = {*_INTEGERS, *_FLOATS, "VARCHAR", "BOOLEAN", "DATE", "BLOB", _NAIVE, _AWARE}
    if column.type in plain or (column.type.startswith("DECIMAL") and not column.type.endswith("]")):
        return
    raise FeatureError(
        f"feature view {view}: {column.name}",
        "can't be the key of an online store",
        expected="a single value: text, a number, a date, an instant",
        found=column.type,
        fix="Cast it in the dbt model, or say online: false",
    )


# ---- features


def payload_sql(features: Sequence[Typed], *, prefix: str = "") -> str:
    """SQL of the JSON array of features; what JSON has no number for is text, and an instant is microseconds since 1970."""
    names = [f"{prefix}{place}" if prefix else quote_identifier(one.name) for place, one in enumerate(features)]
    encoded = ", ".join(_json_sql(name, one.type) for name, one in zip(names, features, strict=True))
    return f"encode(CAST(json_array({encoded}) AS VARCHAR))"


def _json_sql(name: str, kind: str) -> str:
    if kind in _FLOATS:
        return f"CASE WHEN isfinite({name}) THEN to_json({name}) ELSE to_json(CAST({name} AS VARCHAR)) END"
    if kind in (_NAIVE, _AWARE):
        return f"CASE WHEN isfinite({name}) THEN to_json(epoch_us({name})) ELSE to_json(CAST({name} AS VARCHAR)) END"
    if kind in _INTEGERS or kind in {"BOOLEAN", "VARCHAR"}:
        return name
    if kind == "BLOB":
        return f"to_json(lower(hex({name})))"
    return f"to_json(CAST({name} AS VARCHAR))" if kind == "DATE" or kind.startswith("DECIMAL") else f"to_json({name})"


def encoded(view: str, feature: Typed, value: Any) -> Any:  # noqa: PLR0911 - one line per type.
    """A value from Python as `payload_sql` would have it in its array.

    Raises:
        FeatureError: the value is none of the feature's type.
    """
    if value is None:
        return None
    kind = feature.type
    if (
        kind in _INTEGERS
        and isinstance(value, int)
        and not isinstance(value, bool)
        and -1 << _BITS[kind] - 1 <= value < 1 << _BITS[kind] - 1
    ):
        return value
    if kind in _FLOATS and isinstance(value, int | float) and not isinstance(value, bool) and (number := _rounded(kind, value)) is not None:
        return number if math.isfinite(number) else str(number)
    if kind == "VARCHAR" and isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _no_text(view, feature, error) from error
        return value
    if kind == "BOOLEAN" and isinstance(value, bool):
        return value
    if kind in (_NAIVE, _AWARE) and isinstance(value, datetime) and is_servable(value):
        return microseconds(value)
    if kind == "DATE" and isinstance(value, date):
        return value.isoformat()[:10]
    if kind == "BLOB" and isinstance(value, bytes):
        return value.hex()
    if kind.startswith("DECIMAL") and isinstance(value, Decimal | int) and not isinstance(value, bool) and _has_room(kind, value):
        return _key_text(view, feature, value)
    if isinstance(value, list | dict) and (kind.endswith("]") or kind.startswith(("STRUCT", "MAP"))):
        return value
    raise FeatureError(f"feature view {view}: {feature.name}", "is given a value of another type", expected=kind, found=repr(value))


def is_servable(instant: datetime) -> bool:
    """Whether an instant has a year from 1 to 9999 in UTC too, as whoever reads it has to write it."""
    try:
        instant_of(microseconds(instant))
    except OverflowError:
        return False
    return True


def _has_room(kind: str, value: Decimal | int) -> bool:
    """Whether a DECIMAL(18,3) has enough digits in front of the point."""
    digits, _, scale = kind.removeprefix("DECIMAL").strip("()").partition(",")
    number = Decimal(value)
    return number.is_finite() and abs(number) < Decimal(10) ** (int(digits or 18) - int(scale or 0))


def _rounded(kind: str, value: float) -> float | None:
    """The number as its type holds it; None where it is too large for it."""
    try:
        return _as_float(kind, value)
    except OverflowError:
        return None


def from_json(feature: Typed, value: Any) -> Any:
    """What a JSON document says of a feature, as Python has it; what is none of its type stays as it is."""
    kind = feature.type
    try:
        if isinstance(value, str):
            if kind in (_NAIVE, _AWARE):
                return datetime.fromisoformat(value)
            if kind == "DATE":
                return date.fromisoformat(value)
            if kind == "BLOB":
                return bytes.fromhex(value)
        is_number = isinstance(value, str | int | float) and not isinstance(value, bool)
        return Decimal(str(value)) if kind.startswith("DECIMAL") and not kind.endswith("]") and is_number else value
    except (ValueError, InvalidOperation):
        return value


def decoded(feature: Typed, value: Any) -> Any:
    """A value of the array as Python has it; inside of lists and structs it stays what JSON has."""
    if value is None:
        return None
    kind = feature.type
    if kind in _FLOATS:
        return float(value)
    if kind in (_NAIVE, _AWARE) and isinstance(value, int):
        found = EPOCH + timedelta(microseconds=value)
        return found if kind == _AWARE else found.replace(tzinfo=None)
    if kind == "DATE" and value[:1].isdigit() and len(value) == 10:
        return date.fromisoformat(value)
    if kind == "BLOB":
        return bytes.fromhex(value)
    return Decimal(value) if kind.startswith("DECIMAL") and not kind.endswith("]") else value


_AS_IN_JSON: Mapping[str, type] = {
    **dict.fromkeys(_INTEGERS, int),
    **dict.fromkeys(_FLOATS, float),
    "BOOLEAN": bool,
    "VARCHAR": str,
}
_NESTED = ("STRUCT", "MAP", "UNION")


class Layout:
    """The features of a view in their order, to take many arrays apart with as little work as possible."""

    __slots__ = ("_features", "_load", "_types", "names")

    def __init__(self, features: Sequence[Typed]) -> None:
        self._features = tuple(features)
        self.names = tuple(feature.name for feature in features)
        # None is no value's type: an array with such a column is looked at value by value.
        self._types = [_AS_IN_JSON.get(feature.type) for feature in features]
        # orjson takes a thirteenth of the time, but has no whole numbers of more than 64 bits.
        is_exact = not any(
            one.type in {"HUGEINT", "UHUGEINT"} or one.type.endswith("]") or one.type.startswith(_NESTED) for one in features
        )
        self._load: Callable[[bytes], list[Any]] = orjson.loads if is_exact else json.loads

    def features_in(self, payload: bytes) -> dict[str, Any]:
        """The features in an array's bytes, by name."""
        return self.features_of(self._load(payload))

    def features_of(self, values: Sequence[Any]) -> dict[str, Any]:
        """The features in an array, by name."""
        if list(map(type, values)) != self._types:
            values = [decoded(feature, value) for feature, value in zip(self._features, values, strict=True)]
        return dict(zip(self.names, values, strict=True))


def as_payload(values: Sequence[Any]) -> bytes:
    """The array's bytes."""
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).encode()
