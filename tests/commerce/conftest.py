"""A home in which events, orders and customers arrive as files do."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import load_contracts
from lakehouse.ingest import IngestReport, ingest
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.transform import TransformReport, build
from tests.transform.conftest import parsed_project, rows_of

__all__ = ["parsed_project"]


@dataclass
class Shop:
    """One home of the shipped project."""

    settings: Settings
    runs: int = field(default=0)

    @property
    def lake(self) -> Lake:
        return Lake.from_settings(self.settings)

    def ingest(self, dataset: str, *files: Path) -> IngestReport:
        """Take files in, each time an hour later."""
        self.runs += 1
        now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=self.runs)
        contract = load_contracts(self.settings).dataset(dataset)
        return ingest(self.lake, contract, files, settings=self.settings, run=f"ingest-{self.runs}", now=now)

    def build(self, *select: str, full_refresh: bool = False, checked: bool = True) -> TransformReport:
        """Build tables as a run does, with the tests of what is in them or without."""
        self.runs += 1
        tests = "cautious" if checked else "empty"
        report = build(self.settings, run=f"run-{self.runs}", select=select, full_refresh=full_refresh, indirect_selection=tests)
        assert not report.failed
        return report

    def rows(self, table: str, columns: str = "*") -> list[tuple[Any, ...]]:
        """The rows of a table, sorted."""
        return rows_of(self.lake, table, columns)

    def columns(self, table: str) -> list[str]:
        """The names of its columns."""
        return list(self.lake.schema(table))


@pytest.fixture
def open_shop(tmp_path: Path, home: Path, parsed_project: Path) -> Callable[[str], Shop]:
    """Opens shops that never see each other."""
    import shutil

    def opened(name: str) -> Shop:
        settings = Settings.load().model_copy(update={"home": tmp_path / name})
        shutil.copytree(parsed_project, settings.home_dir / "dbt" / "parsed" / parsed_project.name)
        return Shop(settings)

    return opened


def csv_lines(path: Path) -> Sequence[bytes]:
    """The header of a CSV file without line breaks in its fields, then its rows."""
    return path.read_bytes().splitlines()
