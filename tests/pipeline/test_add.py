"""From a stranger's files to contracts, and the steps of a run that need no model."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lakehouse.errors import ContractError, FileRefused, SourceError
from lakehouse.pipeline.add import AddRequest, add, name_from_file
from lakehouse.pipeline.events import Event, State
from lakehouse.pipeline.runs import run_pipeline
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings


@pytest.fixture(autouse=True)
def _no_dbt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsing the dbt project takes seconds and has tests of its own; here only what add decides is looked at."""
    monkeypatch.setattr("lakehouse.transform.prepare", lambda settings, contracts: settings.dbt_home / "manifest.json")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "Shop Visits (2024).csv"
    rows = "".join(f"C{i:04d},{i % 7},{i * 1.5},{'yes' if i % 3 else 'no'}\n" for i in range(300))
    path.write_text("visit id,pages,Amount,Bought\n" + rows)
    return path


def _add(settings: Settings, *paths: Path, **said: object):
    return add(Workspace(settings), AddRequest(paths=tuple(str(path) for path in paths), **said))  # type: ignore[arg-type]


def test_a_file_becomes_contracts_and_lands(settings: Settings, shop: Path) -> None:
    report = _add(settings, shop, name="visits", target="Bought")
    contracts = Workspace(settings).contracts
    assert contracts.dataset("visits").primary_key == ("visit_id",)
    assert contracts.model("visits").problem == "classification"
    assert [path.name for path in report.written] == ["visits.odcs.yaml", "visits.yaml"]
    assert [one.path.read_bytes() for one in report.landed] == [shop.read_bytes()]
    assert report.as_dict()["next"] == "lakehouse run visits"


def test_the_name_comes_from_the_file(settings: Settings, shop: Path) -> None:
    assert _add(settings, shop).dataset.name == "shop_visits_2024"


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.csv", "a"),
        ("A-B c.csv.gz", "a_b_c"),
        ("2024.json", "data_2024"),
        ("Größe.xlsx", "gr_e"),
        (".hidden", "hidden"),
        ("_.csv", "data"),
    ],
)
def test_any_file_name_gives_a_name(file: str, name: str) -> None:
    assert name_from_file(Path(file)) == name


def test_a_name_that_is_taken_is_refused_and_nothing_changes(settings: Settings, shop: Path) -> None:
    _add(settings, shop, name="visits")
    written = (settings.home_dir / "contracts" / "datasets" / "visits.odcs.yaml").read_text()
    with pytest.raises(ContractError, match="--replace"):
        _add(settings, shop, name="visits", target="Bought")
    assert not Workspace(settings).contracts.models.get("visits")
    assert _add(settings, shop, name="visits", target="Bought", replace=True).model is not None
    assert (settings.home_dir / "contracts" / "datasets" / "visits.odcs.yaml").read_text().splitlines()[1:3] == written.splitlines()[1:3]
    with pytest.raises(ContractError, match="is taken"):
        _add(settings, shop, name="commits", replace=True)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ({"name": "Bad Name"}, "bad_name"),
        ({"target": "Bougth"}, "Bought"),
        ({"key": ("visitid",)}, "visit id"),
        ({"event_time": "when"}, "when"),
    ],
)
def test_what_is_not_there_is_named_before_anything_is_written(settings: Settings, shop: Path, said: dict[str, object], hint: str) -> None:
    with pytest.raises(ContractError, match=hint):
        _add(settings, shop, **said)
    assert not (settings.home_dir / "contracts").exists()
    assert not settings.landing_dir.exists()


