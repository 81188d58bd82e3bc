"""Laws: through any sequence of deliveries, replays, corrections, discards and contract changes every row is in one place, once."""

import csv
import json
import random
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract, load_dataset
from lakehouse.ingest import ingest, restore_dataset
from lakehouse.ingest.edits import export_rows
from lakehouse.ingest.events import Author
from lakehouse.ingest.pieces import PiecewiseAppend
from lakehouse.ingest.replay import discard, replay
from lakehouse.ingest.waiting import Selection
from lakehouse.monitoring import dataset_volume
from lakehouse.pipeline.rejected import count_by_rule
from lakehouse.settings import Settings
from lakehouse.tables import Lake, in_force
from tests.examples import examples
from tests.ingest.conftest import HEADER, PEOPLE, rows_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
# Each example is a lake of its own: there is no time to shrink one that fails.
RELAXED = settings(
    examples(2, many=8),
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KEYLESS = PEOPLE.replace("required: true, unique: true, primaryKey: true, primaryKeyPosition: 1,", "required: true,")


class Died(BaseException):
    """As a killed process: nothing catches it."""


@dataclass
class Home:
    """One lake with a clock, and what was delivered."""

    lake: Lake
    contracts: list[DatasetContract]
    settings: Settings
    folder: Path
    days: int = 0
    read: Counter[str] = field(default_factory=Counter)
    was: dict[int, tuple[Any, Counter[str]]] = field(default_factory=dict)

    @property
    def contract(self) -> DatasetContract:
        return self.contracts[0]

    def later(self) -> datetime:
        self.days += 1
        return NOW + timedelta(days=self.days)

    def bring(self, *files: Path, **how: Any) -> None:
        report = ingest(self.lake, self.contract, files, settings=self.settings, run="r", now=self.later(), **how)
        for file in report.files:
            if file.status == "ingested" and file.sha256:
                self.read[file.sha256] = file.rows_read

    def replay(self, **how: Any) -> Any:
        author = Author("ann", "r", self.later())
        return replay(self.lake, self.contract, settings=self.settings, author=author, **how)

    def discard(self, selection: Selection) -> None:
        discard(self.lake, self.contract, selection=selection, settings=self.settings, author=Author("bob", "r", self.later()))

    def restore(self, chance: random.Random) -> None:
        """Go back, or forth again, to a version that was looked at: decisions and deliveries since are as if they had never been."""
        version = chance.choice(sorted(self.was))
        restore_dataset(self.lake, self.contract, version, settings=self.settings, run="r", now=self.later())
        content, read = self.was[version]
        assert self.content() == content
        self.read = Counter(read)

    def correct(self, chance: random.Random) -> None:
        """Export what waits and write some rows back, some with better values, some with worse."""
        exported, corrected = self.folder / f"e{self.days}.csv", self.folder / f"c{self.days}.csv"
        if not export_rows(self.lake, self.contract, selection=Selection(), to=exported):
            return
        with exported.open(encoding="utf-8", newline="") as file:
            rows = [row for row in csv.DictReader(file) if chance.random() < 0.7]
        for row in rows:
            if chance.random() < 0.7:
                row |= {"age": chance.choice(["30", "40", "no"]), "sex": "f", "born": "", "height": "", "children": ""}
                row["id"] = row["id"] if row["id"].startswith("P") else f"P{chance.randrange(1000)}"
        if rows:
            with corrected.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            self.replay(edits=corrected)

    def check(self) -> None:
        """Every row of every file is in raw, waits or was discarded: by the tables, row by row, and by the log."""
        origins = "_sha256, _row"
        raw = rows_of(self.lake, self.contract.raw, origins)
        states = rows_of(self.lake, self.contract.quarantine, f"{origins}, status")
        assert len(set(raw)) == len(raw)
        assert len({row[:2] for row in states}) == len(states)
        assert {row[:2] for row in states if row[2] == "replayed"} <= set(raw)
        others = [row[:2] for row in states if row[2] != "replayed"]
        assert not set(others) & set(raw)
        found, gone = Counter(digest for digest, _ in (*raw, *others)), self.gone()
        for digest, rows in self.read.items():
            assert found[digest] == rows or digest in gone
        assert not {digest for digest, _ in raw} & gone
        volume = dataset_volume(self.lake, self.contract.name)
        counts = count_by_rule(self.lake).get(self.contract.name)
        assert volume.rows_read == sum(self.read.values()) == volume.rows_accepted + volume.rows_quarantined
        assert volume.rows_accepted == len(raw)
        assert volume.rows_quarantined == len(others) + volume.rows_replaced
        assert (counts.rows + counts.discarded if counts else 0) == len(others)
        newest = self.lake.version(self.contract.raw)
        assert newest is not None
        self.was[newest] = self.content(), Counter(self.read)

    def gone(self) -> set[str]:
        """Files that another one replaced."""
        if not self.lake.exists(self.contract.raw):
            return set()
        sources = [commit.stamp.source or {} for commit in in_force(self.lake.history(self.contract.raw)) if commit.stamp]
        return {str(file["sha256"]) for source in sources for file in source.get("replaced", [])}  # type: ignore[attr-defined]

    def content(self) -> tuple[list[tuple[Any, ...]], list[tuple[Any, ...]]]:
        columns = "* EXCLUDE (_batch, _ingested_at)"
        return rows_of(self.lake, self.contract.raw, columns), rows_of(self.lake, self.contract.quarantine, "_sha256, _row, status, record")


def open_home(folder: str, settings: Settings, *, text: str = PEOPLE) -> Home:
    base = Path(folder)
    contracts: list[DatasetContract] = []
    for number, old_age in enumerate((120, 150)):
        path = base / f"{number}.odcs.yaml"
        path.write_text(text.replace("maximum: 120", f"maximum: {old_age}"), encoding="utf-8")
        contracts.append(load_dataset(path))
    return Home(Lake(base / "lake", threads=1), contracts, settings, base)


def write(path: Path, chance: random.Random, *, good: bool = False) -> Path:
    """A few rows, of which some are wrong in their values, as lines, or by their key."""
    lines = []
    for number in range(chance.randrange(2, 9)):
        age = "30" if good else chance.choice(["30", "45", "130", "old", ""])
        key = f"P{chance.randrange(6)}" if not good and chance.random() < 0.4 else f"P{chance.randrange(10_000)}{number}"
        tail = "" if good or chance.random() < 0.8 else chance.choice([",too,many", ""])
        lines.append(f"{key},{age},1.{number},1990-05-17,{'f' if good else chance.choice('fmx')},0{tail}\n")
    path.write_text(HEADER + "".join(lines), encoding="utf-8")
    return path


STEPS = ["bring", "bring", "again", "replay", "correct", "discard", "back", "contract", "repair", "restore", "die"]
steps = st.lists(st.sampled_from(STEPS), min_size=4, max_size=8)


@RELAXED
@example(seed=1, plan=["correct", "restore", "replay", "restore"], keyless=False)
@given(seed=st.integers(0, 10_000), plan=steps, keyless=st.booleans())
def test_every_row_is_in_one_place_whatever_is_decided(
    seed: int, plan: list[str], keyless: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow(plan, seed=seed, keyless=keyless, settings=settings, monkeypatch=monkeypatch)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_row_is_in_one_place_through_a_hundred_plans(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(100):
        chance = random.Random(seed)
        plan = [chance.choice(STEPS) for _ in range(chance.randrange(4, 10))]
        follow(plan, seed=seed, keyless=bool(seed % 2), settings=settings, monkeypatch=monkeypatch)


def follow(plan: list[str], *, seed: int, keyless: bool, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do it step by step; after each the law holds."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        home = open_home(folder, settings, text=KEYLESS if keyless else PEOPLE)
        files = [write(home.folder / "0.csv", chance)]
        home.bring(files[0])
        home.check()
        for step in plan:
            match step:
                case "bring":
                    files.append(write(home.folder / f"{len(files)}.csv", chance))
                    home.bring(files[-1])
                case "again":
                    home.bring(*chance.sample(files, k=min(2, len(files))))
                case "replay":
                    home.replay()
                    before = home.content()
                    assert home.replay().accepted == 0
                    assert home.content() == before
                case "correct":
                    home.correct(chance)
                case "discard":
                    home.discard(Selection(rule=chance.choice(["age.type", "age.maximum", "sex.enum", "record.shape"])))
                case "back":
                    home.replay(selection=Selection(status="discarded"))
                case "contract":
                    home.contracts.reverse()
                case "restore":
                    home.restore(chance)
                case "repair":
                    home.bring(write(chance.choice(files), chance), repaired=True)
                case _:
                    _die_somewhere(home, chance, monkeypatch)
            home.check()


def _die_somewhere(home: Home, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    """End a replay or a discard between its commits, before or after the one that counts."""
    commit, is_after = PiecewiseAppend.commit, chance.random() < 0.5

    def die(*arguments: Any, **more: Any) -> Any:
        if is_after:
            commit(*arguments, **more)
        raise Died

    with monkeypatch.context() as patched:
        patched.setattr(PiecewiseAppend, "commit", die)
        patched.setattr(PiecewiseAppend, "discard", lambda *_: None)
        try:
            if chance.random() < 0.5:
                home.replay()
            else:
                home.discard(Selection(level="semantic"))
        except Died:
            pass
    counts = count_by_rule(home.lake).get(home.contract.name)
    others = dataset_volume(home.lake, home.contract.name)
    # At any instant, before anybody has cleaned up.
    assert (counts.rows + counts.discarded if counts else 0) == others.rows_quarantined - others.rows_replaced
    home.discard(Selection(rule="nothing"))
    home.replay(selection=Selection(rule="nothing"))
    home.bring(write(home.folder / f"after-{home.days}.csv", chance, good=True))


@RELAXED
@given(seed=st.integers(0, 10_000))
def test_deliveries_in_any_order_damaged_and_repaired_give_the_same_tables(seed: int, settings: Settings) -> None:
    """The cousin of the daily files, with generated ones."""
    chance = random.Random(seed)
    contents: list[Any] = []
    with tempfile.TemporaryDirectory() as folder:
        originals = Path(folder) / "originals"
        originals.mkdir()
        files = [write(originals / f"{number}.csv", chance, good=number % 2 == 0) for number in range(4)]
        for name in ("in order", "damaged"):
            base = Path(folder) / name
            base.mkdir()
            home = open_home(str(base), settings, text=KEYLESS)
            order = list(files)
            if name == "damaged":
                chance.shuffle(order)
                by_hand = {file.name for file in files if chance.random() < 0.5}
                for file in order:
                    lines = file.read_text("utf-8").splitlines(keepends=True)
                    hurt = [line.replace(",30,", ",#REF!,") if ",30," in line and chance.random() < 0.6 else line for line in lines]
                    (base / file.name).write_text("".join(hurt), encoding="utf-8")
                    home.bring(base / file.name)
                    if chance.random() < 0.3:
                        home.bring(base / file.name)
                exported, right = base / "exported.ndjson", base / "right.ndjson"
                if export_rows(home.lake, home.contract, selection=Selection(rule="age.type"), to=exported):
                    rows = [json.loads(line) for line in exported.read_text("utf-8").splitlines()]
                    mended = [
                        {**row, "age": "30" if row["age"] == "#REF!" else row["age"]} for row in rows if row["lakehouse_file"] in by_hand
                    ]
                    right.write_text("".join(json.dumps(row) + "\n" for row in mended), encoding="utf-8")
                    if mended:
                        home.replay(edits=right)
                home.bring(*[file for file in order if file.name not in by_hand], repaired=True)
                home.check()
            else:
                home.bring(*order)
            schema = home.lake.schema(home.contract.raw)
            raw = rows_of(
                home.lake, home.contract.raw, f"* EXCLUDE (_batch, _ingested_at, _sha256{', _arrival' if '_arrival' in schema else ''})"
            )
            waiting = [
                row[:-1] for row in rows_of(home.lake, home.contract.quarantine, "_file, _row, rules, status") if row[-1] == "waiting"
            ]
            contents.append((raw, waiting))
    assert contents[0] == contents[1]
