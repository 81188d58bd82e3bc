"""The documents in docs/cli.md have the fields that the commands print: the JSON is an interface."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lakehouse.tables import Lake
from tests.cli.conftest import Outcome
from tests.conftest import PROJECT

Run = Callable[..., Outcome]
PREDICTIONS = "models.household_vulnerability_predictions"


def _documented() -> dict[str, Any]:
    text = (PROJECT / "docs" / "cli.md").read_text("utf-8")
    return {name: json.loads(body) for name, body in re.findall(r"```json ([a-z -]+)\n(.*?)```", text, re.DOTALL)}


DOCUMENTED = _documented()


def _shape(value: Any) -> Any:
    """Field names and the types of what they hold; data-dependent keys are one star."""
    if isinstance(value, dict):
        open_keys = (
            "datasets",
            "models",
            "versions",
            "inputs",
            "rules",
            "metrics",
            "baseline",
            "bad_by_kind",
            "source",
            "served",
            "skew_by_feature",
            "shift_by_feature",
            "tables",
            "warnings",
            "quarantine",
        )
        return {
            name: "map" if name in open_keys and isinstance(one, dict) else "record" if name == "record" else _shape(one)
            for name, one in value.items()
        }
    if isinstance(value, list):
        return [_shape(value[0])] if value and isinstance(value[0], dict) else []
    return None


def _same(name: str, printed: Any) -> None:
    expected, found = _shape(DOCUMENTED[name]), _shape(printed)
    assert set(expected) == set(found), name
    for key, inner in expected.items():
        if isinstance(inner, list) and inner and found[key] and key != "rows":
            assert set(inner[0]) == set(found[key][0]), f"{name}.{key}"
        if isinstance(inner, dict) and isinstance(found[key], dict):
            assert set(inner) == set(found[key]), f"{name}.{key}"


@pytest.mark.usefixtures("small_lake")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("query", ["query", "select 1 as n"]),
        ("tables", ["tables"]),
        ("history", ["history", "raw.household_survey"]),
        ("diff", ["diff", "raw.household_survey", 0, 1]),
        ("restore", ["restore", "raw.household_survey", "--to", 1]),
        ("tag add", ["tag", "add", "raw.household_survey", "approved", "--version", 1]),
        ("tag list", ["tag", "list"]),
        ("profile", ["profile", "raw.household_survey"]),
        ("lineage", ["lineage", PREDICTIONS, "--key", "HH00000001"]),
        ("lineage graph", ["lineage", "wave_1.csv"]),
        ("quarantine list", ["quarantine", "list"]),
        ("quarantine show", ["quarantine", "show", "household_survey"]),
        ("maintain", ["maintain"]),
        ("error", ["history", "raw.nothing"]),
    ],
)
def test_reading_commands_print_what_is_documented(name: str, arguments: list[str], lakehouse: Run) -> None:
    _same(name, lakehouse(*arguments, "--json").json)


def test_backup_commands_print_what_is_documented(small_lake: Lake, lakehouse: Run, tmp_path: Path) -> None:
    place = tmp_path / "backups"
    _same("backup", lakehouse("backup", place, "--json").json)
    _same("backups", lakehouse("backups", place, "--json").json)
    _same("prune-backups", lakehouse("prune-backups", place, "--keep-last", 1, "--json").json)
    assert lakehouse("verify", "raw.household_survey").code == 0
    next(path for path in Path(small_lake.uri).rglob("*.parquet") if "raw" in path.parts).write_bytes(b"")
    damaged = lakehouse("verify", "raw.household_survey", "--backup", place, "--json")
    assert damaged.code == 1
    _same("verify", damaged.json)
    _same("restore-backup only", lakehouse("restore-backup", place, "--only", "raw.household_survey", "--json").json)
    assert lakehouse("verify", "raw.household_survey").code == 0
    _same("restore-backup", lakehouse("restore-backup", place, "--to", tmp_path / "other", "--json").json)
    assert lakehouse("restore-backup", place).code == 2
    assert lakehouse("restore-backup", place, "--at", "yesterday").code == 2
    assert lakehouse("backups", tmp_path / "nowhere").code == 0
    assert lakehouse("backup").code == 2


def test_the_ways_in_print_what_is_documented(lakehouse: Run, tmp_path: Path) -> None:
    sample = lakehouse("sample", "households", "--rows", 60, "--bad-rate", 0.1, "--out", tmp_path / "in", "--json")
    _same("sample", sample.json)
    ingested = lakehouse("ingest", "household_survey", tmp_path / "in", "--json")
    assert ingested.code == 0
    _same("ingest", ingested.json)
    files = ingested.json["files"]
    assert sum(one["rows_read"] for one in files) == 60
    assert all(one["rows_read"] == one["rows_accepted"] + one["rows_quarantined"] for one in files)
    again = lakehouse("ingest", "household_survey", str(tmp_path / "in" / "*.csv"), "--json").json
    assert {one["status"] for one in again["files"]} == {"already"}
    assert again["version"] == ingested.json["version"]


def test_decisions_on_quarantined_rows_print_what_is_documented(lakehouse: Run, tmp_path: Path) -> None:
    name, file = "household_survey", tmp_path / "fix.csv"
    lakehouse("sample", "households", "--rows", 60, "--bad-rate", 0.2, "--out", tmp_path / "in")
    assert lakehouse("ingest", name, tmp_path / "in").code == 0
    waiting = lakehouse("quarantine", "list", name, "--json").json["datasets"][name]["rows"]
    edited = lakehouse("quarantine", "edit", name, "--to", file, "--json")
    _same("quarantine edit", edited.json)
    assert edited.json["rows"] == waiting > 1
    assert "is there already" in lakehouse("quarantine", "edit", name, "--to", file).err
    replayed = lakehouse("quarantine", "replay", name, "--from", file, "--json")
    _same("quarantine replay", replayed.json)
    assert (replayed.code, replayed.json["accepted"], replayed.json["waiting"]) == (1, 0, waiting)
    assert lakehouse("quarantine", "discard", name).code == 2
    assert lakehouse("quarantine", "discard", name, "--all", "--level", "semantic").code == 2
    first = lakehouse("quarantine", "show", name, "--limit", 1, "--json").json["rows"][0]
    assert first["attempts"] == 2
    some = lakehouse("quarantine", "discard", name, "--rule", first["rules"][0], "--note", "test data", "--json")
    _same("quarantine discard", some.json)
    assert some.json["rows"] > 0
    shown = lakehouse("quarantine", "show", name, "--status", "discarded", "--limit", 1)
    assert "discarded by" in shown.out
    assert "test data" in shown.out
    for wrong in (["--since", "yesterday"], ["--level", "cosmic"], ["--status", "gone"]):
        assert lakehouse("quarantine", "show", name, *wrong).code == 2
    assert lakehouse("quarantine", "discard", name, "--since", "2000-01-01", "--json").json["rows"] == waiting - some.json["rows"]
    assert lakehouse("quarantine", "replay", name).code == 0
    assert lakehouse("quarantine", "edit", name, "--to", tmp_path / "none.csv").code == 0
    assert not (tmp_path / "none.csv").exists()


def test_a_refused_file_is_exit_code_one_and_named(lakehouse: Run, tmp_path: Path) -> None:
    (tmp_path / "no.csv").write_bytes(b"\x00\x01\x02" * 100)
    refused = lakehouse("ingest", "household_survey", tmp_path / "no.csv", "--json")
    assert refused.code == 1
    (file,) = refused.json["files"]
    assert file["status"] == "refused"
    assert "no.csv" in file["error"]
    assert lakehouse("ingest", "household_survey", tmp_path / "missing.csv").code == 2


def test_doctor_prints_what_is_documented(lakehouse: Run, home: Path) -> None:
    healthy = lakehouse("doctor", "--json")
    _same("doctor", healthy.json)
    assert healthy.code == 0, healthy.json
    key = home / "keys" / "secret.key"
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_bytes(b"x" * 32)
    key.chmod(0o644)
    (home / "contracts" / "datasets").mkdir(parents=True)
    (home / "contracts" / "datasets" / "bad.odcs.yaml").write_text("kind: nonsense")
    broken = lakehouse("doctor", "--json")
    assert broken.code == 2
    found = {one["check"]: one for one in broken.json["checks"] if one["status"] == "broken"}
    assert {"key", "contracts"} <= set(found)
    assert "chmod 600" in found["key"]["fix"]


def test_every_documented_document_is_json_and_every_command_is_documented() -> None:
    assert set(DOCUMENTED) >= {"run", "demo", "add", "train", "predict", "predict table", "dev", "sample", "doctor", "error"}


def test_drift_of_files_prints_what_is_documented(lakehouse: Run, tmp_path: Path) -> None:
    before, after = tmp_path / "before.csv", tmp_path / "after.csv"
    for file, shift in ((before, 0), (after, 30)):
        rows = "".join(f"k{number},{number % 50 + shift},{'ab'[number % 2]}\n" for number in range(300))
        file.write_text(f"id,size,kind\n{rows}")
    quiet = lakehouse("drift", before, "--reference", before, "--json")
    assert (quiet.code, quiet.json["verdict"]) == (0, "stable")
    loud = lakehouse("drift", after, "--reference", before, "--json")
    assert (loud.code, loud.json["verdict"]) == (1, "drifted")
    _same("drift", loud.json)
    assert "size" in lakehouse("drift", after, "--reference", before).out
    assert lakehouse("drift", after).code == 2
    assert lakehouse("drift", "no_such_model").code == 2
    assert lakehouse("drift", "--reference", "1").code == 2
    none_trained = lakehouse("drift", "--json")
    assert (none_trained.code, none_trained.json["compared"]) == (0, [])
    assert {one["subject"] for one in none_trained.json["skipped"]} >= {"household_income"}
