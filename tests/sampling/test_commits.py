"""The synthetic commits."""

import csv
import io
import json
import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import SourceError
from lakehouse.sampling import SampleReport, commits


def rows_of(report: SampleReport) -> list[dict]:
    return [row for path in report for row in json.loads(path.read_text())]


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    one, two, other = (commits(rows=350, out=tmp_path / name, seed=seed, bad_rate=0.1) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert rows_of(one) != rows_of(other)


@given(rows=st.integers(1, 700), bad=st.floats(0, 1))
@settings(max_examples=15)
def test_rows_and_bad_rows_are_exact(tmp_path_factory: pytest.TempPathFactory, rows: int, bad: float) -> None:
    folder = tmp_path_factory.mktemp("commits")
    report = commits(rows=rows, out=folder, bad_rate=bad, planted=folder / "planted.csv")
    pages = [json.loads(path.read_text()) for path in report]
    assert sum(map(len, pages)) == rows == report.rows
    assert max(map(len, pages)) <= 100
    planted = [(row["file"], row["row"]) for row in csv.DictReader(io.StringIO((folder / "planted.csv").read_text()))]
    assert len(set(planted)) == len(planted) == report.bad_rows == int(rows * bad)


def test_good_commits_are_consistent(tmp_path: Path) -> None:
    rows = rows_of(commits(rows=600, out=tmp_path, bad_rate=0))
    assert len({row["sha"] for row in rows}) == 600
    known = {row["sha"] for row in rows}
    for row in rows:
        assert row["html_url"].endswith(row["sha"])
        assert (
            row["stats"]["total"] == row["stats"]["additions"] + row["stats"]["deletions"] == sum(file["changes"] for file in row["files"])
        )
        assert {parent["sha"] for parent in row["parents"]} <= known
        assert row["commit"]["author"]["date"] <= row["commit"]["committer"]["date"]
    by_page = [[row["commit"]["committer"]["date"] for row in json.loads(path.read_text())] for path in tmp_path.glob("*.json")]
    assert all(dates == sorted(dates, reverse=True) for dates in by_page)


def test_type_can_be_learned_from_words_and_files(tmp_path: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics import f1_score
    from sklearn.naive_bayes import ComplementNB

    prefix = re.compile(r"^([a-z]+)(\([^)]*\))?!?: ")
    typed = [(match[1], prefix.sub("", row["commit"]["message"]) + " " + " ".join(f["filename"] for f in row["files"]))
             for row in rows_of(commits(rows=1500, out=tmp_path)) if (match := prefix.match(row["commit"]["message"] or ""))]  # fmt: skip
    kinds, texts = [kind for kind, _ in typed], [text for _, text in typed]
    assert 0.85 < len(typed) / 1500 < 0.95
    assert Counter(kinds).most_common(1)[0][1] < 0.4 * len(kinds)
    half = len(kinds) // 2
    vectors = TfidfVectorizer().fit(texts[:half])
    model = ComplementNB().fit(vectors.transform(texts[:half]), kinds[:half])
    score = f1_score(kinds[half:], model.predict(vectors.transform(texts[half:])), average="macro")
    # As in real histories: learned, and far from perfectly.
    assert 0.5 < score < 0.8


@pytest.mark.parametrize("wrong", [{"rows": 0}, {"bad_rate": 2.0}, {"seed": -1}])
def test_wrong_arguments_are_errors(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(SourceError):
        commits(**{"rows": 10, "out": tmp_path, **wrong})  # pyright: ignore[reportArgumentType]
