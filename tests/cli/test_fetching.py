"""`lakehouse ingest --git` and `--github`: commits take the same path as files."""

import json
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lakehouse.cli.main import app


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for number in range(3):
        (folder / "notes.txt").write_text(f"{number}\n")
        subprocess.run(["git", "-C", str(folder), "add", "."], check=True)
        subprocess.run(["git", "-C", str(folder), *identity, "commit", "-q", "-m", f"feat: step {number}"], check=True)
    return folder


def ingest(*args: str) -> dict[str, object]:
    ran = CliRunner().invoke(app, ["ingest", "commits", *args, "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


@pytest.mark.usefixtures("home")
def test_commits_of_a_repository_are_ingested_once(repository: Path) -> None:
    first = ingest("--git", str(repository))
    again = ingest("--git", str(repository))

    assert [file["rows_accepted"] for file in first["files"]] == [3]  # pyright: ignore
    assert {file["status"] for file in again["files"]} <= {"already"}  # pyright: ignore
    assert again["version"] == first["version"]


def test_pages_that_a_stopped_fetch_left_are_ingested(repository: Path, home: Path) -> None:
    from lakehouse.ingest.sources import git_history

    git_history(repository, home / "landing" / "commits")

    report = ingest("--git", str(repository))

    assert [file["rows_accepted"] for file in report["files"]] == [3]  # pyright: ignore


@pytest.mark.usefixtures("home")
def test_nothing_to_ingest_is_wrong_use() -> None:
    ran = CliRunner().invoke(app, ["ingest", "commits", "--json"])

    assert ran.exit_code == 2
    assert "--git FOLDER" in json.loads(ran.stdout)["message"]