def test_files_of_one_kind_are_one_dataset_and_of_two_kinds_an_error(settings: Settings, shop: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text("visit id,pages,Amount,Bought,coupon\nC9999,1,2.5,no,X\n")
    report = _add(settings, shop, more, name="visits")
    assert [column.name for column in report.dataset.columns] == ["visit_id", "pages", "amount", "bought", "coupon"]
    assert not report.dataset.column("coupon").required
    other = tmp_path / "other.csv"
    other.write_text("sensor,celsius,volt,ampere,ohm\n1,2,3,4,5\n")
    with pytest.raises(FileRefused, match=r"other\.csv"):
        _add(settings, shop, other, name="mixed")


def test_many_files_are_sampled_but_all_land(settings: Settings, tmp_path: Path) -> None:
    for number in range(60):
        (tmp_path / f"day_{number:03d}.csv").write_text(f"id,day\n{number},{number}\n")
    report = _add(settings, tmp_path / "day_*.csv", name="days")
    assert report.files_seen == 40
    assert len(report.landed) == 60


def test_empty_and_missing_files_are_named(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(FileRefused, match=r"empty\.csv"):
        _add(settings, tmp_path / "empty.csv")
    with pytest.raises(SourceError, match=r"none\.csv"):
        _add(settings, tmp_path / "none.csv")


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """dbt is called with these, and has no feature views; its own tests look at what it does."""
    calls: list[dict[str, object]] = []

    def build_tables(workspace: Workspace, **said: object) -> list[object]:
        calls.append(said)
        return []

    monkeypatch.setattr("lakehouse.pipeline.building.build_tables", build_tables)
    monkeypatch.setattr("lakehouse.pipeline.features.declared", lambda _: {})
    return calls


def test_a_run_reports_the_same_totals_every_time(settings: Settings, shop: Path, built: list[dict[str, object]], now: object) -> None:
    _add(settings, shop, name="visits")
    events: list[Event] = []
    reports = [run_pipeline(Workspace(settings), ["visits"], run=f"r{i}", now=now, progress=events.append) for i in range(2)]  # type: ignore[arg-type]
    for report in reports:
        assert report.passed
        assert report.as_dict()["datasets"] == {"visits": {"rows_read": 300, "rows_accepted": 300, "rows_quarantined": 0}}
    assert reports[0].as_dict() == reports[1].as_dict()
    assert [event.state for event in events if event.step == "ingest" and event.state is not State.ADVANCED] == [
        State.STARTED,
        State.FINISHED,
        State.STARTED,
        State.SKIPPED,
    ]
    assert built[0]["datasets"] == ["visits"]


def test_a_refused_file_fails_every_run_until_it_is_gone(
    settings: Settings, shop: Path, built: list[dict[str, object]], now: object
) -> None:
    _add(settings, shop, name="visits")
    bad = settings.landing_dir / "visits" / "bad.csv"
    bad.write_bytes(b"\x00\x01\x02\x03" * 64)
    run: Callable[[str], object] = lambda name: run_pipeline(Workspace(settings), ["visits"], run=name, now=now)  # type: ignore[arg-type] # noqa: E731
    import os

    os.utime(bad, (0, 0))
    for name in ("r1", "r2"):
        report = run(name)
        assert not report.passed  # type: ignore[attr-defined]
        assert "bad.csv" in report.reasons()[0]  # type: ignore[attr-defined]
        assert len(built) == int(name[1])
    bad.unlink()
    assert run("r3").passed  # type: ignore[attr-defined]


def test_a_key_that_repeats_is_refused_with_an_example(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "cities.csv"
    file.write_text("city,year,people\n" + "".join(f"{('Oslo', 'Bergen', ' Oslo')[i % 3]},{2000 + i // 3},{i}\n" for i in range(30)))
    with pytest.raises(ContractError, match=r"key city: is not different in every row of cities\.csv") as caught:
        _add(settings, file, key=("city",))
    error = caught.value
    assert error.found == "2 values in more than one row (28 rows too many), such as 'Oslo' in rows 1, 3 and 4"
    assert "--key" in str(error.fix)
    assert not (settings.home_dir / "contracts").exists()


def test_a_key_with_missing_values_is_refused_with_an_example(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "people.csv"
    file.write_text("id,age\n" + "".join(f"{'' if i == 4 else i},{i}\n" for i in range(30)))
    with pytest.raises(ContractError, match=r"key id: has no value of id in every row of people\.csv .*1 row without one, such as row 5"):
        _add(settings, file, key=("id",))


def test_a_key_that_fails_once_in_a_thousand_rows_is_taken_with_a_warning(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "sales.csv"
    file.write_text("order,amount\n" + "".join(f"A{i if i != 1999 else 7},{i}\n" for i in range(2000)))
    report = _add(settings, file, key=("order",))
    assert report.dataset.primary_key == ("order",)
    assert report.warnings == (
        "key order: is not different in every row of sales.csv: 1 value in more than one row (1 row too many), such as 'A7' in rows 8 "
        "and 2,000; quarantined",
    )


def test_a_key_may_come_again_in_another_file(settings: Settings, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"day{number}.csv").write_text("id,level\n" + "".join(f"{i},{i + number}\n" for i in range(30)))
    report = _add(settings, tmp_path / "day*.csv", name="levels", key=("id",))
    assert report.dataset.primary_key == ("id",)
    assert not report.warnings


def test_a_key_that_a_file_lacks_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,level,size\n1,2,3\n")
    (tmp_path / "b.csv").write_text("level,size\n2,3\n")
    with pytest.raises(ContractError, match=r"key id: is not in b\.csv"):
        _add(settings, tmp_path / "*.csv", name="levels", key=("id",))


@pytest.mark.parametrize("what", ["key", "entity"])
def test_what_tells_rows_apart_is_not_predicted(settings: Settings, shop: Path, what: str) -> None:
    with pytest.raises(ContractError, match=f"target Visit_ID: is also the {what}"):
        _add(settings, shop, target="Visit_ID", **{what: ("visit id",)})
