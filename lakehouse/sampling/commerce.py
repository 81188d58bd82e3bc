"""A shop for demonstrations: its customers, their visits, orders and payments, with the dirt that such data come with.

The model: a customer has a taste for the shop, `a`, and visits it as a Poisson process whose rate is exp(a) and falls by half every
`_FADING` days after the last order. A visit looks at a few products; with a chance that grows with `a` and with the products looked at
it fills a cart, and from there goes on to the checkout and to an order. So who has ordered often and lately orders again: the models
`purchase_next_7_days` and `customer_churn` have something to learn, and neither is given away.

The dirt: events sent twice (one in fifty), late (one in thirty arrives with the file of the next day) or by bots; orders cancelled, lines
extracted twice, guests without a customer, payments that failed; and rows that break a rule of their contract, `bad_rate` of them.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import SourceError
from lakehouse.sampling.files import SampleReport, SampleWriter, report

if TYPE_CHECKING:
    import numpy as np

DATASETS = ("customers", "orders", "payments", "web_events")
_FIRST = datetime(2025, 1, 1, tzinfo=UTC)
_FADING = 45.0
_PRODUCTS = 200
_COUNTRIES = ("United Kingdom", "Germany", "France", "Ireland", "Spain")
_CHANNELS = ("search", "social", "email", "referral", "direct", "display")
_GIVEN = ("Ada", "Ben", "Chloe", "Dan", "Esther", "Femi", "Grace", "Hugo", "Ines", "Jonas")
_FAMILY = ("Abbott", "Baker", "Castillo", "Dubois", "Evans", "Fischer", "Garcia", "Hughes")
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:126.0) Gecko/20100101 Firefox/126.0"
_BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"

Record = dict[str, Any]


def commerce(
    *, customers: int, out: Path, days: int = 365, seed: int = 0, bad_rate: float = 0.004, progress: Callable[[int], None] | None = None
) -> dict[str, SampleReport]:
    """Write a folder of files for each dataset of the shop, a file a day (customers: one export); the same arguments give the same bytes.

    Args:
        customers: customers of the shop.
        out: folder of the datasets' folders.
        days: how long the shop is watched.
        seed: chooses everything.
        bad_rate: share of the orders and payments that break one rule of their contract.
        progress: called with the number of customers made since the last call.

    Raises:
        SourceError: an argument is out of its range.
    """
    if customers < 1 or days < 1 or seed < 0:
        found = f"{customers} customers, {days} days, seed {seed}"
        raise SourceError("sample", "needs at least one customer, one day and a seed from 0", found=found)
    if not 0 <= bad_rate <= 1:
        raise SourceError("bad rate", "is out of range", expected="0..1", found=str(bad_rate))
    shop = _Shop(days=days)
    for number in range(1, customers + 1):
        _live(shop, number, seed)
        if progress:
            progress(1)
    _visit_as_bots(shop, seed)
    return {
        "customers": _write_csv(out / "customers", {"customers_export": shop.customers}, bad_rate=0.0, spoil=None),
        "orders": _write_csv(out / "orders", shop.by_day("orders", shop.orders), bad_rate=bad_rate, spoil=_spoil_order),
        "payments": _write_csv(out / "payments", shop.by_day("payments", shop.payments), bad_rate=bad_rate, spoil=_spoil_payment),
        "web_events": _write_events(out / "web_events", shop.by_day("events", shop.events)),
    }


@dataclass
class _Shop:
    """What has happened, each record beside the day whose file it goes to."""

    days: int
    customers: list[Record] = field(default_factory=list[Record])
    orders: list[tuple[int, Record]] = field(default_factory=list[tuple[int, Record]])
    payments: list[tuple[int, Record]] = field(default_factory=list[tuple[int, Record]])
    events: list[tuple[int, Record]] = field(default_factory=list[tuple[int, Record]])

    def by_day(self, what: str, records: Sequence[tuple[int, Record]]) -> dict[str, list[Record]]:
        """Records by the name of their file, in the order in which they were made known."""
        files: dict[str, list[Record]] = {}
        for day, record in sorted(records, key=lambda one: one[0]):
            files.setdefault(f"{what}_{_FIRST + timedelta(days=day):%Y-%m-%d}", []).append(record)
        return files


def _live(shop: _Shop, number: int, seed: int) -> None:
    """One customer from the first visit on; each has random numbers of their own."""
    import numpy as np

    rng = np.random.default_rng([seed, number])
    taste = float(rng.normal(-1.6, 0.7))
    joined = float(rng.uniform(0, shop.days * 0.6)) if rng.random() < 0.5 else 0.0
    customer, ordered_on, at = str(1000 + number), joined, joined
    shop.customers.append(_customer(rng, customer, joined, shop.days))
    while True:
        rate = math.exp(taste) * 0.5 ** ((at - ordered_on) / _FADING)
        at += float(rng.exponential(1 / max(rate, 1e-3)))
        if at >= shop.days:
            return
        if _visit(shop, rng, customer, at, taste):
            ordered_on = at


def _customer(rng: "np.random.Generator", customer: str, joined: float, days: int) -> Record:
    name = f"{rng.choice(_GIVEN)} {rng.choice(_FAMILY)}"
    return {
        "customer_id": customer,
        "updated_at": _iso(max(joined, float(rng.uniform(0, days)))),
        "signed_up_at": _iso(joined),
        "full_name": name,
        "email": f"{name.lower().replace(' ', '.')}.{customer}@example.org",
        "phone": f"+44{int(rng.integers(10**9, 10**10 - 1))}" if rng.random() < 0.7 else "",
        "country": str(rng.choice(_COUNTRIES, p=(0.7, 0.1, 0.1, 0.05, 0.05))),
        "city": "",
        "segment": "business" if rng.random() < 0.15 else "consumer",
        "acquisition_channel": str(rng.choice(_CHANNELS)),
        "marketing_consent": "true" if rng.random() < 0.6 else "false",
    }


def _visit(shop: _Shop, rng: "np.random.Generator", customer: str, at: float, taste: float) -> bool:
    """One visit with its events; whether it ended in an order."""
    known = bool(rng.random() < 0.7)
    visitor = {"user_id": customer if known else None, "domain_userid": _digest("browser", customer), "useragent": _BROWSER}
    clock = _Clock(at)
    looked = 1 + int(rng.poisson(2))
    products = [int(rng.zipf(1.6)) % _PRODUCTS for _ in range(looked)]
    _tell(shop, rng, clock, visitor, "page_view", page_url="https://shop.example/", page_title="Home")
    for product in products:
        page = f"https://shop.example/p/{product}"
        _tell(shop, rng, clock, visitor, "product_view", page_url=page, ti_sku=f"P{product:04d}", ti_price=_price(product))
        if rng.random() < 0.4:
            _tell(shop, rng, clock, visitor, "page_ping", page_url=page)
    if rng.random() > 1 / (1 + math.exp(1.2 - 0.5 * taste - 0.35 * looked)):
        return False
    basket = {product: 1 + int(rng.poisson(1)) for product in products[: 1 + int(rng.integers(0, looked))]}
    for product, quantity in basket.items():
        _tell(shop, rng, clock, visitor, "add_to_cart", ti_sku=f"P{product:04d}", ti_price=_price(product), ti_quantity=quantity)
    if rng.random() < 0.3:
        return False
    visitor["user_id"] = customer
    _tell(shop, rng, clock, visitor, "begin_checkout")
    if rng.random() < 0.2:
        return False
    order = f"{600_000 + int(_digest(customer, str(clock.seconds))[:8], 16) % 10_000_000}"
    total = round(sum(_price(product) * quantity for product, quantity in basket.items()), 2)
    _tell(shop, rng, clock, visitor, "purchase", tr_orderid=order, tr_total=total)
    _order(shop, rng, clock, order=order, customer=customer if rng.random() < 0.95 else "", basket=basket)
    _pay(shop, rng, clock, order, total)
    return True


@dataclass
class _Clock:
    """Goes on as a visitor does."""

    day: float
    seconds: float = 0.0

    @property
    def at(self) -> float:
        return self.day + self.seconds / 86_400

    def pause(self, rng: "np.random.Generator") -> None:
        self.seconds += float(rng.gamma(2, 20))


def _tell(shop: _Shop, rng: "np.random.Generator", clock: _Clock, visitor: Mapping[str, str | None], name: str, **more: object) -> None:
    """An event, perhaps twice, perhaps a day late."""
    clock.pause(rng)
    sent = clock.at + float(rng.exponential(2)) / 86_400
    event: Record = {
        "event_id": _digest("event", str(visitor["domain_userid"]), str(clock.at), name),
        "event_name": name,
        "collector_tstamp": _iso(sent),
        "derived_tstamp": _iso(clock.at),
        "platform": "web",
        "app_id": "shop",
        **visitor,
        **more,
    }
    day = min(int(sent) + (1 if rng.random() < 1 / 30 else 0), shop.days)
    shop.events.append((day, event))
    if rng.random() < 0.02:
        shop.events.append((min(day + int(rng.integers(0, 2)), shop.days), event | {"collector_tstamp": _iso(sent + 0.0001)}))


def _order(shop: _Shop, rng: "np.random.Generator", clock: _Clock, *, order: str, customer: str, basket: Mapping[int, int]) -> None:
    country = str(rng.choice(_COUNTRIES, p=(0.7, 0.1, 0.1, 0.05, 0.05)))
    lines = [
        {
            "InvoiceNo": order,
            "StockCode": f"P{product:04d}",
            "Description": f"PRODUCT {product}",
            "Quantity": quantity,
            "InvoiceDate": _iso(clock.at),
            "UnitPrice": _price(product),
            "CustomerID": customer,
            "Country": country,
        }
        for product, quantity in basket.items()
    ]
    if rng.random() < 0.01:
        lines.append(dict(lines[0]))
    shop.orders += [(int(clock.at), line) for line in lines]
    if rng.random() < 0.03:
        back = clock.at + float(rng.uniform(1, 20))
        if back < shop.days:
            given = {"InvoiceNo": f"C{order}", "InvoiceDate": _iso(back), "Quantity": -next(iter(basket.values()))}
            shop.orders.append((int(back), {**lines[0], **given}))


def _pay(shop: _Shop, rng: "np.random.Generator", clock: _Clock, order: str, total: float) -> None:
    method = str(rng.choice(("card", "transfer", "wallet", "voucher"), p=(0.6, 0.15, 0.2, 0.05)))
    states = ["failed", "settled"] if rng.random() < 0.05 else ["settled"]
    for place, state in enumerate(states, start=1):
        paid = clock.at + place / 1440
        shop.payments.append(
            (
                min(int(paid), shop.days),
                {
                    "payment_id": f"{order}-{place}",
                    "order_id": order,
                    "paid_at": _iso(paid),
                    "method": method,
                    "amount": f"{total:.2f}",
                    "currency": "GBP",
                    "status": state,
                },
            )
        )


def _visit_as_bots(shop: _Shop, seed: int) -> None:
    """Every tenth day a crawler reads some pages."""
    import numpy as np

    for day in range(0, shop.days, 10):
        rng = np.random.default_rng([seed, 0, day])
        clock = _Clock(day + float(rng.random()) * 0.9)
        visitor: dict[str, str | None] = {"user_id": None, "domain_userid": _digest("bot", str(day)), "useragent": _BOT}
        for product in range(10):
            _tell(shop, rng, clock, visitor, "page_view", page_url=f"https://shop.example/p/{product}")


def _write_csv(
    folder: Path, files: Mapping[str, Sequence[Record]], *, bad_rate: float, spoil: "Callable[[Record, int], tuple[str, Record]] | None"
) -> SampleReport:
    writers: list[SampleWriter] = []
    written = spoiled = 0
    for name, records in files.items():
        with SampleWriter(folder / f"{name}.csv") as writer:
            writer.write(_csv_line(list(records[0])))
            for record in records:
                written += 1
                row = record
                if spoil is not None and int(written * bad_rate) > spoiled:
                    kind, row = spoil(record, spoiled)
                    writer.bad[kind] += 1
                    spoiled += 1
                writer.write(_csv_line(list(row.values())))
                writer.rows += 1
        writers.append(writer)
    return report(writers)


def _write_events(folder: Path, files: Mapping[str, Sequence[Record]]) -> SampleReport:
    writers: list[SampleWriter] = []
    for name, records in files.items():
        with SampleWriter(folder / f"{name}.ndjson") as writer:
            for line in _json_lines(records):
                writer.write(line)
                writer.rows += 1
        writers.append(writer)
    return report(writers)


def _json_lines(records: Sequence[Record]) -> Iterator[bytes]:
    for record in records:
        yield json.dumps({name: value for name, value in record.items() if value is not None}).encode() + b"\n"


def _csv_line(values: Sequence[object]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(values)
    return out.getvalue().encode()


def _spoil_order(record: Record, turn: int) -> tuple[str, Record]:
    kinds: list[tuple[str, Record]] = [
        ("text_in_number", {"Quantity": "a dozen"}),
        ("missing_required", {"StockCode": ""}),
        ("impossible_time", {"InvoiceDate": "2025-02-30 10:00:00"}),
        ("cancellation_that_adds", {"InvoiceNo": f"C{record['InvoiceNo']}", "Quantity": 3}),
    ]
    kind, changed = kinds[turn % len(kinds)]
    return kind, record | changed


def _spoil_payment(record: Record, turn: int) -> tuple[str, Record]:
    kinds: list[tuple[str, Record]] = [
        ("unknown_category", {"method": "barter"}),
        ("text_in_number", {"amount": "about 12"}),
        ("refund_that_adds", {"status": "refunded", "amount": "5.00"}),
        ("missing_required", {"order_id": ""}),
    ]
    kind, changed = kinds[turn % len(kinds)]
    return kind, record | changed


def _price(product: int) -> float:
    return round(1.5 + (product * 37 % 90) * 0.35, 2)


def _iso(day: float) -> str:
    return f"{_FIRST + timedelta(days=day):%Y-%m-%d %H:%M:%S}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:32]
