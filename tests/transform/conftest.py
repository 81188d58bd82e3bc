"""A scratch dbt project over the shipped macros, and raw tables made by hand from contracts."""

import hashlib
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract, load_contracts
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Commit, Lake, Stamp
from lakehouse.transform import TransformReport, build, prepare, raw_columns
from lakehouse.transform.invocation import invoked
from lakehouse.transform.project import parsed

PROJECT = Path(__file__).resolve().parents[2]
INGESTED_AT = datetime(2026, 1, 1, tzinfo=UTC)


def put_raw(
    lake: Lake, contract: DatasetContract, rows: Sequence[Mapping[str, Any]], *, batch: int, defaults: Mapping[str, Any] | None = None
) -> Commit:
    """Append a batch to a raw table as ingestion does; columns that a row leaves out are the defaults, or empty."""
    columns = raw_columns(contract)
    digest = hashlib.sha256(str(batch).encode()).hexdigest()
    known = {"_batch": batch, "_file": f"{batch}.csv", "_sha256": digest, "_ingested_at": INGESTED_AT, **(defaults or {})}
    selects = []
    for number, row in enumerate(rows, start=1):
        values = {**known, "_row": number, **row}
        cells = [f"CAST({quote_literal(values.get(name))} AS {kind}) AS {quote_identifier(name)}" for name, kind in columns.items()]
        selects.append(f"SELECT {', '.join(cells)}")
    con = lake.open_connection()
    try:
        return lake.append(con, contract.raw, " UNION ALL ".join(selects), stamp=Stamp(contract.raw, f"batch-{batch}"))
    finally:
        con.close()


def rows_of(lake: Lake, table: str, columns: str = "*", *, version: int | None = None) -> list[tuple[Any, ...]]:
    """The rows of a table, sorted."""
    con = lake.open_connection()
    try:
        return con.execute(f"SELECT {columns} FROM ({lake.scan_sql(table, version=version, con=con)}) ORDER BY ALL").fetchall()
    finally:
        con.close()


@dataclass
class ScratchProject:
    """A project with the shipped macros, profile and settings of dbt, and its own models."""

    root: Path
    settings: Settings
    lake: Lake
    runs: int = field(default=0)

    def write(self, path: str, text: str) -> None:
        """Write a file below dbt/."""
        target = self.root / "dbt" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")

    def put(self, table: str, sql: str) -> Commit:
        """Replace a table that models read as a source."""
        con = self.lake.open_connection()
        try:
            return self.lake.overwrite(con, table, sql, stamp=Stamp(table, "test"))
        finally:
            con.close()

    def build(self, *select: str, check: bool = True, full_refresh: bool = False) -> TransformReport:
        """Run `dbt build`, each time as another run."""
        self.runs += 1
        return build(self.settings, run=f"run-{self.runs}", select=select, check=check, full_refresh=full_refresh)

    def build_by_hand(self, *arguments: str) -> list[str]:
        """Run `dbt build` as in a shell, where no run of the lakehouse names itself; returns the warnings."""
        warnings: list[str] = []

        def listen(event: Any) -> None:
            if event.info.level == "warn":
                warnings.append(event.info.msg)

        with invoked(self.settings, ["build", "--select", *arguments], manifest=parsed(prepare(self.settings)), on_event=listen) as made:
            assert made.success
        return warnings

    def rows(self, table: str, columns: str = "*", *, version: int | None = None) -> list[tuple[Any, ...]]:
        """The rows of a table, sorted."""
        return rows_of(self.lake, table, columns, version=version)


@pytest.fixture(scope="module")
def scratch_project(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], ScratchProject]:
    """Makes scratch projects; each has its own home."""

    def make(name: str) -> ScratchProject:
        root = tmp_path_factory.mktemp(name)
        shutil.copy(PROJECT / "workspace.yaml", root)
        (root / "contracts" / "datasets").mkdir(parents=True)
        shutil.copytree(PROJECT / "dbt" / "macros", root / "dbt" / "macros")
        for file in ("dbt_project.yml", "profiles.yml"):
            shutil.copy(PROJECT / "dbt" / file, root / "dbt" / file)
        for folder in ("models", "seeds", "snapshots", "tests"):
            (root / "dbt" / folder).mkdir()
        settings = Settings(project=root, home=root / "home", threads=2, memory_limit="1GB")
        return ScratchProject(root, settings, Lake.from_settings(settings))

    return make


@pytest.fixture(scope="session")
def parsed_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped project, parsed once for all tests."""
    settings = Settings(project=PROJECT, home=tmp_path_factory.mktemp("parsed"))
    return prepare(settings).parent


@pytest.fixture
def settings(home: Path, parsed_project: Path) -> Settings:
    """The settings of a fresh home in which the shipped project has been parsed."""
    shutil.copytree(parsed_project, home / "dbt" / "parsed" / parsed_project.name)
    return Settings.load()


@pytest.fixture
def interviews(settings: Settings) -> Callable[..., Commit]:
    """Puts interviews into the raw table of the shipped survey."""
    contract = load_contracts(settings).dataset("household_survey")
    lake = Lake.from_settings(settings)
    defaults = {
        "district": "Amani",
        "urban": True,
        "household_size": 4,
        "children_under_5": 1,
        "rooms": 2,
        "total_expenditure": 80,
        "food_expenditure": 40,
        "monthly_income": 100,
        "roof_material": "metal",
        "cooking_fuel": "gas",
        "water_source": "well",
        "has_electricity": True,
        "vulnerable": False,
    }

    def put(batch: int, *rows: Mapping[str, Any]) -> Commit:
        return put_raw(lake, contract, rows, batch=batch, defaults=defaults)

    return put
