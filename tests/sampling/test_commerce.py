"""The synthetic shop."""

import csv
import json
from pathlib import Path

import pytest

from lakehouse.errors import SourceError
from lakehouse.sampling import SampleReport, commerce


def read(report: SampleReport) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for path in report:
        text = path.read_text()
        rows += [json.loads(line) for line in text.splitlines()] if path.suffix == ".ndjson" else list(csv.DictReader(text.splitlines()))
    return rows


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    one, two, other = (commerce(customers=20, days=40, out=tmp_path / name, seed=seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for dataset, report in one.items():
        assert [path.read_bytes() for path in report] == [path.read_bytes() for path in two[dataset]]
    assert read(one["orders"]) != read(other["orders"])


def test_the_datasets_speak_of_the_same_things_and_have_the_usual_dirt(tmp_path: Path) -> None:
    made = commerce(customers=60, days=120, out=tmp_path, bad_rate=0)
    customers = {row["customer_id"] for row in read(made["customers"])}
    orders, payments, events = (read(made[name]) for name in ("orders", "payments", "web_events"))
    assert len(customers) == 60
    assert {row["CustomerID"] for row in orders} <= customers | {""}
    assert {row["order_id"] for row in payments} == {row["InvoiceNo"] for row in orders if not row["InvoiceNo"].startswith("C")}
    assert {row["order_id"] for row in payments} == {str(row["tr_orderid"]) for row in events if row["event_name"] == "purchase"}
    assert len({row["event_id"] for row in events}) < len(events)
    assert any("bot" in row["useragent"] for row in events)
    late = [
        row
        for path in made["web_events"]
        for row in map(json.loads, path.read_text().splitlines())
        if row["derived_tstamp"][:10] not in path.name
    ]
    assert late


def test_bad_rows_are_counted(tmp_path: Path) -> None:
    made = commerce(customers=60, days=120, out=tmp_path, bad_rate=0.1)
    assert made["orders"].bad_rows == int(made["orders"].rows * 0.1)
    assert set(made["payments"].bad_by_kind) == {"unknown_category", "text_in_number", "refund_that_adds", "missing_required"}


def test_a_shop_without_customers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="at least one customer"):
        commerce(customers=0, out=tmp_path)
