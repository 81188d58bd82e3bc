"""Survey files of a household panel, of any size in constant memory."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.errors import SourceError
from lakehouse.sampling.dirt import BadRows
from lakehouse.sampling.files import SampleReport, SampleWriter, report

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from lakehouse.sampling.household_model import Households, Ints, Wave

FORMATS = ("csv", "csv.gz")
COLUMNS = (
    "interview_id", "household_id", "district", "urban", "interview_date", "start_time", "end_time", "submitted_at", "enumerator_id",
    "head_name", "phone", "head_age", "head_sex", "head_education", "household_size", "children_under_5", "rooms", "water_source",
    "cooking_fuel", "has_electricity", "roof_material", "land_hectares", "livestock_units", "distance_to_market_km", "monthly_income",
    "total_expenditure", "food_expenditure", "meals_per_day", "months_food_shortage", "shock", "vulnerable",
)  # fmt: skip
_BLOCK = 16_384
_LARGEST_PANEL = 49_999_999
_GIVEN = (
    "Amina", "Juma", "Zawadi", "Baraka", "Neema", "Kito", "Asha", "Hassan", "Rehema", "Daudi", "Fatuma", "Elia", "Grace", "Idris", "Halima",
    "Joseph", "Khadija", "Lukas", "Mariam", "Noor", "Esperança", "Omari", "Pendo", "Rashid", "Salma", "Tumaini", "Upendo", "Víctor", "Wema",
    "Yusuf", "Zuri", "José",
)  # fmt: skip
_FAMILY = (
    "Abdi", "Bakari", "Chande", "Dlamini", "Eshe", "Farah", "Gathoni", "Hamisi", "Ibrahim", "Jelani", "Kamau", "Lema", "Mwangi", "Ndlovu",
    "Okello", "Phiri", "Quaresma", "Ramadhani", "Sithole", "Tembo", "Uledi", "Vieira", "Wanjiru", "Xavier", "Yohana", "Zulu", "Mâlik",
    "Otieno", "Achieng", "Banda", "Chirwa", "Duarte",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Quarter:
    """A wave of the panel."""

    year: int
    season: int

    def __str__(self) -> str:
        return f"{self.year}Q{self.season + 1}"

    def after(self, count: int) -> "_Quarter":
        year, season = divmod(self.year * 4 + self.season + count, 4)
        return _Quarter(year, season)

    @property
    def first_day(self) -> date:
        return date(self.year, 3 * self.season + 1, 1)


@dataclass(frozen=True, slots=True)
class _Panel:
    """How many interviews each wave has, and which file each goes to."""

    waves: tuple[_Quarter, ...]
    interviews: tuple[int, ...]
    parts: tuple[tuple[int, ...], ...]  # wave -> the files its interviews are spread over, in order

    @property
    def places(self) -> int:
        return max(self.interviews, default=0)


def households(
    *,
    rows: int,
    out: Path,
    seed: int = 0,
    bad_rate: float = 0.0,
    shift: float = 0.0,
    files: int | None = None,
    file_format: str = "csv",
    waves: int = 8,
    first_wave: str = "2024Q1",
    bad_encoding: bool = False,
    planted: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> SampleReport:
    """Write exactly `rows` interviews of a quarterly panel; the same arguments give the same bytes.

    lakehouse.sampling.household_model describes the model. Households come back wave after wave, one in five is replaced by another on the
    way. `vulnerable` is empty in the newest wave. Exactly floor(rows * bad_rate) rows are bad, each in one way.

    Args:
        rows: data rows over all files.
        out: folder of the files; each appears when it is complete.
        seed: chooses the population and everything that happens to it.
        bad_rate: share of bad rows, 0..1.
        shift: how far the population moves: 0 is the usual one, 1 is poorer, larger and more often hit.
        files: how many files; one per wave unless told. Fewer put waves together, more split them.
        file_format: csv or csv.gz.
        waves: how many quarters the panel runs.
        first_wave: its first quarter, as 2024Q1.
        bad_encoding: also plant bytes that are not UTF-8.
        planted: a CSV file to list every bad row in: file, row (1-based data row), kind.
        progress: called with the number of rows written since the last call.

    Raises:
        SourceError: an argument is out of its range.
    """
    panel = _plan(rows, waves=waves, first_wave=first_wave, files=files)
    _check(bad_rate=bad_rate, shift=shift, file_format=file_format, seed=seed)
    spoiler = BadRows(COLUMNS, encoding=bad_encoding)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(SampleWriter(out / name, compressed=file_format.endswith("gz"))) for name in _names(panel, file_format)
        ]
        ledger = stack.enter_context(SampleWriter(planted)) if planted else None
        if ledger:
            ledger.write(b"file,row,kind\n")
        for writer in writers:
            writer.write((",".join(COLUMNS) + "\n").encode())
        drawn = planned = 0
        for wave, start, lines, rng in _blocks(panel, seed=seed, shift=shift):
            for part, piece in _pieces(panel, wave, start, lines):
                drawn += len(piece)
                bad_count, planned = int(drawn * bad_rate) - planned, int(drawn * bad_rate)
                bad = sorted(rng.choice(len(piece), bad_count, replace=False).tolist()) if bad_count else []
                _write(writers[part], piece, bad, spoiler=spoiler, ledger=ledger)
                if progress:
                    progress(len(piece))
    return report(writers)


def _check(*, bad_rate: float, shift: float, file_format: str, seed: int) -> None:
    if not 0 <= bad_rate <= 1:
        raise SourceError("bad rate", "is out of range", expected="0..1", found=str(bad_rate))
    if not -3 <= shift <= 3:
        raise SourceError("shift", "is out of range", expected="-3..3", found=str(shift))
    if file_format not in FORMATS:
        raise SourceError("format of the sample", "is not known", expected=" or ".join(FORMATS), found=file_format)
    if seed < 0:
        raise SourceError("seed", "is negative", expected="0 or more", found=str(seed))


def _plan(rows: int, *, waves: int, first_wave: str, files: int | None) -> _Panel:
    """Spread the rows over the waves as evenly as can be, and the waves over the files."""
    year, _, season = first_wave.partition("Q")
    if not (year.isdigit() and len(year) == 4 and season in {"1", "2", "3", "4"}):
        raise SourceError("first wave", "is no quarter", expected="a year and a quarter, as 2024Q1", found=first_wave)
    if rows < 1 or waves < 1 or (files is not None and files < 1):
        raise SourceError("sample", "needs at least one row, wave and file", found=f"{rows} rows, {waves} waves, {files} files")
    first = _Quarter(int(year), int(season) - 1)
    if not 2015 <= first.year <= first.after(waves - 1).year <= 2039:
        raise SourceError("waves", "leave the years of the survey", expected="2015..2039", found=f"{first} to {first.after(waves - 1)}")
    # The newest waves are the full ones: a tiny sample still has labels to learn from and one wave to predict.
    count = min(waves, rows)
    interviews = tuple((rows + index) // count for index in range(count))
    if interviews[-1] > _LARGEST_PANEL:
        raise SourceError("rows", "are too many for the panel", expected=f"at most {_LARGEST_PANEL * waves:,}", fix="Ask for more waves")
    wanted = min(files or count, rows)
    if wanted <= count:
        parts = tuple((index * wanted // count,) for index in range(count))
    else:
        starts = [index * wanted // count for index in range(count + 1)]
        parts = tuple(tuple(range(a, b)) for a, b in pairwise(starts))
    return _Panel(tuple(first.after(waves - count + index) for index in range(count)), interviews, parts)


def _names(panel: _Panel, file_format: str) -> list[str]:
    """The files in order; a name says which waves are inside."""
    inside: dict[int, list[_Quarter]] = {}
    for wave, parts in zip(panel.waves, panel.parts, strict=True):
        for part in parts:
            inside.setdefault(part, []).append(wave)
    names: list[str] = []
    for part, waves in sorted(inside.items()):
        span = str(waves[0]) if len(waves) == 1 else f"{waves[0]}-{waves[-1]}"
        siblings = panel.parts[panel.waves.index(waves[0])]
        piece = f"_part-{siblings.index(part) + 1:04d}" if len(siblings) > 1 else ""
        names.append(f"household_survey_{span}{piece}.{file_format}")
    return names


def _blocks(panel: _Panel, *, seed: int, shift: float) -> Iterator[tuple[int, int, list[bytes], "np.random.Generator"]]:
    """(wave, first place, good lines, random numbers for what is done to them), block after block of places and wave after wave.

    A place is where a household lives. Each block has random numbers of its own, so nothing depends on how many blocks there are.
    """
    import numpy as np

    from lakehouse.sampling.household_model import draw_households, draw_wave

    names = len(_GIVEN) * len(_FAMILY) * 2
    for start in range(0, panel.places, _BLOCK):
        rng = np.random.default_rng([seed, start, 0])
        count = min(_BLOCK, panel.places - start)
        who = draw_households(rng, count, generation=0, shift=shift, names=names)
        moves_in = np.where(rng.random(count) < 0.2, rng.integers(1, max(len(panel.waves), 2), count), -1)
        fortune = rng.standard_normal(count)
        for index, quarter in enumerate(panel.waves):
            rng = np.random.default_rng([seed, start, 1 + index])
            moved = moves_in == index
            who.take_over(moved, draw_households(rng, int(moved.sum()), generation=1, shift=shift, names=names))
            wave = draw_wave(rng, who, fortune, quarter=quarter.season, shift=shift)
            asked = min(panel.interviews[index] - start, count)
            if asked > 0:
                newest = index == len(panel.waves) - 1
                table = _table(who, wave, np.arange(start, start + count), quarter, newest=newest, elapsed=index // 4)
                yield index, start, _lines(table.slice(0, asked)), rng


def _pieces(panel: _Panel, wave: int, start: int, lines: list[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    """(file, the lines that go there)."""
    parts, total = panel.parts[wave], panel.interviews[wave]
    for index, part in enumerate(parts):
        first, last = index * total // len(parts), (index + 1) * total // len(parts)
        piece = lines[max(first - start, 0) : max(last - start, 0)]
        if piece:
            yield part, piece


def _write(writer: SampleWriter, lines: list[bytes], bad: list[int], *, spoiler: BadRows, ledger: SampleWriter | None) -> None:
    earlier = None if bad and bad[0] == 0 else lines[0]
    for place in bad:
        kind, lines[place] = spoiler.spoil(lines[place], earlier)
        writer.bad[kind] += 1
        if ledger:
            ledger.write(f"{writer.path.name},{writer.rows + place + 1},{kind}\n".encode())
    writer.write(b"\n".join(lines) + b"\n")
    writer.rows += len(lines)


def _lines(table: "pa.Table") -> list[bytes]:
    from pyarrow import csv as arrow_csv

    out = io.BytesIO()
    arrow_csv.write_csv(table, out, arrow_csv.WriteOptions(include_header=False, batch_size=_BLOCK, quoting_style="needed"))
    return out.getvalue().split(b"\n")[:-1]


def _table(who: "Households", wave: "Wave", place: "Ints", quarter: _Quarter, *, newest: bool, elapsed: int) -> "pa.Table":
    """The block's interviews as the file shows them."""
    import numpy as np
    import pyarrow as pa
    from pyarrow import compute

    from lakehouse.sampling import household_model as model

    day = np.datetime64(quarter.first_day, "D") + wave.day
    start = day.astype("datetime64[s]") + wave.start_s
    end = start + wave.minutes * 60
    phone = _numbered("+255", who.phone, 9)
    columns: dict[str, pa.Array] = {
        "interview_id": _numbered(f"HS-{quarter}-", place + 1, 8),
        "household_id": _numbered("HH", 2 * place + who.generation + 1, 8),
        "district": _named(model.DISTRICTS, who.district),
        "urban": pa.array(who.urban),
        "interview_date": pa.array(day),
        "start_time": pa.array(start),
        "end_time": pa.array(end),
        "submitted_at": pa.array(end + wave.delay_s),
        "enumerator_id": _numbered("EN", wave.enumerator, 4),
        "head_name": _named(_head_names(), who.name),
        "phone": compute.call_function("if_else", [pa.array(who.phone > 0), phone, pa.scalar(None, pa.string())]),
        "head_age": pa.array(np.minimum(who.age + elapsed, 110)),
        "head_sex": _named(model.SEX, who.sex),
        "head_education": _named(model.EDUCATION, who.education),
        "household_size": pa.array(who.size),
        "children_under_5": pa.array(who.children),
        "rooms": pa.array(who.rooms),
        "water_source": _named(model.WATER, who.water),
        "cooking_fuel": _named(model.FUEL, who.fuel),
        "has_electricity": pa.array(who.electricity),
        "roof_material": _named(model.ROOF, who.roof),
        "land_hectares": pa.array(who.land),
        "livestock_units": pa.array(who.livestock),
        "distance_to_market_km": pa.array(who.distance),
        "monthly_income": pa.array(wave.income, mask=~wave.income_known),
        "total_expenditure": pa.array(wave.total_expenditure),
        "food_expenditure": pa.array(wave.food_expenditure),
        "meals_per_day": pa.array(wave.meals),
        "months_food_shortage": pa.array(wave.months_short),
        "shock": _named(model.SHOCKS, wave.shock),
        "vulnerable": pa.nulls(len(place), pa.bool_()) if newest else pa.array(wave.vulnerable),
    }
    return pa.table({name: columns[name] for name in COLUMNS})


def _head_names() -> tuple[str, ...]:
    """Every name as "Given Family", and half as "Family, Given", which a file has to quote: they are good rows too."""
    pairs = [(given, family) for given in _GIVEN for family in _FAMILY]
    return (*(f"{given} {family}" for given, family in pairs), *(f"{family}, {given}" for given, family in pairs))


def _named(names: tuple[str, ...], codes: "Ints") -> "pa.Array":
    import pyarrow as pa

    return pa.array(names).take(pa.array(codes))


def _numbered(prefix: str, numbers: "Ints", digits: int) -> "pa.Array":
    """`prefix` and each number with leading zeros, without a Python string per row."""
    import numpy as np
    import pyarrow as pa

    width = len(prefix) + digits
    text = np.empty((len(numbers), width), np.uint8)
    text[:, : len(prefix)] = np.frombuffer(prefix.encode(), np.uint8)
    powers = 10 ** np.arange(digits - 1, -1, -1)
    text[:, len(prefix) :] = numbers[:, None] // powers % 10 + ord("0")
    offsets = np.arange(0, (len(numbers) + 1) * width, width, dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(numbers), [None, pa.py_buffer(offsets), pa.py_buffer(text)])
