"""The whole domain: the same files make the same tables, whatever the order and the pieces in which they arrive."""

import csv
import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.sampling import SampleReport, commerce
from tests.commerce.conftest import Shop

File = tuple[str, Path]

DOMAIN = "tag:commerce"
# Pseudonyms are made with the key of the home; a row's own name is that of the first file it was in.
OF_THE_HOME = ("full_name", "email", "phone", "user_ipaddress", "row_id")


def digests(shop: Shop, tables: Sequence[str]) -> dict[str, str]:
    """The content of tables, sorted: of features every column, the two times among them.

    Of the others all but the columns that begin with an underscore, which name the file and the batch that brought a row here, and those
    that are the home's own.
    """
    found: dict[str, str] = {}
    for table in tables:
        is_told = table.startswith("features.")
        columns = [name for name in shop.columns(table) if is_told or not (name.startswith("_") or name in OF_THE_HOME)]
        rows = shop.rows(table, ", ".join(f'"{name}"' for name in columns))
        assert rows, table
        found[table] = hashlib.sha256(repr(rows).encode()).hexdigest()
    return found


def later(instant: str, **by: float) -> str:
    return f"{datetime.fromisoformat(instant) + timedelta(**by):%Y-%m-%d %H:%M:%S}"


def sent_again(made: Mapping[str, SampleReport], chance: random.Random) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    """Files of what sources say later of rows that they have sent: (dataset, name, rows)."""
    customers = [row["customer_id"] for row in rows_in(made["customers"])]
    lines = [row for row in rows_in(made["orders"]) if is_number(row["Quantity"])][::4]
    for number in (1, 2):
        corrected = []
        for line in lines[:: 3 - number]:
            at, turn = line["InvoiceDate"], chance.randrange(4)
            changed = {
                # Another customer's, nobody's, of another day: what was made of it before is wrong for both. Or told at the same time, and
                # by a spreadsheet, which writes the number of a customer so.
                "CustomerID": (chance.choice(customers), "", line["CustomerID"], line["CustomerID"] and f"{line['CustomerID']}.0")[turn],
                "InvoiceDate": later(at, days=-chance.randrange(1, 9)) if turn == 2 else at,
                "Country": chance.choice(["Austria", "Spain"]),
                "updated_at": at if turn == 3 else later(at, days=chance.randrange(0, 9), hours=number),
            }
            corrected.append(line | changed)
        yield "orders", f"orders_corrected_{number}.csv", list({repr(key_of(row)): row for row in corrected}.values())
    moved = [row | {"updated_at": later(row["updated_at"], days=3), "city": "Leeds"} for row in rows_in(made["customers"])[::2]]
    yield "customers", "customers_corrected.csv", moved
    paid = [row for row in rows_in(made["payments"]) if row["status"] == "settled" and is_number(row["amount"])][::3]
    yield "payments", "payments_corrected.csv", [row | {"paid_at": later(row["paid_at"], days=1), "status": "failed"} for row in paid]
    events = rows_in(made["web_events"])[::15]
    copies = []
    for event in events:
        # Received earlier, and so the one that counts: by another browser, by a robot, of another customer, of another minute.
        changed = chance.choice(
            [
                {"domain_userid": chance.choice(events)["domain_userid"]},
                {"useragent": "Mozilla/5.0 (compatible; bingbot/2.0)"},
                {"user_id": chance.choice(customers)},
                {"derived_tstamp": later(event["derived_tstamp"], minutes=-chance.randrange(1, 90))},
            ]
        )
        copies.append(event | changed | {"collector_tstamp": later(event["collector_tstamp"], seconds=-chance.randrange(1, 100))})
    yield "web_events", "events_received_earlier.ndjson", copies


def rows_in(files: SampleReport) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = []
    for path in files:
        lines = path.read_text().splitlines()
        rows += [json.loads(line) for line in lines] if path.suffix == ".ndjson" else list(csv.DictReader(lines))
    return rows


def is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def key_of(line: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(line[name] for name in ("InvoiceNo", "StockCode", "Quantity", "UnitPrice"))


def written(folder: Path, name: str, rows: Sequence[Mapping[str, str]]) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as out:
        if path.suffix == ".ndjson":
            out.writelines(json.dumps(row) + "\n" for row in rows)
        else:
            writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    return path


def shuffled(files: Sequence[File], corrections: Sequence[File], folder: Path, *, pieces: int, chance: random.Random) -> list[list[File]]:
    """Deliveries: half of the corrections come before what they correct; files come twice, also under another name, their rows turned round."""
    mixed = list(files)
    chance.shuffle(mixed)
    deliveries = [mixed[number::pieces] for number in range(pieces)]
    deliveries[0] = [*corrections[::2], *deliveries[0]]
    deliveries[-1] = [*corrections[1::2], *deliveries[-1]]
    for number in range(1, pieces):
        dataset, path = chance.choice(deliveries[chance.randrange(number)])
        header, *rows = path.read_bytes().splitlines()
        turned = [*reversed(rows), header] if path.suffix == ".ndjson" else [header, *reversed(rows)]
        again = folder / f"{number}_{path.name}"
        again.parent.mkdir(parents=True, exist_ok=True)
        again.write_bytes(b"\n".join(turned) + b"\n")
        deliveries[number] += [(dataset, path), (dataset, again)]
    return deliveries


def deliver(shop: Shop, files: Sequence[File]) -> None:
    by_dataset: dict[str, list[Path]] = {}
    for dataset, path in files:
        by_dataset.setdefault(dataset, []).append(path)
    for dataset, paths in by_dataset.items():
        shop.ingest(dataset, *paths)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("customers", "days", "pieces", "seed"),
    [
        pytest.param(12, 25, 3, 1, id="small"),
        pytest.param(40, 60, 12, 2, id="large"),
        pytest.param(25, 90, 12, 3, id="long"),
    ],
)
def test_the_order_of_arrival_leaves_no_trace_in_any_table(
    open_shop: Callable[[str], Shop], tmp_path: Path, customers: int, days: int, pieces: int, seed: int
) -> None:
    chance = random.Random(seed)
    made = commerce(customers=customers, days=days, seed=seed, out=tmp_path / "shop", bad_rate=0.01)
    corrections = [
        (dataset, written(tmp_path / "late", f"{half}_{name}", rows[half::2]))
        for dataset, name, rows in sent_again(made, chance)
        for half in (0, 1)
    ]
    files = [(dataset, path) for dataset, report in made.items() for path in report]

    whole = open_shop("whole")
    deliver(whole, [*files, *corrections])
    built = whole.build(DOMAIN, checked=pieces > 3)
    tables = sorted(str(node.table) for node in built.nodes)
    assert len(tables) >= 17
    expected = digests(whole, tables)

    # Each home has a key of its own, so nothing that is compared is made of a pseudonym.
    parts = open_shop("parts")
    for delivery in shuffled(files, corrections, tmp_path / "redelivered", pieces=pieces, chance=chance):
        deliver(parts, delivery)
        parts.build(DOMAIN, checked=False)
    assert digests(parts, tables) == expected

    if pieces > 3:
        again = open_shop("again")
        deliver(again, [*reversed(files), *corrections])
        again.build(DOMAIN)
        assert digests(again, tables) == expected
