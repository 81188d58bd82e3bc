"""What PostgreSQL's plugin `pgoutput` says of changes (protocol version 1), read from what `COPY ... (FORMAT binary)` has written."""

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final

_COPY_BEGINS = b"PGCOPY\n\xff\r\n\x00"
_HEADER = struct.Struct("!ii")
_FIELD = struct.Struct("!hi")
_COUNT = struct.Struct("!h")
_LENGTH = struct.Struct("!i")
_OID = struct.Struct("!I")
_BEGIN = struct.Struct("!QqI")
_COMMIT = struct.Struct("!BQQq")
_COLUMN = struct.Struct("!Ii")
_TRUNCATE = struct.Struct("!IB")
_ENDS = -1
_NULL, _UNCHANGED, _TEXT = b"nut"
_NEW, _KEY, _OLD = b"NKO"
# Of types and origins, nothing is needed.
_PASSED_OVER = b"YOM"


class Unchanged(Enum):
    """Stands for a long value that an update has left as it was: PostgreSQL keeps it elsewhere and does not send it."""

    VALUE = "unchanged"


UNCHANGED: Final = Unchanged.VALUE
Values = list[bytes | Unchanged | None]
"""A row's values as text, by the relation's columns; None is NULL."""


@dataclass(frozen=True, slots=True)
class Begin:
    """A transaction begins; `commit_lsn` is where the log says that it was committed."""

    commit_lsn: int
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The transaction ends; behind `end_lsn` is what comes after it."""

    end_lsn: int


@dataclass(frozen=True, slots=True)
class RelationColumn:
    """A column as a change has it; `is_key`, it is in what identifies a row."""

    name: str
    type_oid: int
    modifier: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """What a table looks like in the changes that follow."""

    oid: int
    columns: tuple[RelationColumn, ...]


@dataclass(slots=True)
class Change:
    """A row that was inserted (`new`), updated (`new`, and `old` if its key changed or the table sends it) or deleted (`old`).

    Attributes:
        has_whole_old: `old` has every column, and not the key alone.
    """

    relation: int
    new: Values | None
    old: Values | None = None
    has_whole_old: bool = False


@dataclass(frozen=True, slots=True)
class Truncate:
    """Every row of these tables was removed."""

    relations: tuple[int, ...]


Message = Begin | Commit | Relation | Change | Truncate


def messages(file: BinaryIO) -> Iterator[Message]:
    """Every message of a file of one column of bytes, in its order.

    Raises:
        ValueError: it is none, it is cut off, or it has a message that is not known.
    """
    for data in _copied(file):
        try:
            message = message_of(data)
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise ValueError(f"a message of {len(data)} bytes is cut off: {error}") from error
        if message is not None:
            yield message


def _copied(file: BinaryIO) -> Iterator[bytes]:
    head = file.read(len(_COPY_BEGINS) + _HEADER.size)
    if len(head) < len(_COPY_BEGINS) + _HEADER.size or not head.startswith(_COPY_BEGINS):
        raise ValueError("it does not begin as a binary copy does")
    file.read(_HEADER.unpack_from(head, len(_COPY_BEGINS))[1])
    read, field_of = file.read, _FIELD.unpack
    while True:
        head = read(_FIELD.size)
        if len(head) == _COUNT.size and _COUNT.unpack(head)[0] == _ENDS:
            return
        if len(head) < _FIELD.size:
            raise ValueError("it is cut off")
        fields, length = field_of(head)
        data = read(length) if fields == 1 and length >= 0 else b""
        if fields != 1 or len(data) != length:
            raise ValueError("it is cut off" if fields == 1 else f"a row has {fields} columns")
        yield data


def message_of(data: bytes) -> Message | None:
    """One message; None for what says nothing about rows.

    Raises:
        ValueError: it is not known.
        struct.error: it is cut off.
    """
    kind = data[:1]
    read = _READERS.get(kind)
    if read is not None:
        return read(data)
    if kind and kind in _PASSED_OVER:
        return None
    raise ValueError(f"a message of the kind {kind!r} is not known")


def _begin(data: bytes) -> Begin:
    commit_lsn, _, xid = _BEGIN.unpack_from(data, 1)
    return Begin(commit_lsn, xid)


def _commit(data: bytes) -> Commit:
    return Commit(_COMMIT.unpack_from(data, 1)[2])


def _insert(data: bytes) -> Change:
    (relation,) = _OID.unpack_from(data, 1)
    return Change(relation, _values(data, _expect(data, 5, _NEW))[0])


def _delete(data: bytes) -> Change:
    (relation,) = _OID.unpack_from(data, 1)
    return Change(relation, None, _values(data, _expect(data, 5, _KEY, _OLD))[0], has_whole_old=data[5] == _OLD)


def _truncate(data: bytes) -> Truncate:
    count, _ = _TRUNCATE.unpack_from(data, 1)
    return Truncate(struct.unpack_from(f"!{count}I", data, 1 + _TRUNCATE.size))


def _update(data: bytes) -> Change:
    (relation,) = _OID.unpack_from(data, 1)
    if data[5] == _NEW:
        return Change(relation, _values(data, 6)[0])
    _expect(data, 5, _KEY, _OLD)
    old, at = _values(data, 6)
    return Change(relation, _values(data, _expect(data, at, _NEW))[0], old, has_whole_old=data[5] == _OLD)


def _values(data: bytes, at: int) -> tuple[Values, int]:
    """A row, and where it ends."""
    (count,) = _COUNT.unpack_from(data, at)
    at += 2
    values: Values = []
    length_at = _LENGTH.unpack_from
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind == _TEXT:
            end = at + 4 + length_at(data, at)[0]
            value = data[at + 4 : end]
            if len(value) != end - at - 4:
                raise struct.error("a value is too short")
            values.append(value)
            at = end
        elif kind == _NULL:
            values.append(None)
        elif kind == _UNCHANGED:
            values.append(UNCHANGED)
        else:
            raise ValueError(f"a value of the kind {chr(kind)!r} is not known")
    return values, at


def _relation(data: bytes) -> Relation:
    (oid,) = _OID.unpack_from(data, 1)
    _, at = _text(data, 5)
    _, at = _text(data, at)
    # What identifies a row is told by the columns' marks, and the table's own way by each change.
    (count,) = _COUNT.unpack_from(data, at + 1)
    at += 3
    columns: list[RelationColumn] = []
    for _ in range(count):
        name, end = _text(data, at + 1)
        type_oid, modifier = _COLUMN.unpack_from(data, end)
        columns.append(RelationColumn(name, type_oid, modifier, is_key=bool(data[at] & 1)))
        at = end + _COLUMN.size
    return Relation(oid, tuple(columns))


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise struct.error("a name has no end")
    return data[at:end].decode(), end + 1


def _expect(data: bytes, at: int, *kinds: int) -> int:
    """The place behind the mark of a row."""
    if data[at] not in kinds:
        raise ValueError(f"a row of the kind {chr(data[at])!r} is not known here")
    return at + 1


_READERS: Mapping[bytes, Callable[[bytes], Message]] = {
    b"B": _begin,
    b"C": _commit,
    b"R": _relation,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
}
