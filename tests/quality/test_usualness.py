"""The statistical level over real rows: spread, categories and outliers against the history, and limits that the contract pins."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract, Severity, parse_dataset
from lakehouse.errors import ContractError
from lakehouse.quality import BatchProfile, CheckResult, ColumnProfile, check_batch, measured
from lakehouse.quality.novelty import new_categories, shifted_share, vanished_categories

TEXT = """
apiVersion: v3.2.0
kind: DataContract
id: orders
name: orders
version: 1.0.0
status: active
schema:
  - name: orders
    properties:
      - {name: id, logicalType: integer, primaryKey: true}
      - name: amount
        logicalType: number
        customProperties: [{property: lakehouse.usual, value: AMOUNT}]
      - name: channel
        logicalType: string
        customProperties: [{property: lakehouse.usual, value: CHANNEL}]
    customProperties: [{property: lakehouse.usual, value: DATASET}]
"""
ROWS = 400


def contract_of(*, amount: str = "{}", channel: str = "{}", dataset: str = "{}") -> DatasetContract:
    text = TEXT.replace("AMOUNT", amount).replace("CHANNEL", channel).replace("DATASET", dataset)
    return parse_dataset(text, path=Path("orders.odcs.yaml"))


@dataclass
class Series:
    """Batches of orders, one after the other."""

    con: duckdb.DuckDBPyConnection
    contract: DatasetContract
    seed: int = 1
    history: list[BatchProfile] = field(default_factory=list[BatchProfile])

    def rows(self, *, spread: float = 10.0, channels: Sequence[str] = ("web", "web", "store", "phone"), far: float = 0.0) -> list[tuple]:
        chance = random.Random(f"{self.seed} {len(self.history)}")
        rows = []
        for number in range(ROWS):
            amount = chance.gauss(100, spread) + (1000 if number < far * ROWS else 0)
            rows.append((len(self.history) * ROWS + number, amount, chance.choice(channels)))
        return rows

    def judge(self, rows: list[tuple]) -> dict[str, CheckResult]:
        """Measure and judge a batch; it is history from then on."""
        values = ", ".join(f"({one}, {amount!r}::DOUBLE, '{channel}', {place})" for place, (one, amount, channel) in enumerate(rows))
        sql = f"SELECT *, 'orders.csv' AS _file, 'x' AS _sha256 FROM (VALUES {values}) AS v(id, amount, channel, _row)"
        batch = len(self.history) + 1
        columns = {"id": ColumnProfile(0), "amount": ColumnProfile(0, sum(row[1] for row in rows) / len(rows)), "channel": ColumnProfile(0)}
        profile = measured(self.con, self.contract, BatchProfile(batch, 1, len(rows), columns), self.history, rows_sql=sql)
        found = check_batch(self.con, self.contract, profile, self.history, rows_sql=sql)
        self.history.append(profile)
        return {one.id: one for one in found}


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@pytest.fixture
def series(con: duckdb.DuckDBPyConnection) -> Callable[..., Series]:
    """A dataset with some quiet batches."""

    def make(batches: int = 12, **pins: str) -> Series:
        made = Series(con, contract_of(**pins))
        for _ in range(batches):
            made.judge(made.rows())
        return made

    return make


def failed(found: dict[str, CheckResult]) -> list[str]:
    return sorted(name for name, one in found.items() if not one.passed)


def test_a_batch_like_the_past_passes_with_every_question_asked(series: Callable[..., Series]) -> None:
    quiet = series()
    found = quiet.judge(quiet.rows())
    assert failed(found) == []
    assert {"batch.spread", "batch.categories", "batch.outliers"} <= found.keys()
    assert found["batch.spread"].metadata["amount.deviation"]["limits"] == "learned"  # type: ignore[index]


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_spread_that_doubles_or_halves_is_told(series: Callable[..., Series], factor: float) -> None:
    one = series()
    found = one.judge(one.rows(spread=10 * factor))["batch.spread"]
    assert (found.is_warning, "amount: the standard deviation is" in found.detail) == (True, True)
    assert "amount: the interquartile range is" in found.detail


def test_a_new_category_is_told_and_so_is_one_that_vanished(series: Callable[..., Series]) -> None:
    one = series()
    rows = [(key, amount, "kiosk" if place < 8 else channel) for place, (key, amount, channel) in enumerate(one.rows())]
    new = one.judge(rows)["batch.categories"]
    assert (new.passed, "never seen before: 'kiosk' (8 rows)" in new.detail) == (False, True)
    gone = one.judge(one.rows(channels=("web", "web", "store")))["batch.categories"]
    assert (gone.passed, "1 usual categories have no row: 'phone'" in gone.detail) == (False, True)


def test_a_share_that_moves_is_told(series: Callable[..., Series]) -> None:
    one = series()
    found = one.judge(one.rows(channels=("web", "store", "store", "store", "phone")))["batch.categories"]
    assert (found.passed, "'store' has " in found.detail) == (False, True)


def test_five_percent_outliers_are_told_with_their_places(series: Callable[..., Series]) -> None:
    one = series()
    found = one.judge(one.rows(far=0.05))["batch.outliers"]
    assert (found.passed, found.severity) == (False, Severity.WARNING)
    assert "amount: 5." in found.detail
    assert "in orders.csv row " in found.detail
    assert "(id " in found.detail


def test_few_batches_tell_only_gross_changes(series: Callable[..., Series]) -> None:
    one = series(5)
    assert failed(one.judge(one.rows(spread=13))) == []
    assert "batch.spread" in failed(one.judge(one.rows(spread=60)))


def test_a_pin_takes_the_place_of_what_was_learned(series: Callable[..., Series]) -> None:
    wide = series(amount="{deviation: [0, 50], iqr: off, outliersZ: {most: 0.5}, outliersIqr: off, mean: [90, 110]}")
    found = wide.judge(wide.rows(spread=30))
    assert failed(found) == []
    assert "pinned in the contract: amount.deviation" in found["batch.spread"].detail
    assert "switched off in the contract: amount" in found["batch.spread"].detail
    narrow = series(0, amount="{mean: [0, 10]}", dataset="{volume: {least: 1000}}")
    found = narrow.judge(narrow.rows())
    assert failed(found) == ["batch.mean", "batch.volume"]
    assert "pinned in the contract 0 to 10" in found["batch.mean"].detail
    assert "400 rows per file, pinned in the contract at least 1000" in found["batch.volume"].detail


def test_pins_of_categories(series: Callable[..., Series]) -> None:
    kiosks = ("web", "store", "kiosk")
    off = series(channel="{newCategories: off, vanishedCategories: {most: 1}, categoryShift: off}")
    found = off.judge(off.rows(channels=kiosks))["batch.categories"]
    assert found.passed
    assert "switched off in the contract: channel.newCategories, channel.categoryShift" in found.detail
    allowed = series(channel="{newCategories: {most: 0.5}, categoryShift: {most: 0.1}, vanishedCategories: off}")
    found = allowed.judge(allowed.rows(channels=kiosks))["batch.categories"]
    assert (found.passed, "pinned in the contract at most 0.1" in found.detail) == (False, True)


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("amount", "{average: [1, 2]}", r"usual.average is no statistic here.*one of nullRate, mean"),
        ("amount", "{volume: [1, 2]}", "Write it at the dataset"),
        ("dataset", "{mean: [1, 2]}", "Write it at the column"),
        ("amount", "{mean: [2, 1]}", "ends before it begins"),
        ("amount", "{mean: 5}", r"usual.mean is no limit.*\[low, high\]"),
        ("amount", "{mean: [a, 2]}", "needs numbers"),
        ("amount", "{mean: {least: .nan}}", "needs numbers"),
        ("amount", "{newCategories: off}", "is a statistic of categories.*amount is number"),
        ("channel", "{mean: off}", "is a statistic of numbers.*channel is string"),
        ("dataset", "[volume]", "is not written so"),
    ],
)
def test_a_pin_that_makes_no_sense_is_refused_with_its_place(where: str, value: str, says: str) -> None:
    with pytest.raises(ContractError, match=says) as told:
        contract_of(**{where: value})
    assert "orders.odcs.yaml, line" in str(told.value)


@settings(max_examples=8)
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(order: random.Random) -> None:
    with duckdb.connect() as con:
        one = Series(con, contract_of())
        for _ in range(4):
            one.judge(one.rows())
        rows = one.rows(spread=35, far=0.02, channels=("web", "web", "store", "kiosk"))
        mixed = order.sample(rows, len(rows))
        first, second = Series(con, one.contract, history=list(one.history)), Series(con, one.contract, history=list(one.history))
        found, again = first.judge(rows), second.judge(mixed)
    assert {name: result.passed for name, result in found.items()} == {name: result.passed for name, result in again.items()}
    assert first.history[-1].columns["amount"].iqr == second.history[-1].columns["amount"].iqr
    assert first.history[-1].columns["channel"] == second.history[-1].columns["channel"]


COUNTS = st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 1000), min_size=1)


@given(now=COUNTS, history=st.lists(COUNTS, min_size=3, max_size=12))
def test_the_same_history_gives_the_same_answer_and_only_what_is_new_is_new(now: dict[str, int], history: list[dict[str, int]]) -> None:
    for judge in (new_categories, vanished_categories, shifted_share):
        assert judge(now, history) == judge(dict(reversed(now.items())), [dict(reversed(one.items())) for one in history])
    assert not new_categories(now, [*history, now]).is_strange
    assert not vanished_categories(now | history[0], history).is_strange
    assert not shifted_share(history[0], [history[0]] * 9).is_strange


def test_quiet_series_seldom_raise_an_alarm(con: duckdb.DuckDBPyConnection) -> None:
    """The stated rate: at most one judgement in a hundred, over series in which nothing happens."""
    judged = alarms = 0
    for seed in range(4):
        one = Series(con, contract_of(), seed=seed)
        for _ in range(30):
            found = one.judge(one.rows())
            new = [result for name, result in found.items() if name in {"batch.spread", "batch.categories", "batch.outliers"}]
            judged += len(new)
            alarms += sum(not result.passed for result in new)
    assert judged > 250
    assert alarms / judged <= 0.01


@pytest.mark.parametrize("rows", [60, 2000])
def test_rare_categories_come_and_go_without_an_alarm(rows: int) -> None:
    chance = random.Random(7)
    weights = [0.5, 0.3, 0.15, 0.03, 0.015, 0.004, 0.001]
    judged = alarms = 0
    for _ in range(30):
        history: list[dict[str, int]] = []
        for _ in range(30):
            drawn = chance.choices("abcdefg", weights, k=rows)
            now = {name: drawn.count(name) for name in sorted(set(drawn))}
            for judge in (new_categories, vanished_categories, shifted_share) if len(history) >= 3 else ():
                judged += 1
                alarms += judge(now, history).is_strange
            history.append(now)
    assert alarms / judged <= 0.005
