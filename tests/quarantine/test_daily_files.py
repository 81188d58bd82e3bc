"""116 daily files: in order, out of order, with duplicates, and a fifth of them damaged and later repaired: the same final tables."""

import csv
import gzip
import io
import json
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.ingest import ingest
from lakehouse.ingest.edits import export_rows
from lakehouse.ingest.events import Author
from lakehouse.ingest.replay import replay
from lakehouse.ingest.waiting import Selection
from lakehouse.monitoring import dataset_volume
from lakehouse.pipeline.building import build_tables
from lakehouse.pipeline.events import unwatched
from lakehouse.pipeline.rejected import count_by_rule
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from tests.ingest.conftest import rows_of

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: online_retail
name: online_retail
version: 1.0.0
status: active
domain: commerce
schema:
  - name: online_retail
    physicalType: table
    properties:
      - {name: invoice, physicalName: InvoiceNo, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: stock_code, physicalName: StockCode, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: description, physicalName: Description, logicalType: string, physicalType: VARCHAR}
      - {name: quantity, physicalName: Quantity, logicalType: integer, physicalType: INTEGER, required: true}
      - {name: invoiced_at, physicalName: InvoiceDate, logicalType: timestamp, physicalType: TIMESTAMP, required: true}
      - {name: unit_price, physicalName: UnitPrice, logicalType: number, physicalType: DOUBLE, required: true,
         logicalTypeOptions: {minimum: 0.001}}
      - {name: customer, physicalName: CustomerID, logicalType: number, physicalType: DOUBLE}
      - {name: country, physicalName: Country, logicalType: string, physicalType: VARCHAR, enum: [ENUM]}
customProperties:
  - {property: quarantineLimit, value: 30}
