"""A customer's features: what a reader of the books at that midnight would have counted, however the lines arrived."""

import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.cli.main import app
from lakehouse.contracts import load_contracts
from lakehouse.features.point_in_time import JoinedView, point_in_time_sql
from lakehouse.features.views import feature_views
from lakehouse.tables import Stamp
from lakehouse.transform import prepare
from tests.commerce.conftest import Shop
from tests.transform.conftest import PROJECT, put_raw

MODELS = ["stg_orders", "customer_days", "customer_activity", "customer_basket", "customer_outlook", "revenue_by_day"]
TABLES = ["analytics.customer_outlook", "features.customer_activity", "features.customer_basket"]
START = datetime(2025, 1, 1)
FEATURES = (
    "last_order_day",
    "last_order_within_days",
    "first_order_day",
    "active_days",
    "order_value_mean",
    "orders_1d",
    "orders_7d",
    "orders_30d",
    "orders_7d_before",
    "sales_1d",
    "sales_30d",
    "sales_30d_change",
    "returns_7d",
    "frequency",
    "monetary",
)


@dataclass(frozen=True)
class Line:
    """One line, and when the database knew it; `touched` is when it wrote the same again."""

    customer: str
    order: str
    at: datetime
    known: datetime
    quantity: int
    price: Decimal
    touched: datetime | None = None

    @property
    def raw(self) -> Mapping[str, Any]:
        return {
            "order_id": self.order,
            "product_id": f"P{self.quantity}",
            "quantity": self.quantity,
            "unit_price": self.price,
            "ordered_at": self.at,
            "customer_id": self.customer,
            "updated_at": self.touched or (self.known if self.known != self.at else None),
        }


def history(seed: int, count: int) -> list[Line]:
    """Lines of a few customers, some of one order; some come back, one in five is known days or weeks late."""
    chance = random.Random(seed)
    lines: list[Line] = []
    for number in range(count):
        if lines and not lines[-1].order.startswith("C") and chance.random() < 0.4:
            # Another line of the same order, which the database may have learned of at another time.
            late = lines[-1].at + timedelta(hours=chance.randrange(24 * 40)) if chance.random() < 0.5 else lines[-1].at
            lines.append(replace(lines[-1], quantity=10 + number, price=Decimal(chance.randrange(100, 900)) / 100, known=late))
            continue
        at = START + timedelta(minutes=chance.randrange(120 * 24 * 60))
        known = at + timedelta(hours=chance.randrange(1, 24 * 40)) if chance.random() < 0.2 else at
        back = chance.random() < 0.15
        lines.append(
            Line(
                customer=str(chance.randrange(5)),
                order=f"{'C' if back else ''}{number}",
                at=at,
                known=known,
                quantity=chance.randrange(1, 9) * (-1 if back else 1),
                price=Decimal(chance.randrange(100, 900)) / 100,
            )
        )
    return lines


def touched(lines: Sequence[Line], *, seed: int) -> list[Line]:
    """The same lines as the database writes some of them again, without a change that counts."""
    chance = random.Random(seed)
    return [replace(line, touched=line.known + timedelta(days=chance.randrange(1, 60))) for line in lines if chance.random() < 0.3]


def moved(lines: Sequence[Line], *, seed: int) -> list[Line]:
    """Later states of some lines: they turn out to be another customer's, or nobody's."""
    chance = random.Random(seed)
    return [
        replace(line, customer=chance.choice(["7", *map(str, range(5))]), known=line.known + timedelta(days=chance.randrange(1, 20)))
        for line in lines
        if chance.random() < 0.1
    ]


