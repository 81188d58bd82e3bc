"""What the decoder makes of the messages of `pgoutput`: what was said, whatever it is, and a clear word where it makes no sense."""

import io
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.sources.pgoutput import (
    UNCHANGED,
    Begin,
    Change,
    Commit,
    Message,
    Relation,
    RelationColumn,
    Truncate,
    Unchanged,
    Values,
    message_of,
    messages,
)
from lakehouse.ingest.sources.postgres_slot import Snapshot, lsn_text

OIDS = st.integers(0, 2**32 - 1)
LSNS = st.integers(0, 2**63)
VALUES = st.lists(st.one_of(st.none(), st.just(UNCHANGED), st.binary(max_size=40)), max_size=6)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
COLUMNS = st.builds(RelationColumn, NAMES, OIDS, st.integers(-1, 2**31 - 1), st.booleans())
CHANGES = st.one_of(
    st.builds(Change, OIDS, VALUES),
    st.builds(Change, OIDS, VALUES, VALUES, st.booleans()),
    st.builds(Change, OIDS, st.none(), VALUES, st.booleans()),
)
MESSAGES = st.one_of(
    st.builds(Begin, LSNS, OIDS),
    st.builds(Commit, LSNS),
    st.builds(Relation, OIDS, st.lists(COLUMNS, max_size=5).map(tuple)),
    CHANGES,
    st.builds(Truncate, st.lists(OIDS, max_size=4).map(tuple)),
)


def encoded(message: Message) -> bytes:
    """As the protocol describes it."""
    if isinstance(message, Begin):
        return b"B" + struct.pack("!QqI", message.commit_lsn, 7, message.xid)
    if isinstance(message, Commit):
        return b"C" + struct.pack("!BQQq", 0, 5, message.end_lsn, 7)
    if isinstance(message, Truncate):
        return b"T" + struct.pack(f"!IB{len(message.relations)}I", len(message.relations), 3, *message.relations)
    if isinstance(message, Relation):
        head = b"R" + struct.pack("!I", message.oid) + "schéma\0täble\0d".encode() + struct.pack("!h", len(message.columns))
        return head + b"".join(
            bytes([one.is_key]) + one.name.encode() + b"\0" + struct.pack("!Ii", one.type_oid, one.modifier) for one in message.columns
        )
    old = b"" if message.old is None else (b"O" if message.has_whole_old else b"K") + row(message.old)
    new = b"" if message.new is None else b"N" + row(message.new)
    kind = b"D" if message.new is None else b"I" if message.old is None else b"U"
    return kind + struct.pack("!I", message.relation) + old + new


def row(values: Values) -> bytes:
    parts = [struct.pack("!h", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, Unchanged):
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack("!i", len(value)) + value)
    return b"".join(parts)


def copied(data: Sequence[bytes]) -> bytes:
    """As COPY writes a column of bytes."""
    head = b"PGCOPY\n\xff\r\n\x00" + struct.pack("!ii", 0, 3) + b"ext"
    return head + b"".join(struct.pack("!hi", 1, len(one)) + one for one in data) + struct.pack("!h", -1)


@given(st.lists(MESSAGES, max_size=6))
def test_what_was_said_is_what_is_heard(said: list[Message]) -> None:
    passed_over = [b"Y" + b"\0" * 12, b"O" + b"\0" * 9, b"M" + b"\0" * 20]
    assert list(messages(io.BytesIO(copied([*passed_over, *map(encoded, said)])))) == said


@given(MESSAGES, st.data())
def test_what_is_cut_off_is_told(said: Message, data: st.DataObject) -> None:
    whole = encoded(said)
    cut = whole[: data.draw(st.integers(1, len(whole) - 1))]
    with pytest.raises(ValueError, match=r".+"):
        list(messages(io.BytesIO(copied([cut]))))
    file = copied([whole])
    with pytest.raises(ValueError, match=r"cut off|does not begin"):
        list(messages(io.BytesIO(file[: data.draw(st.integers(0, len(file) - 1))])))


def test_an_update_of_the_protocols_documentation() -> None:
    data = b"U\0\0\x40\x02K\0\x02t\0\0\0\x011nN\0\x02t\0\0\0\x0277u"
    assert message_of(data) == Change(0x4002, [b"77", UNCHANGED], [b"1", None])


@pytest.mark.parametrize("data", [b"", b"Z123", b"I\0\0\0\1X\0\0", b"I\0\0\0\1N\0\1b\0\0\0\0", b"U\0\0\0\1N\0\1t\xff\xff\xff\xff"])
def test_what_is_not_known_is_told(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        list(messages(io.BytesIO(copied([data]))))


def test_a_snapshot_shows_what_had_ended_before_it() -> None:
    snapshot = Snapshot.parse("100:110:103,105")
    assert [xid for xid in range(98, 113) if snapshot.shows(xid)] == [98, 99, 100, 101, 102, 104, 106, 107, 108, 109]
    assert Snapshot.parse("7:7:") == Snapshot(7, 7, frozenset())


def test_a_snapshot_knows_transactions_by_the_end_of_their_numbers() -> None:
    era = 3 << 32
    just_after = Snapshot(era + 5, era + 6, frozenset({era + 5}))
    assert [just_after.shows(xid) for xid in (2**32 - 1, 0, 4, 5, 6)] == [True, True, True, False, False]
    just_before = Snapshot(era - 2, era - 1, frozenset({era - 2}))
    assert [just_before.shows(xid) for xid in (2**32 - 3, 2**32 - 2, 2**32 - 1, 0, 3)] == [True, False, False, False, False]


def test_a_place_in_the_log_reads_as_the_server_writes_it() -> None:
    assert lsn_text(0x1_0192_57F8) == "1/19257F8"