"""
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = 171_999
FINAL = "* EXCLUDE (_batch, _ingested_at, _sha256{more})"
Damage = Callable[[list[list[str]], random.Random], bytes]


def text_of(rows: Sequence[Sequence[str]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue().encode()


def wrong_values(rows: list[list[str]], chance: random.Random) -> bytes:
    """Every twelfth row or so has a value of no type."""
    damaged = [list(row) for row in rows]
    for row in chance.sample(damaged[1:], k=max(1, len(rows) // 12)):
        row[chance.choice((3, 4, 5))] = "#REF!"
    return text_of(damaged)


def wrong_lines(rows: list[list[str]], chance: random.Random) -> bytes:
    """Some lines have too few or too many fields, and some the wrong values."""
    damaged = [list(row) for row in rows]
    for row in chance.sample(damaged[1:], k=max(1, len(rows) // 25)):
        if chance.random() < 0.5:
            row.pop()
        else:
            row += ["", "?"]
    return text_of(damaged)


def cut(rows: list[list[str]], chance: random.Random) -> bytes:
    """The transfer broke off: what arrived is good, and not all."""
    return text_of(rows[: max(2, len(rows) // 2)])


def mixed_up(rows: list[list[str]], chance: random.Random) -> bytes:
    """Every second row is wrong: more than the contract allows."""
    return text_of([rows[0], *([*row[:3], "x", *row[4:]] if number % 2 else row for number, row in enumerate(rows[1:]))])


def not_whole(rows: list[list[str]], chance: random.Random) -> bytes:
    """A compressed file without its end."""
    return gzip.compress(text_of(rows))[:-40]


@dataclass(frozen=True)
class World:
    """One home, and how files come into it."""

    workspace: Workspace
    contract: DatasetContract
    folder: Path

    @classmethod
    def new(cls, tmp_path: Path, name: str, countries: str, monkeypatch: pytest.MonkeyPatch) -> "World":
        monkeypatch.setenv("LAKEHOUSE_HOME", str(tmp_path / name))
        settings = Settings.load()
        place = settings.home_dir / "contracts" / "datasets" / "online_retail.odcs.yaml"
        place.parent.mkdir(parents=True)
        place.write_text(CONTRACT.replace("ENUM", countries), encoding="utf-8")
        workspace = Workspace(settings)
        folder = tmp_path / f"{name}-files"
        folder.mkdir()
        return cls(workspace, workspace.contracts.dataset("online_retail"), folder)

    def bring(self, files: Sequence[Path], *, day: int = 0, **how: Any) -> list[str]:
        report = ingest(
            self.workspace.lake,
            self.contract,
            files,
            settings=self.workspace.settings,
            run="r",
            now=NOW + timedelta(days=day),
            **how,
        )
        return [str(file.status) for file in report.files]

    def build(self) -> None:
        self.workspace.__dict__.pop("contracts", None)
        build_tables(self.workspace, datasets=["online_retail"], without=[], run="r", full=False, progress=unwatched)

    def final(self) -> dict[str, list[tuple[Any, ...]]]:
        lake = self.workspace.lake
        raw = lake.schema("raw.online_retail")
        arrival = ", _arrival" if "_arrival" in raw else ""
        waiting = [
            row[:-1] for row in rows_of(lake, "quarantine.online_retail", "_file, _row, record, rules, status") if row[-1] == "waiting"
        ]
        return {
            "raw": rows_of(lake, "raw.online_retail", FINAL.format(more=arrival)),
            "waiting": waiting,
            "staging": rows_of(lake, "staging.online_retail", FINAL.format(more=", _arrival, row_id")),
        }

    def check_conserved(self) -> None:
        volume, found = dataset_volume(self.workspace.lake, "online_retail"), count_by_rule(self.workspace.lake)["online_retail"]
        assert volume.rows_read == volume.rows_accepted + volume.rows_quarantined
        assert volume.rows_accepted == len(rows_of(self.workspace.lake, "raw.online_retail", "_row"))
        assert volume.rows_quarantined == found.rows + found.discarded + volume.rows_replaced


def corrected(exported: Path, originals: Path, to: Path) -> None:
    """What a person does who has the right values on paper."""
    rows = [json.loads(line) for line in exported.read_text("utf-8").splitlines()]
    known: dict[str, list[dict[str, str]]] = {}
    with to.open("w", encoding="utf-8") as file:
        for row in rows:
            name = row["lakehouse_file"]
            if name not in known:
                with (originals / name).open(encoding="utf-8", newline="") as right:
                    known[name] = list(csv.DictReader(right))
            file.write(json.dumps({**row, **known[name][int(row["lakehouse_row"]) - 1]}) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_order_the_number_and_the_damage_of_deliveries_do_not_matter(
    home: Path, real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily = real_data / "commerce" / "online_retail" / "daily"
    files = sorted(daily.glob("*.csv"))
    assert len(files) == 116
    countries = set()
    for file in files:
        with file.open(encoding="utf-8", newline="") as text:
            countries |= {row["Country"] for row in csv.DictReader(text)}
    listed = ", ".join(f"{{value: {json.dumps(name)}}}" for name in sorted(countries))
    chance = random.Random(116)

    in_order = World.new(tmp_path, "in_order", listed, monkeypatch)
    assert set(in_order.bring(files)) == {"ingested"}
    in_order.build()
    expected = in_order.final()
    assert len(expected["raw"]) + len(expected["waiting"]) == ROWS
    assert expected["waiting"]
    assert len(expected["staging"]) == len(expected["raw"])
    in_order.check_conserved()

    shuffled = World.new(tmp_path, "shuffled", listed, monkeypatch)
    order = list(files)
    chance.shuffle(order)
    for day, start in enumerate(range(0, len(order), 13)):
        part = order[start : start + 13]
        again = [shuffled.folder / f"copy-{day}-{file.name}" for file in chance.sample(order[: start + 13], 4)]
        for copy in again:
            shutil.copy(daily / copy.name.split("-", 2)[2], copy)
        # A copy comes after what it is a copy of: its name would be the one in the table otherwise.
        shuffled.bring(part, day=day)
        assert set(shuffled.bring([*again, *part[:3]], day=day)) == {"already"}
        if day in {2, 5}:
            shuffled.build()
    shuffled.build()
    assert shuffled.final() == expected
    shuffled.check_conserved()

    damaged = World.new(tmp_path, "damaged", listed, monkeypatch)
    bad = sorted(chance.sample(files, 23))
    kinds: list[Damage] = [wrong_values, wrong_lines, cut, mixed_up, not_whole]
    by_kind = {file.name: kinds[number % len(kinds)] for number, file in enumerate(bad)}
    for file in files:
        target = damaged.folder / file.name
        shutil.copy(file, target)
        if file.name in by_kind:
            with file.open(encoding="utf-8", newline="") as text:
                rows = list(csv.reader(text))
            target.write_bytes(by_kind[file.name](rows, chance))
    order = sorted(damaged.folder.iterdir())
    chance.shuffle(order)
    statuses: dict[str, str] = {}
    for day in range(4):
        part = order[day::4]
        statuses |= dict(zip([file.name for file in part], damaged.bring(part, day=day), strict=True))
    refused = {name for name, status in statuses.items() if status == "refused"}
    assert refused == {name for name, kind in by_kind.items() if kind in {mixed_up, not_whole}}
    damaged.build()
    damaged.check_conserved()
    # Two ways to repair what came in damaged: by hand, and by a file that replaces it. What was refused is simply delivered again.
    repairable = sorted(name for name, kind in by_kind.items() if kind in {wrong_values, wrong_lines})
    by_hand = set(repairable[::2])
    repaired = [shutil.copy(daily / name, damaged.folder / name) for name in by_kind if name not in by_hand and name not in refused]
    author = Author("ann", "r", NOW + timedelta(days=9))
    for name in sorted(by_hand):
        exported, right = damaged.folder / f"{name}.ndjson", damaged.folder / f"{name}.corrected.ndjson"
        assert export_rows(damaged.workspace.lake, damaged.contract, selection=Selection(file=name), to=exported)
        corrected(exported, daily, right)
        report = replay(damaged.workspace.lake, damaged.contract, edits=right, settings=damaged.workspace.settings, author=author)
        assert report.accepted
        assert report.left == 0
        damaged.check_conserved()
    assert set(damaged.bring([Path(path) for path in repaired[::2]], day=10, repaired=True)) == {"ingested"}
    damaged.build()
    assert set(damaged.bring([daily / name for name in sorted(refused)], day=11)) == {"ingested"}
    # Some came in beside the damaged ones first, and only then somebody said that they replace them.
    late = [Path(path) for path in repaired[1::2]]
    assert set(damaged.bring(late, day=12)) == {"ingested"}
    assert set(damaged.bring(late, day=13, repaired=True)) == {"already"}
    assert set(damaged.bring(order, day=14)) == {"already", "refused"}
    damaged.build()
    damaged.check_conserved()
    assert damaged.final() == expected
