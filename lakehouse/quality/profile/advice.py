"""What to do next, for people who are no specialists: what was found, in numbers, and one thing to do about it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lakehouse.contracts.inference import naming
from lakehouse.quality.profile.facts import Advice, Association, ColumnFacts, Dimension, Duplicates, Target, Weight
from lakehouse.quality.profile.shown import moment_text, number_text, percent

_ORDER: dict[Weight, int] = {"high": 0, "medium": 1, "low": 2}
_SEPARATELY = 3
_NAMED = 6
_ALIKE = 0.98
_SENTINELS = frozenset(
    {"-1", "-9", "-99", "-999", "-9999", "-99999", "999", "9999", "99999", "999999", "1900-01-01", "9999-12-31", "1970-01-01"}
)
_PERSONAL = frozenset({"e-mail addresses", "IP addresses", "IBANs", "phone numbers"})
_TYPED = {"numbers": "a number", "dates or times": "a date or a timestamp", "truth values": "a boolean"}


@dataclass(frozen=True, slots=True)
class _Found:
    """One finding about one column, so that the same finding about many columns can be told once."""

    topic: str
    advice: Advice
    many: str


def advise(
    columns: Sequence[ColumnFacts],
    duplicates: Duplicates,
    associations: Sequence[Association],
    dimensions: Sequence[Dimension],
    target: Target | None,
    *,
    rows: int,
    rows_quarantined: int,
    dataset: str | None,
) -> tuple[Advice, ...]:
    """The advice, weightiest first."""
    found: list[Advice] = []
    if not rows:
        return (Advice("high", None, "There are no rows.", "Check that the file or the run that should have filled it did."),)
    if rows_quarantined and dataset:
        found.append(
            Advice(
                "medium",
                None,
                f"{rows_quarantined:,} rows that were read are not here: they broke a rule.",
                f"See which and why: lakehouse quarantine show {dataset}",
            )
        )
    found += _about_rows(duplicates, rows)
    found += _late(dimensions)
    found += _about_target(target)
    found += _alike(associations)
    found += _grouped([one for column in columns for one in _about_column(column)])
    return tuple(sorted(found, key=lambda one: _ORDER[one.weight]))


def _about_rows(duplicates: Duplicates, rows: int) -> Iterator[Advice]:
    key = duplicates.key
    if key is not None and key.distinct < rows:
        name = " + ".join(key.columns)
        yield Advice(
            "high",
            None,
            f"{rows - key.distinct:,} rows have the {name} of another row.",
            "If later files correct earlier ones, all is well: the staging table keeps the newest. "
            "Otherwise find out why they are delivered twice.",
        )
    if duplicates.rows:
        about = "" if duplicates.exact else "About "
        yield Advice(
            "medium",
            None,
            f"{about}{duplicates.rows:,} of {rows:,} rows ({percent(duplicates.rows / rows)}) repeat another row in every column.",
            "If the same thing can't happen twice, drop them; if it can, ask for a column that tells the rows apart.",
        )
    elif key is None and rows >= 20:
        yield Advice(
            "low",
            None,
            "No single column tells the rows apart.",
            "Name the key in the contract (primaryKey) if several columns together do.",
        )


def _late(dimensions: Sequence[Dimension]) -> Iterator[Advice]:
    late = next((one for one in dimensions if one.name == "timeliness" and one.value is not None and one.value < 1), None)
    if late:
        yield Advice(
            "high", None, f"New rows are overdue: {late.how}.", "Ask whoever delivers the files, and look into the landing folder."
        )


def _about_target(target: Target | None) -> Iterator[Advice]:
    if target is None:
        return
    for suspect in target.suspects:
        column, _, reason = suspect.partition(": ")
        yield Advice(
            "high",
            column,
            f"{column} may hold the answer to {target.column}: {reason}.",
            "Leave it out of the model unless it is known before the prediction is made.",
        )
    total = sum(one.rows for one in target.balance)
    rare = [one for one in target.balance if total and one.rows < 0.05 * total]
    if rare:
        yield Advice(
            "medium",
            target.column,
            f"{rare[-1].label} is rare: {rare[-1].rows:,} of {total:,} rows.",
            "Judge the model by precision and recall of that class, not by its share of right answers.",
        )


def _alike(associations: Sequence[Association]) -> Iterator[Advice]:
    """Columns that say the same as each other, all of a kind in one sentence."""
    groups: list[list[str]] = []
    least: dict[str, float] = {}
    for one in associations:
        if one.measure == "eta" or abs(one.value) < _ALIKE:
            continue
        met = [group for group in groups if one.left in group or one.right in group]
        merged = list(dict.fromkeys([*(name for group in met for name in group), one.left, one.right]))
        groups = [group for group in groups if group not in met] + [merged]
        least[merged[0]] = min(abs(one.value), *(least.get(name, 1.0) for name in merged))
    for group in groups[:5]:
        yield Advice(
            "low",
            group[0],
            f"{_listing(group)} say nearly the same ({least[group[0]]:.2f} of 1).",
            "For a model, keep one of them.",
        )


def _listing(names: Sequence[str]) -> str:
    some, rest = (names[:_NAMED], f"{len(names) - _NAMED:,} more") if len(names) > _NAMED else (names[:-1], names[-1])
    return f"{', '.join(some)} and {rest}"


def _about_column(column: ColumnFacts) -> Iterator[_Found]:
    if not column.values:
        yield _Found(
            "empty",
            Advice(
                "medium", column.name, f"{column.name} has no value in any row.", "Ask whether it is still filled; if not, leave it out."
            ),
            "have no value in any row",
        )
        return
    yield from _about_gaps(column)
    if column.hidden:
        return
    yield from _about_texts(column)
    yield from _about_numbers(column)


def _about_gaps(column: ColumnFacts) -> Iterator[_Found]:
    share = column.missing_share
    if share >= 0.2:
        yield _Found(
            "missing",
            Advice(
                "high" if share >= 0.6 else "medium",
                column.name,
                f"{percent(share)} of the rows have no {column.name} ({column.missing:,}).",
                "Find out whether it was never asked or got lost. A model can learn from the gap itself; a mean over the rest may mislead.",
            ),
            "have no value in a fifth of the rows or more",
        )
    if column.distinct == 1 and column.values > 1:
        yield _Found(
            "constant",
            Advice(
                "low",
                column.name,
                f"{column.name} has the same value in every row that has one.",
                "Leave it out of models: it tells nothing apart.",
            ),
            "have one value only",
        )
    if column.hidden and column.hidden.startswith("looks like"):
        yield _Found(
            "personal",
            Advice(
                "high",
                column.name,
                f"{column.name} {column.hidden}, and is stored in the clear.",
                "Classify it in the contract (classification: restricted, lakehouse.protection: pseudonym); its values are not shown here.",
            ),
            "look personal and are stored in the clear; their values are not shown here",
        )


def _about_texts(column: ColumnFacts) -> Iterator[_Found]:
    texts = column.texts
    if texts is None or column.kind != "text":
        return
    if texts.null_words > 0:
        yield _Found(
            "null words",
            Advice(
                "medium",
                column.name,
                f"{percent(texts.null_words)} of {column.name} is the text {texts.null_word!r}, which says that there is no value.",
                "Name it in the contract (lakehouse.nullValues), so that it is read as missing.",
            ),
            "hold texts that mean “no value”",
        )
    if texts.looks_like in _TYPED and not naming.is_code(column.name) and not naming.is_identifier(column.name):
        yield _Found(
            "typed",
            Advice(
                "medium",
                column.name,
                f"{column.name} holds {texts.looks_like}, but is stored as text.",
                f"Declare it as {_TYPED[texts.looks_like]} in the contract, unless zeros in front matter.",
            ),
            "hold numbers, dates or truth values as text",
        )
    if texts.variants >= 0.001:
        example = f", such as {texts.variant_example}" if texts.variant_example else ""
        yield _Found(
            "variants",
            Advice(
                "medium",
                column.name,
                f"{column.name} says the same in several ways{example} ({percent(texts.variants)} of the texts).",
                "Bring them into one form in the staging model: trim() and lower().",
            ),
            "say the same in several ways (case or blanks)",
        )
    elif texts.blank_edges:
        yield _Found(
            "blanks",
            Advice(
                "low",
                column.name,
                f"{texts.blank_edges:,} values of {column.name} begin or end with a blank.",
                "Trim them in the staging model, or joins will miss them.",
            ),
            "have blanks at the edges",
        )


def _about_numbers(column: ColumnFacts) -> Iterator[_Found]:
    numbers = column.numbers
    if numbers is None:
        return
    if numbers.not_finite:
        yield _Found(
            "not finite",
            Advice(
                "medium",
                column.name,
                f"{numbers.not_finite:,} values of {column.name} are infinite or no number (NaN).",
                "Find the division by zero that made them, or read them as missing.",
            ),
            "hold infinite values or NaN",
        )
    sentinel = next((one for one in column.top[:5] if _is_sentinel(one.label, column)), None)
    if sentinel:
        yield _Found(
            "sentinel",
            Advice(
                "high",
                column.name,
                f"{sentinel.label} stands in {sentinel.rows:,} rows of {column.name}, far from the other values: it may mean “no value”.",
                "If it does, name it in the contract (lakehouse.nullValues); sums and means are wrong until then.",
            ),
            "may use a special number for “no value”",
        )
    far = min(numbers.outliers_iqr or 0, numbers.outliers_z or 0)
    if far and column.distinct > 10 and not naming.is_identifier(column.name):
        show = moment_text if column.kind == "moment" else number_text
        usual = f" the usual {show(numbers.usual[0])} to {show(numbers.usual[1])}"
        yield _Found(
            "outliers",
            Advice(
                "low",
                column.name,
                f"{far:,} values of {column.name} ({percent(far / column.values)}) lie far outside{usual}; "
                f"it runs from {show(numbers.least)} to {show(numbers.most)}.",
                "Check a few against their source: a wrong unit or a slipped decimal point looks like this. "
                "If they are real, use the median rather than the mean.",
            ),
            "have values far outside the usual",
        )


def _is_sentinel(label: str, column: ColumnFacts) -> bool:
    """A number that stands for nothing: a special one, at the edge, and away from the rest."""
    numbers = column.numbers
    plain = label.removesuffix(".0").removesuffix(" 00:00:00")
    if plain not in _SENTINELS or numbers is None or not numbers.quantiles or column.distinct < 10:
        return False
    if column.kind == "moment":
        return label in {numbers.minimum, numbers.maximum}
    value, spread = float(label), numbers.quantiles[4] - numbers.quantiles[2]
    is_edge = label in {numbers.minimum, numbers.maximum}
    if plain == "-1":
        return is_edge and numbers.quantiles[3] > 0 and numbers.negatives == sum(one.rows for one in column.top if one.label == label)
    return is_edge and (value < numbers.quantiles[3] - 3 * spread or value > numbers.quantiles[3] + 3 * spread)


def _grouped(found: Sequence[_Found]) -> Iterator[Advice]:
    """The same about many columns is said once."""
    topics: dict[str, list[_Found]] = {}
    for one in found:
        topics.setdefault(one.topic, []).append(one)
    for several in topics.values():
        weightiest = sorted(several, key=lambda one: _ORDER[one.advice.weight])
        if len(several) <= _SEPARATELY:
            yield from (one.advice for one in weightiest)
            continue
        names = [one.advice.column or "" for one in weightiest]
        first = weightiest[0]
        yield Advice(first.advice.weight, None, f"{len(names):,} columns {first.many}: {_listing(names)}.", first.advice.action)
