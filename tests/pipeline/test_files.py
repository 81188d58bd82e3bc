"""Paths as people give them, and files into the landing folder."""

import os
import time
from pathlib import Path

import pytest

from lakehouse.errors import SourceError
from lakehouse.ingest import pending_files
from lakehouse.pipeline.files import expand_paths
from lakehouse.pipeline.landing import land
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.csv", "a.csv", "deep/er/c.csv", ".hidden.csv", ".git/d.csv", "e.csv.tmp", "f.part", "g.crdownload"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "in"


def _names(folder: Path, files: tuple[Path, ...]) -> list[str]:
    return [str(file.relative_to(folder)) for file in files]


def test_a_folder_is_its_finished_files_sorted(folder: Path) -> None:
    assert _names(folder, expand_paths([folder])) == ["a.csv", "b.csv", "deep/er/c.csv"]


@pytest.mark.parametrize(
    ("pattern", "expected"), [("*.csv", ["a.csv", "b.csv"]), ("**/*.csv", ["a.csv", "b.csv", "deep/er/c.csv"]), ("[a]*", ["a.csv"])]
)
def test_globs(folder: Path, pattern: str, expected: list[str]) -> None:
    assert _names(folder, expand_paths([str(folder / pattern)])) == expected


def test_each_file_once_in_the_order_given(folder: Path) -> None:
    assert _names(folder, expand_paths([folder / "b.csv", folder, folder / "b.csv"])) == ["b.csv", "a.csv", "deep/er/c.csv"]


def test_a_file_that_is_named_is_taken_whatever_its_name(folder: Path) -> None:
    (folder / "odd[1].csv").write_text("x")
    assert len(expand_paths([folder / ".hidden.csv", folder / "odd[1].csv"])) == 2


@pytest.mark.parametrize("given", ["a.cvs", "nowhere/a.csv", "*.parquet", "empty"])
def test_a_path_that_leads_nowhere_is_an_error(folder: Path, given: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(SourceError) as error:
        expand_paths([str(folder / given)])
    assert given.rpartition("/")[2] in str(error.value)
    if given == "a.cvs":
        assert "Did you mean" in str(error.value)


def test_landing_is_whole_once_and_at_rest(settings: Settings, tmp_path: Path) -> None:
    first, second, third = tmp_path / "x" / "a.csv", tmp_path / "y" / "a.csv", tmp_path / "y" / "same.csv"
    for path, text in ((first, "one\n1\n"), (second, "one\n2\n"), (third, "one\n1\n")):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    landed = land(settings, "numbers", [first, second, third])
    assert [one.copied for one in landed] == [True, True, False]
    assert len({one.path for one in landed}) == 2
    assert landed[1].path.read_text() == "one\n2\n"
    assert all(time.time() - os.stat(one.path).st_mtime > settings.settle_s for one in landed)
    assert [one.copied for one in land(settings, "numbers", [first, second])] == [False, False]
    assert not list((settings.landing_dir / "numbers").glob(".*"))


def test_what_has_landed_is_pending_at_once(settings: Settings, tmp_path: Path) -> None:
    from lakehouse.sampling import households

    households(rows=20, out=tmp_path / "s", waves=1)
    land(settings, "household_survey", expand_paths([tmp_path / "s"]))
    workspace = Workspace(settings)
    assert len(pending_files(workspace.lake, workspace.contracts.dataset("household_survey"), settings=settings)) == 1


def test_a_folder_that_cannot_be_written_is_named(settings: Settings, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("x\n1\n")
    settings.landing_dir.parent.mkdir(parents=True)
    settings.landing_dir.write_text("a file where a folder should be")
    with pytest.raises(SourceError, match="landing"):
        land(settings, "numbers", [source])
