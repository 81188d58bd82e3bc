"""The audit's chain: whatever is done to it shows."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lakehouse.errors import PrivacyError
from lakehouse.privacy.audit import AUDIT_TABLE, Audit
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from lakehouse.tables.stamp import machine_user

NOW = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def audit(settings: Settings) -> Audit:
    audit = Audit(settings)
    for number in range(8):
        audit.record(who="ada", action="query", tables={"raw.people": number}, outcome="done", now=NOW, facts={"rows": number})
    return audit


def journal(settings: Settings) -> Path:
    return settings.home_dir / "audit" / "journal.ndjson"


def test_an_untouched_chain_holds(audit: Audit) -> None:
    assert audit.problems() == []
    assert [entry.number for entry in audit.entries()] == list(range(1, 9))


def changed(lines: list[bytes]) -> list[bytes]:
    lines[3] = lines[3].replace(b'"who":"ada"', b'"who":"bob"')
    return lines


def changed_with_a_mac_of_ones_own(lines: list[bytes]) -> list[bytes]:
    entry = json.loads(lines[3])
    lines[3] = json.dumps({**entry, "who": "bob", "mac": "0" * 64}).encode() + b"\n"
    return lines


TAMPERED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "changed": changed,
    "changed with a made-up mac": changed_with_a_mac_of_ones_own,
    "removed": lambda lines: lines[:2] + lines[3:],
    "first removed": lambda lines: lines[1:],
    "last removed": lambda lines: lines[:-1],
    "all but one removed": lambda lines: lines[:1],
    "emptied": lambda lines: [],
    "reordered": lambda lines: [*lines[:2], lines[3], lines[2], *lines[4:]],
    "repeated": lambda lines: [*lines[:3], lines[2], *lines[3:]],
    "garbled": lambda lines: [*lines[:3], b"not an entry\n", *lines[4:]],
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_shows(audit: Audit, settings: Settings, how: str) -> None:
    path = journal(settings)
    path.write_bytes(b"".join(TAMPERED[how](path.read_bytes().splitlines(keepends=True))))
    assert audit.problems()


def test_nothing_is_added_to_a_journal_that_was_cut(audit: Audit, settings: Settings) -> None:
    path = journal(settings)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(PrivacyError, match="ends before the entry"):
        audit.record(who="ada", action="query", tables={}, outcome="done", now=NOW)


def test_a_head_that_was_rolled_back_with_another_signature_shows(audit: Audit, settings: Settings) -> None:
    head = settings.key_file.parent / "audit.head"
    head.write_text(json.dumps({**json.loads(head.read_text()), "number": 3}))
    with pytest.raises(PrivacyError, match="wrong signature"):
        audit.problems()


@pytest.mark.parametrize("rest", [b"", b'{"number": 9, "at"'])
def test_a_process_that_died_in_the_middle_of_an_entry_harms_nothing(audit: Audit, settings: Settings, rest: bytes) -> None:
    head = settings.key_file.parent / "audit.head"
    kept = head.read_bytes()
    audit.record(who="ada", action="query", tables={}, outcome="done", now=NOW)
    # The entry is there and the head is not, or half of an entry is.
    head.write_bytes(kept)
    with journal(settings).open("ab") as file:
        file.write(rest)
    assert audit.record(who="ada", action="query", tables={}, outcome="done", now=NOW).number == 10
    assert audit.problems() == []


DRIVER = """
from datetime import UTC, datetime
from lakehouse.privacy.audit import Audit
from lakehouse.settings import Settings
audit = Audit(Settings.load())
for _ in range(25):
    audit.record(who="eve", action="query", tables={}, outcome="done", now=datetime.now(UTC))
"""


def test_processes_that_write_at_once_make_one_chain(audit: Audit) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", DRIVER]) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(list(audit.entries())) == 58
    assert audit.problems() == []


def test_the_table_gets_each_entry_once(audit: Audit, settings: Settings) -> None:
    lake = Lake.from_settings(settings)
    with lake.connect(()) as session:
        assert audit.collect(lake, session.con, run="r") == 8
        assert audit.collect(lake, session.con, run="r") == 0
        audit.record(who="ada", action="query", tables={}, outcome="done", now=NOW)
        assert audit.collect(lake, session.con, run="r") == 1
        assert audit.table_problems(lake, session.con) == []
        # Changes by whomever: each commit is an entry, once.
        lake.overwrite(session.con, "raw.people", "SELECT 1 AS n", stamp=Stamp("me", "run-1"))
        lake.append(session.con, "raw.people", "SELECT 2 AS n", stamp=Stamp("me", "run-2"))
        assert audit.record_commits(lake) == 2
        assert audit.record_commits(lake) == 0
        last = list(audit.entries())[-1]
        assert (last.action, dict(last.tables), last.facts["run"], last.who) == ("commit", {"raw.people": 1}, "run-2", machine_user())
        assert audit.problems() == []
        stamp = lake.history(AUDIT_TABLE)[0].stamp
        assert stamp is not None
        lake.delete(session.con, AUDIT_TABLE, "number = 4", stamp=stamp)
        assert [one.number for one in audit.table_problems(lake, session.con)] == [4]
