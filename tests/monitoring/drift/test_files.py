"""Real files of one source at different times: what is known to have drifted alarms, and what has not is quiet."""

import csv
from pathlib import Path

import pytest

from lakehouse.errors import FileRefused
from lakehouse.monitoring.drift import DriftLimits, DriftReport, Verdict, compare_files
from lakehouse.settings import Settings
from lakehouse.tables import Lake

Reports = dict[tuple[str, str], DriftReport]
# The time is a column of the files, too.
CALENDAR = {"year", "month", "month_key", "day_of_week"}


@pytest.fixture(scope="module")
def expected(real_data: Path) -> list[dict[str, str]]:
    """What the data came with: PSI by source, slice and column."""
    with (real_data / "drift" / "psi.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.fixture(scope="module")
def reports(real_data: Path, expected: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Every slice against its reference."""
    lake, folder = Lake(tmp_path_factory.mktemp("lake"), threads=1), real_data / "drift"
    return {
        (source, name): compare_files(lake, folder / source / f"{name}.csv", folder / source / "reference.csv", limits=DriftLimits())
        for source, name in sorted({(row["set"], row["slice"]) for row in expected})
    }


def test_what_has_not_drifted_is_quiet(reports: Reports) -> None:
    quiet = [one for one in reports if one[1] == "current_nodrift_random"]
    assert len(quiet) == 3
    for one in [*quiet, ("acs_ma", "current_2019")]:
        assert reports[one].verdict is Verdict.STABLE, one


@pytest.mark.parametrize("name", ["current_2008-11", "current_2009-05"])
def test_the_bank_after_the_crisis_alarms(reports: Reports, name: str) -> None:
    found = reports["bank_marketing", name]
    assert found.verdict is Verdict.DRIFTED
    assert {"euribor3m", "nr.employed", "contact", "poutcome"} <= set(found.drifted)
    assert not {"loan", "marital", "duration"} & set(found.drifted)
    assert max(one.effect for one in found.columns) > 1


def test_a_decade_of_opinions_has_moved_less_than_the_limit(reports: Reports) -> None:
    found = reports["gss", "current_2012_2014"]
    assert {one.column for one in found.columns if one.verdict is not Verdict.STABLE} <= CALENDAR


def test_psi_is_what_the_data_came_with(reports: Reports, expected: list[dict[str, str]]) -> None:
    for row in expected:
        found = {one.column: one.psi for one in reports[row["set"], row["slice"]].columns}
        # There, the smallest value never has a bin of its own; here, values that the reference hardly has share one.
        tolerance = 0.1 if row["column"] in {"campaign", "pdays", "previous", "poutcome", "relig"} else 6e-5
        assert found[row["column"]] == pytest.approx(float(row["psi"]), abs=tolerance), row


def test_values_that_are_no_longer_numbers_and_columns_that_are_gone_are_seen(settings: Settings, tmp_path: Path) -> None:
    before, after, other = (tmp_path / name for name in ("before.csv", "after.csv", "other.csv"))
    before.write_text("id,size,kind\n" + "".join(f"k{number},{number % 50},{'ab'[number % 2]}\n" for number in range(300)))
    after.write_text("id,size\n" + "".join(f"k{number},{'big' if number % 2 else number % 50}\n" for number in range(300)))
    other.write_text("nothing,shared\n1,2\n")
    lake = Lake.from_settings(settings)
    found = {one.column: one for one in compare_files(lake, after, before, limits=DriftLimits()).columns}
    assert (found["kind"].missing, found["kind"].verdict) == (1.0, Verdict.DRIFTED)
    assert (found["size"].missing, found["size"].verdict) == (0.5, Verdict.DRIFTED)
    with pytest.raises(FileRefused, match=r"shares no column with before\.csv"):
        compare_files(lake, other, before, limits=DriftLimits())
