"""Commits all the way in: every row arrives, and no person can be read anywhere under the home."""

import json
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lakehouse.contracts import load_contracts
from lakehouse.errors import SourceError
from lakehouse.ingest import IngestReport, ingest
from lakehouse.ingest.sources import git_history
from lakehouse.privacy import decrypt_file, key, pseudonym
from lakehouse.sampling import commits as sample_commits
from lakehouse.settings import Settings
from lakehouse.tables import Lake


def ingested(paths: Iterable[Path], settings: Settings, now: datetime) -> tuple[Lake, IngestReport]:
    lake = Lake.from_settings(settings)
    contract = load_contracts(settings).dataset("commits")
    return lake, ingest(lake, contract, sorted(paths), settings=settings, run="test", now=now)


def people_of(rows: list[dict[str, Any]]) -> set[str]:
    """The names and addresses that must not be readable; those of services are public."""
    sides = [row["commit"][side] or {} for row in rows for side in ("author", "committer")]
    found = {str(side.get(what)) for side in sides for what in ("name", "email")}
    return {text for text in found if text not in {"GitHub", "None", "Copilot"} and "noreply@github.com" not in text}


def readable_bytes(home: Path) -> Iterable[tuple[Path, bytes]]:
    """Every file under the home, and what its compressed columns hold."""
    for path in sorted(path for path in home.rglob("*") if path.is_file()):
        yield path, path.read_bytes()
        if path.suffix == ".parquet":
            # A file of a column each row is large; as JSON every string is seen as it is stored.
            rows = duckdb.sql(f"SELECT CAST(to_json(t) AS VARCHAR) FROM read_parquet('{path}') AS t").fetchall()
            yield path, "\n".join(row[0] for row in rows).encode()


def leaks(home: Path, people: set[str]) -> list[tuple[str, str]]:
    found = []
    for path, data in readable_bytes(home):
        text = data.decode("utf-8", "replace")
        found += [(path.name, person) for person in people if person in text]
    return found


def test_every_real_page_arrives_and_nobody_can_be_read(real_data: Path, settings: Settings, now: datetime) -> None:
    pages = sorted((real_data / "commits").glob("*/*/*.json"))
    assert len(pages) == 359
    lake, report = ingested(pages, settings, now)
    assert {file.status for file in report.files} == {"ingested"}
    assert (report.rows_read, report.rows_accepted, report.rows_quarantined) == (3045, 3045, 0)

    originals = [row for page in pages for row in json.loads(page.read_text())]
    people = people_of(originals)
    assert len(people) > 600
    assert leaks(settings.home_dir, people) == []

    secret = key(settings)
    expected = {row["sha"]: pseudonym(row["commit"]["author"]["email"], secret) for row in originals}
    with lake.connect(["raw.commits"]) as session:
        stored = session.con.execute("SELECT sha, author_email FROM raw.commits").fetchall()
    assert dict(stored) == expected


def test_archived_page_comes_back_as_it_arrived(settings: Settings, now: datetime, tmp_path: Path) -> None:
    (page,) = sample_commits(rows=1, out=tmp_path / "pages")
    ingested([page], settings, now)
    (archived,) = [path for path in (Path(settings.tables_uri) / "files" / "commits").rglob("*") if path.is_file()]
    decrypt_file(archived, tmp_path / "back.json", key(settings))
    assert (tmp_path / "back.json").read_bytes() == page.read_bytes()


def test_bad_commits_are_quarantined_and_nobody_can_be_read_there(settings: Settings, now: datetime, tmp_path: Path) -> None:
    sample = sample_commits(rows=900, out=tmp_path / "pages", bad_rate=0.05)
    broken = tmp_path / "pages" / "broken.json"
    broken.write_text(
        '[{"sha": 7, "commit": {"author": {"name": "Ada Quill", "email": "ada-quill@example.org"}, "message": ["x"]}}, "Bruno Costa"]'
    )
    lake, report = ingested([*sample, broken], settings, now)
    assert report.rows_read == report.rows_accepted + report.rows_quarantined
    assert report.rows_accepted == 900 - sample.bad_rows
    with lake.connect(["quarantine.commits"]) as session:
        count = session.con.execute("SELECT count(*) FROM quarantine.commits").fetchall()[0][0]
    assert count == report.rows_quarantined
    originals = [row for page in sample for row in json.loads(page.read_text())]
    assert leaks(settings.home_dir, people_of(originals)) == []


def test_history_of_a_repository_arrives_once(repository: Any, settings: Settings, now: datetime, tmp_path: Path) -> None:
    for n in range(5):
        repository.commit(f"fix: number {n}\n\nSigned-off-by: Zoë Müller <7+zoe-m@users.noreply.github.com>", a__txt=f"{n}\n")
    landing = settings.landing_dir / "commits"
    git_history(repository.folder, landing)
    repository.commit("feat: one more", a__txt="more\n")
    git_history(repository.folder, landing)
    lake, report = ingested(landing.glob("[!.]*.json"), settings, now)
    assert report.rows_accepted == 6
    with lake.connect(["raw.commits"]) as session:
        rows = session.con.execute(
            "SELECT count(DISTINCT sha), min(additions), count(*) FILTER (message LIKE '%Zo%') FROM raw.commits"
        ).fetchall()
    assert rows == [(6, 1, 0)]


def test_source_that_fails_leaves_nothing_to_ingest(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        git_history(tmp_path / "absent", settings.landing_dir / "commits")
    assert not list(settings.home_dir.rglob("*.json"))