def counted(lines: Sequence[Line], customer: str, day: date) -> dict[str, Any] | None:
    """The features by hand: of the lines that were known before `day` began, those of the days before it."""
    known = [line for line in lines if line.customer == customer and line.at.date() < day and line.known.date() < day]
    if not known:
        return None

    def total(back: bool, days: int, before: int = 0) -> Decimal:
        ages = [((day - line.at.date()).days, abs(line.quantity) * line.price) for line in known if line.order.startswith("C") == back]
        return sum((value for age, value in ages if before < age <= before + days), Decimal(0))

    sold = [line for line in known if not line.order.startswith("C")]

    def orders(days: int, before: int = 0) -> int:
        return len({line.order for line in sold if before < (day - line.at.date()).days <= before + days})

    days = sorted({line.at.date() for line in sold})
    age = (day - days[-1]).days if days else 1000
    return {
        "last_order_day": days[-1] if days else None,
        "last_order_within_days": next((most for most in (1, 2, 7, 14, 30, 60) if age <= most), None),
        "first_order_day": days[0] if days else None,
        "active_days": len(days),
        "order_value_mean": float(total(False, 10_000) / orders(10_000)) if days else None,
        **{f"orders_{days}d": orders(days) for days in (1, 7, 30)},
        "orders_7d_before": orders(7, 7),
        "sales_1d": float(total(False, 1)),
        "sales_30d": float(total(False, 30)),
        "sales_30d_change": float(total(False, 30) - total(False, 30, 30)),
        "returns_7d": float(total(True, 7)),
        "frequency": orders(10_000),
        "monetary": float(total(False, 10_000) - total(True, 10_000)),
    }


def plain(features: Mapping[str, Any]) -> dict[str, float]:
    """Days as numbers, and nothing as one that no feature has."""
    return {
        name: -1.0 if value is None else float(value.toordinal() if isinstance(value, date) else value) for name, value in features.items()
    }


def put(shop: Shop, lines: Sequence[Line], batch: int) -> None:
    put_raw(shop.lake, load_contracts(shop.settings).dataset("orders"), [line.raw for line in lines], batch=batch)


def asked(shop: Shop, moments: Sequence[tuple[str, datetime]]) -> list[dict[str, Any] | None]:
    """What training would be given for those customers at those instants."""
    view = feature_views(prepare(shop.settings))["customer_activity"]
    joined = JoinedView(view, "view_rows", tuple(shop.columns(view.table)), FEATURES)
    rows = ", ".join(f"({number}, '{customer}', TIMESTAMP '{at}')" for number, (customer, at) in enumerate(moments))
    spine = f"(VALUES {rows}) AS given(number, customer_id, asked_at)"
    sql = point_in_time_sql(
        f"(SELECT * FROM {spine})", [joined], spine_columns=["number", "customer_id", "asked_at"], event_timestamp="asked_at"
    )
    con = shop.lake.open_connection()
    con.execute(f"CREATE TABLE view_rows AS {shop.lake.scan_sql(view.table, con=con)}")
    answers = con.execute(f"SELECT * EXCLUDE (number, customer_id, asked_at) FROM ({sql}) ORDER BY number").fetchall()
    con.close()
    return [dict(zip(FEATURES, answer, strict=True)) if answer[-1] is not None else None for answer in answers]


