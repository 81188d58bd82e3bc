"""What the tests of decisions share: the fixtures of ingestion, a person who decides, and the law that holds through all of it."""

import csv
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.decisions import Author
from lakehouse.ingest.edits import export_rows
from lakehouse.ingest.replay import DiscardReport, ReplayReport, discard, replay
from lakehouse.ingest.waiting import Selection
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.ingest.conftest import lake, load, people, rows_of, write_contract

__all__ = ["lake", "load", "people", "write_contract"]

LATER = datetime(2026, 3, 1, 12, tzinfo=UTC)
ANN = Author("ann", "run-1", LATER, "checked")


@pytest.fixture
def replayed(lake: Lake, settings: Settings) -> Callable[..., ReplayReport]:
    """Replays as Ann."""

    def run(contract: DatasetContract, edits: Path | None = None, **chosen: Any) -> ReplayReport:
        return replay(lake, contract, selection=Selection(**chosen), edits=edits, settings=settings, author=ANN)

    return run


@pytest.fixture
def discarded(lake: Lake, settings: Settings) -> Callable[..., DiscardReport]:
    """Discards as Ann."""

    def run(contract: DatasetContract, **chosen: Any) -> DiscardReport:
        return discard(lake, contract, selection=Selection(**chosen), settings=settings, author=ANN)

    return run


@pytest.fixture
def edited(lake: Lake, tmp_path: Path) -> Callable[..., Path]:
    """Exports waiting rows, and writes them back as a function changed them."""

    def run(contract: DatasetContract, change: Callable[[dict[str, Any]], None], ending: str = "csv", **chosen: Any) -> Path:
        exported, corrected = tmp_path / f"exported.{ending}", tmp_path / f"corrected.{ending}"
        exported.unlink(missing_ok=True)
        assert export_rows(lake, contract, selection=Selection(**chosen), to=exported)
        if ending == "csv":
            with exported.open(encoding="utf-8", newline="") as file:
                listed: list[dict[str, Any]] = list(csv.DictReader(file))
        else:
            listed = [json.loads(line) for line in exported.read_text("utf-8").splitlines()]
        for row in listed:
            change(row)
        with corrected.open("w", encoding="utf-8", newline="") as file:
            if ending == "csv":
                writer = csv.DictWriter(file, list(listed[0]))
                writer.writeheader()
                writer.writerows(listed)
            else:
                file.writelines(json.dumps(row) + "\n" for row in listed)
        return corrected

    return run


def states(lake: Lake, contract: DatasetContract) -> list[tuple[Any, ...]]:
    """Number, status and attempts of every quarantined row."""
    return rows_of(lake, contract.quarantine, "_file, _row, status, attempts")
