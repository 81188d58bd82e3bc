"""Rows that stand alone, over real tables: each number is large but usual, not all at once."""

import random
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from lakehouse.contracts import DatasetContract, parse_dataset
from lakehouse.ingest import ingest
from lakehouse.monitoring import newest_checks
from lakehouse.pipeline.report import outlier_checks
from lakehouse.quality import CHECKS_TABLE
from lakehouse.quality.isolation import CHECK, check_outlier_rows
from lakehouse.settings import Settings
from lakehouse.tables import Lake

TEXT = """
apiVersion: v3.2.0
kind: DataContract
id: shapes
name: shapes
version: 1.0.0
status: active
schema:
  - name: shapes
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - {name: width, logicalType: number}
      - {name: height, logicalType: number}
      - {name: depth, logicalType: number}
      - {name: weight, logicalType: number}
      - {name: serial, logicalType: integer}
    customProperties: [{property: lakehouse.usual, value: USUAL}]
"""
ROWS = 200


def contract(usual: str = "{}") -> DatasetContract:
    return parse_dataset(TEXT.replace("USUAL", usual), path=Path("shapes.odcs.yaml"))


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake.from_settings(settings)


@pytest.fixture
def deliver(lake: Lake, settings: Settings, now: datetime, tmp_path: Path) -> Callable[..., None]:
    """One more batch, in which some rows have large numbers only."""

    def make(number: int, odd: int = 0, usual: str = "{}") -> None:
        chance = random.Random(number)
        lines = ["id,width,height,depth,weight,serial"]
        for place in range(ROWS):
            numbers = [chance.uniform(2, 3) if place < odd else chance.gauss(0, 1) for _ in range(4)]
            lines.append(f"{number * ROWS + place},{','.join(f'{one:.4f}' for one in numbers)},{number * ROWS + place}")
        path = tmp_path / f"shapes-{number}.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        ingest(lake, contract(usual), [path], settings=settings, run="test", now=now)

    return make


def test_rows_unlike_the_others_are_told_once_with_their_places(deliver: Callable[..., None], lake: Lake, now: datetime) -> None:
    one = contract()
    for number in range(4):
        deliver(number)
    [quiet] = check_outlier_rows(lake, one, run="r", now=now)
    assert (quiet.id, quiet.passed) == (CHECK, True)
    assert check_outlier_rows(lake, one, run="r", now=now) == []
    deliver(4, odd=60)
    version = lake.version(CHECKS_TABLE)
    [told] = outlier_checks(lake, one, run="r", now=now)
    assert (told.passed, told.blocks) == (False, False)
    assert "% of 200 rows looked at stand alone (isolation forest), usually at most" in told.detail
    assert "shapes-4.csv row " in told.detail
    assert "(id 8" in told.detail
    # It is one of the batch's answers now, and unchanged tables are not judged again.
    assert next(answer.detail for answer in newest_checks(lake, "shapes") if answer.id == CHECK) == told.detail
    assert outlier_checks(lake, one, run="r", now=now) == []
    assert lake.version(CHECKS_TABLE) == (version or 0) + 1


def test_too_few_rows_are_not_judged_and_a_pin_decides(deliver: Callable[..., None], lake: Lake, now: datetime) -> None:
    deliver(0)
    assert check_outlier_rows(lake, contract(), run="r", now=now) == []
    deliver(1)
    deliver(2, odd=20)
    assert check_outlier_rows(lake, contract("{outlierRows: off}"), run="r", now=now) == []
    [found] = check_outlier_rows(lake, contract("{outlierRows: {most: 0.5}}"), run="r", now=now)
    assert found.passed
    assert "pinned in the contract at most 50.00%" in found.detail