def test_features_are_what_was_known_then(open_shop: Callable[[str], Shop]) -> None:
    lines, shop, chance = history(1, 150), open_shop("known"), random.Random(9)
    put(shop, lines, 1)
    put(shop, touched(lines, seed=6), 2)
    shop.build(*MODELS)
    moments = [(str(chance.randrange(5)), START + timedelta(minutes=chance.randrange(120 * 24 * 60))) for _ in range(400)]
    found = asked(shop, moments)
    for (customer, at), answer in zip(moments, found, strict=True):
        expected = counted(lines, customer, at.date())
        assert (answer is None) == (expected is None), (customer, at)
        assert answer is None or plain(answer) == pytest.approx(plain(expected)), (customer, at)
    assert sum(answer is None for answer in found) < 100


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("pieces", [3, 12])
def test_features_do_not_tell_in_what_order_lines_arrived(open_shop: Callable[[str], Shop], pieces: int) -> None:
    first = history(2, 120)
    lines = [*first, *touched(first, seed=8), *moved(first, seed=4)]
    whole, parts = open_shop("whole"), open_shop("parts")
    put(whole, lines, 1)
    whole.build(*MODELS)
    random.Random(3).shuffle(lines)
    for number in range(pieces):
        put(parts, lines[number::pieces], number + 1)
        parts.build(*MODELS)
    assert {table: parts.rows(table) for table in TABLES} == {table: whole.rows(table) for table in TABLES}
    # What goes takes the newest days with it, and somebody: the clock is set back.
    late, later = START + timedelta(days=80), START + timedelta(days=90)
    gone = parts.rows(
        "staging.orders", f"order_id, customer_id = '2' OR ordered_at >= TIMESTAMP '{late}' OR known_at >= TIMESTAMP '{later}'"
    )
    orders = ", ".join(f"'{order}'" for order, is_gone in gone if is_gone)
    con = parts.lake.open_connection()
    for table in ("raw.orders", "staging.orders"):
        parts.lake.delete(con, table, f"order_id IN ({orders})", stamp=Stamp(table, "erasure"))
    con.close()
    parts.build(*MODELS)
    tables = [*TABLES, "analytics.customer_days", "analytics.revenue_by_day"]
    found = {table: parts.rows(table) for table in tables}
    parts.build(*MODELS, full_refresh=True)
    assert {table: parts.rows(table) for table in tables} == found


def test_a_customer_without_news_is_not_written_again(open_shop: Callable[[str], Shop]) -> None:
    shop = open_shop("news")
    first = [
        Line(who, f"{who}{day}", START + timedelta(days=day), START + timedelta(days=day), 1, Decimal(2)) for who in "ab" for day in (0, 90)
    ]
    put(shop, first, 1)
    shop.build(*MODELS)
    put(shop, [Line("a", "a2", START + timedelta(days=89), START + timedelta(days=89), 1, Decimal(3))], 2)
    written = {node.name: node.rows for node in shop.build(*MODELS).nodes}
    assert written["customer_activity"] == len(shop.rows("features.customer_activity", "customer_id")) - len(
        [row for row in shop.rows("features.customer_activity", "customer_id") if row == ("b",)]
    )


@pytest.mark.slow
def test_who_loses_a_line_loses_what_was_made_of_it(open_shop: Callable[[str], Shop]) -> None:
    shop = open_shop("moved")
    lines = [
        Line(who, who, START + timedelta(days=day), START + timedelta(days=day), 1, Decimal(2))
        for who, day in (("a", 1), ("b", 5), ("c", 40))
    ]
    put(shop, lines, 1)
    shop.build(*MODELS)
    put(shop, [replace(lines[0], customer="b", at=START + timedelta(days=2), known=START + timedelta(days=42))], 2)
    written = {node.name: node.rows for node in shop.build(*MODELS).nodes}
    tables = ["analytics.customer_days", *TABLES]
    found = {table: shop.rows(table) for table in tables}
    assert {row[0] for rows in found.values() for row in rows} == {"b", "c"}
    assert [row[0] for row in shop.rows("analytics.revenue_by_day", "day")] == [(START + timedelta(days=day)).date() for day in (2, 5, 40)]
    # Of the third customer no line is counted again; but time has passed, so there are moments more.
    assert written["customer_days"] == 2
    # Time alone: the third customer's day leaves windows.
    put(shop, [Line("d", "d", START + timedelta(days=75), START + timedelta(days=75), 1, Decimal(2))], 3)
    written = {node.name: node.rows for node in shop.build(*MODELS).nodes}
    tables.append("analytics.revenue_by_day")
    found = {table: shop.rows(table) for table in tables}
    # Of the weeks before only those are told again of which it can be said now what came after them.
    assert written["customer_outlook"] < len(found["analytics.customer_outlook"])
    shop.build(*MODELS, full_refresh=True)
    assert {table: shop.rows(table) for table in tables} == found


