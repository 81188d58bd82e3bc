"""Keys per environment and per person: what a rotation changes, what it leaves, and what a destroyed key takes with it."""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.errors import PrivacyError
from lakehouse.ingest import ingest_landing
from lakehouse.pipeline.erasing import erase
from lakehouse.pipeline.rotating import rotate
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy import SubjectKeys, decrypt_file, install, key, pseudonym, rotate_key, seal, unseal
from lakehouse.privacy.erasure.subject import Subject
from lakehouse.privacy.subject_keys import subject_name
from lakehouse.recovery.backing_up import back_up
from lakehouse.recovery.verifying import verify_home
from lakehouse.settings import Settings

NOW = datetime(2026, 1, 2, tzinfo=UTC)
CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: people
name: people
version: 1.0.0
status: active
schema:
  - name: people
    properties:
      - {name: id, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: person, logicalType: string}
      - {name: diagnosis, logicalType: string, classification: secret,
         customProperties: [{property: lakehouse.subject, value: person}]}
      - {name: name, logicalType: string, classification: restricted}
      - {name: street, logicalType: string, classification: confidential}
      - {name: income, logicalType: integer, classification: confidential}
      - {name: card, logicalType: string, customProperties: [{property: lakehouse.protection, value: drop}]}
"""


def opened(settings: Settings) -> Workspace:
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "people.odcs.yaml").write_text(CONTRACT, encoding="utf-8")
    return Workspace(settings)


def arrive(workspace: Workspace, name: str = "people.csv", *, first: int = 0) -> DatasetContract:
    folder = workspace.settings.landing_dir / "people"
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        f"I-{n},{f'PERSON-{n % 5:04d}' if n % 7 else ''},illness {n % 5},Name {n % 5},Street {n},{n},4111" for n in range(first, first + 30)
    ]
    (folder / name).write_text("id,person,diagnosis,name,street,income,card\n" + "\n".join(lines) + "\n")
    contract = workspace.contracts.dataset("people")
    ingest_landing(workspace.lake, contract, settings=workspace.settings, run="r", now=NOW)
    return contract


def raw(workspace: Workspace) -> list[tuple[str, str | None, str, str, str | None, int | None, str | None]]:
    con = workspace.lake.open_connection()
    sql = f"SELECT id, person, diagnosis, name, street, income, card FROM ({workspace.lake.scan_sql('raw.people', con=con)}) ORDER BY id"
    found = con.execute(sql).fetchall()
    con.close()
    return found


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    return opened(settings.model_copy(update={"settle_s": 0.0}))


def test_the_classification_decides(workspace: Workspace) -> None:
    arrive(workspace)
    secret = key(workspace.settings)
    for _, person, diagnosis, name, street, income, card in raw(workspace):
        assert diagnosis.startswith("sealed2:" if person else "sealed1:")
        assert name.startswith("pn_")
        assert street is not None
        assert street.startswith("Street")
        assert income is not None
        assert card is None
        read = SubjectKeys(secret).unseal(diagnosis) if person else unseal(diagnosis, secret)
        assert read.startswith("illness")
    # A person's own key: their values are alike, another's of the same text are not.
    by_person = {(row[1], row[2]) for row in raw(workspace) if row[1]}
    assert len(by_person) == len({sealed for _, sealed in by_person}) == 5


def test_outside_production_values_are_masked_under_other_keys(settings: Settings) -> None:
    production, testing = (settings.model_copy(update={"settle_s": 0.0, "environment": one}) for one in ("production", "testing"))
    assert key(Settings.load()).id == key(production).id
    workspace = opened(Settings.model_validate({**testing.model_dump(), "environment": "testing"}))
    assert key(workspace.settings).id != key(production).id
    arrive(workspace)
    assert {(row[4], row[5]) for row in raw(workspace)} == {("***", None)}


def test_a_rotation_moves_what_is_encrypted_and_leaves_pseudonyms(workspace: Workspace) -> None:
    settings = workspace.settings
    arrive(workspace)
    place = str(settings.home_dir.parent / "backup")
    back_up(settings, place, now=NOW)
    assert verify_home(settings, backup=place).failures == ()
    before, old = raw(workspace), key(settings)
    line = seal("a line", old)
    done = rotate(workspace, now=NOW)
    new = key(settings)
    assert done.key == new.newest.id != old.id == new.id
    assert (done.subject_keys, done.originals) == (5, 1)
    assert raw(workspace) == before
    assert pseudonym("Name 1", new) == pseudonym("Name 1", old)
    assert unseal(line, new) == "a line"
    assert seal("a line", new) != line
    [original] = (settings.home_dir / "tables" / "files").rglob("*.enc")
    assert new.newest.id in original.read_bytes()[:16].hex()
    decrypt_file(original, settings.home_dir / "plain", new)
    assert (settings.home_dir / "plain").read_text().startswith("id,person")
    (settings.home_dir / "plain").unlink()
    assert verify_home(settings, backup=place).failures == ()
    # Rows that come later join with those from before.
    arrive(workspace, "more.csv", first=100)
    assert {row[3] for row in raw(workspace)} == {row[3] for row in before}
    assert {SubjectKeys(new).unseal(row[2]) for row in raw(workspace) if row[1]} == {f"illness {n}" for n in range(5)}
    assert {row[2] for row in raw(workspace) if row[1]} == {row[2] for row in before if row[1]}
    again = rotate(workspace, now=NOW, is_new=False)
    assert (again.key, again.subject_keys, again.originals) == (new.newest.id, 0, 0)


def test_an_erased_person_takes_their_key_along(workspace: Workspace) -> None:
    arrive(workspace)
    secret = key(workspace.settings)
    theirs = next(row[2] for row in raw(workspace) if row[1] == "PERSON-0003")
    others = next(row[2] for row in raw(workspace) if row[1] == "PERSON-0004")
    kept = (secret.folder or Path()) / "production.subjects.sqlite"
    name = SubjectKeys(secret).hash_of(subject_name("person", "PERSON-0003"))
    assert name.encode() in kept.read_bytes()
    report = erase(workspace, Subject("people", "person", "PERSON-0003"), run="r", now=datetime.now(UTC))
    assert report.is_clean
    assert report.document["keys_destroyed"] == 1
    assert name.encode() not in kept.read_bytes()
    # A copy of a value somewhere out of reach is no value any more.
    with pytest.raises(PrivacyError, match="was destroyed"):
        SubjectKeys(secret).unseal(theirs)
    assert SubjectKeys(secret).unseal(others) == "illness 4"


DRIVER = """
import sys
from lakehouse.privacy import SubjectKeys, key
from lakehouse.settings import Settings
keys = SubjectKeys(key(Settings.load()))
print(keys.seal(["x"] * 50, [f"p={n}" for n in range(50)]) == keys.seal(["x"] * 50, [f"p={n}" for n in range(50)]), keys.seal(["x"], ["p=7"]))
"""


def test_processes_that_come_at_once_get_the_same_keys(settings: Settings) -> None:
    key(settings)
    writers = [subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = {writer.communicate()[0] for writer in writers}
    assert len(told) == 1
    assert told.pop().startswith("True")


def test_changed_and_foreign_values_are_refused(settings: Settings) -> None:
    keys = SubjectKeys(key(settings))
    [sealed] = keys.seal(["text"], ["p=1"])
    assert sealed is not None
    assert keys.seal([None, "x", ""], ["p=1", None, "p=1"])[:2] == [None, None]
    assert keys.unseal(str(keys.seal([""], ["p=1"])[0])) == ""
    [other] = keys.seal(["text"], ["p=2"])
    assert other is not None
    swapped = ":".join([*other.split(":")[:2], sealed.split(":")[2]])
    for bad in (sealed[:-4] + "AAA=", swapped, sealed.replace("sealed2", "sealed1"), "sealed2:", ""):
        with pytest.raises(PrivacyError):
            keys.unseal(bad)


def test_no_secret_is_in_a_log_a_representation_an_error_or_a_commit(
    workspace: Workspace, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = workspace.settings
    rotate_key(settings)
    arrive(workspace)
    rotate(workspace, now=NOW)
    report = erase(workspace, Subject("people", "person", "PERSON-0001"), run="r", now=datetime.now(UTC))
    secret = key(settings)
    with duckdb.connect() as con:
        install(con, secret)
        with pytest.raises(duckdb.Error) as failed:
            con.execute("SELECT no_such_column FROM nowhere")
    told = [repr(secret), str(secret), repr(settings), str(failed.value), caplog.text, *capfd.readouterr(), json.dumps(report.document)]
    told += [path.read_text(errors="replace") for path in settings.home_dir.rglob("*.json")]
    told += [path.read_text(errors="replace") for path in (settings.home_dir / "audit").glob("*")]
    secrets = [one.secret for one in (secret, *secret.rotated)]
    secrets += [secret.derive(purpose) for purpose in ("pseudonym", "erased subjects", "audit", "subject keys")]
    for text in told:
        for one in secrets:
            assert one.hex() not in text.lower()
            assert repr(one)[2:-1] not in text