@pytest.mark.slow
def test_the_online_retail_data_are_understood(open_shop: Callable[[str], Shop], real_data: Path) -> None:
    files = sorted((real_data / "commerce" / "online_retail" / "daily").glob("*.csv"))[:3]
    if not files:
        pytest.skip("the online retail data are absent")
    shop = open_shop("retail")
    report = shop.ingest("orders", *files)
    assert report.rows_read == report.rows_accepted + report.rows_quarantined > 5000
    shop.build(*MODELS)
    con = shop.lake.open_connection()
    listed = ", ".join(f"'{file}'" for file in files)
    con.execute(f"CREATE TABLE found AS {shop.lake.scan_sql('features.customer_activity', con=con)}")
    by_hand = f"""
        SELECT CAST(CAST(CustomerID AS BIGINT) AS VARCHAR) AS customer_id, count(DISTINCT InvoiceNo) AS orders_7d,
            CAST(sum(CAST(Quantity * CAST(UnitPrice AS DECIMAL(18, 4)) AS DECIMAL(38, 4))) AS DOUBLE) AS sales_7d
        FROM (SELECT DISTINCT * FROM read_csv([{listed}], types={{'InvoiceNo': 'VARCHAR'}}))
        WHERE CustomerID IS NOT NULL AND Quantity > 0 AND UnitPrice > 0 AND InvoiceNo NOT LIKE 'C%'
        GROUP BY customer_id ORDER BY customer_id
    """
    newest = """
        SELECT customer_id, orders_7d, sales_7d FROM found WHERE orders_7d > 0
        QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY as_of DESC) = 1 ORDER BY customer_id
    """
    assert con.execute(newest).fetchall() == con.execute(by_hand).fetchall()
    con.close()


@pytest.mark.slow
def test_features_get_equals_the_query_in_the_docs(
    open_shop: Callable[[str], Shop], real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = real_data / "commerce" / "online_retail"
    files = [*sorted((folder / "daily").glob("*.csv")), *sorted((folder / "monthly").glob("2011-05.parquet"))]
    if len(files) < 100:
        pytest.skip(f"the online retail data are absent: {folder}")
    shop = open_shop("retail")
    shop.ingest("orders", *files)
    shop.build("stg_orders", "customer_days", "customer_activity")
    monkeypatch.setenv("LAKEHOUSE_HOME", str(shop.settings.home_dir))

    def lakehouse(*arguments: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    page = (PROJECT / "docs" / "commerce.md").read_text("utf-8")
    (query,) = re.findall(r"```sql\n(select\n    customer_id,.*?)```", page, re.DOTALL)
    by_hand = {row["customer_id"]: row for row in lakehouse("query", query)["rows"]}
    commands = re.findall(r"^lakehouse (features get customer_activity --entity (\S+) --as-of 2011-06-01)$", page, re.MULTILINE)
    assert [customer for _, customer in commands] == ["42", "12748"]
    for command, customer in commands:
        told = lakehouse(*command.split())
        (row,) = told["rows"]
        if customer in by_hand:
            assert told["missing"] == []
            expected = dict(by_hand[customer])
            days = ("customer_id", "last_order_day")
            assert [row[name] for name in days] == [expected.pop(name) for name in days]
            assert len(expected) == 9
            assert {name: float(row[name]) for name in expected} == {name: float(value) for name, value in expected.items()}
        else:
            assert told["missing"] == [{"view": "customer_activity", "entity": {"customer_id": customer}, "why": "no row"}]
            assert {value for name, value in row.items() if name != "customer_id"} == {None}
    assert list(by_hand) == ["12748"]
    spoken = CliRunner().invoke(app, commands[0][0].split())
    assert (spoken.exit_code, "customer_activity has no row of customer_id 42" in spoken.stderr) == (0, True)
