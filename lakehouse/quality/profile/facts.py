"""What a profile says, as values: they live in a Delta table as JSON and are drawn as text, HTML and metadata."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Kind = Literal["number", "moment", "boolean", "text", "nested", "bytes"]
Weight = Literal["high", "medium", "low"]


@dataclass(frozen=True, slots=True)
class Count:
    """A value (or a pattern) and the rows that have it."""

    label: str
    rows: int


@dataclass(frozen=True, slots=True)
class Histogram:
    """Rows by equal intervals; `edges` has one more than `counts`. Of moments the edges are seconds since 1970.

    Attributes:
        below: rows left of the first edge, far from the others; likewise `above`.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    below: int = 0
    above: int = 0


@dataclass(frozen=True, slots=True)
class Numbers:
    """Numbers, or moments as seconds since 1970; infinite values and NaN are counted and left out of everything else.

    Attributes:
        minimum: as text, because moments and long decimals are no floats; likewise `maximum`. `least` and `most` are the same as floats.
        quantiles: at 1, 5, 25, 50, 75, 95 and 99 percent.
        outliers_iqr: rows more than 1.5 interquartile ranges outside of the middle half; None where it has no width.
        outliers_z: rows more than 3 standard deviations from the mean.
    """

    minimum: str
    maximum: str
    mean: float | None
    deviation: float | None
    quantiles: tuple[float, ...]
    zeros: int = 0
    negatives: int = 0
    not_finite: int = 0
    outliers_iqr: int | None = None
    outliers_z: int | None = None
    low_fence: float | None = None
    high_fence: float | None = None
    least: float | None = None
    most: float | None = None
    histogram: Histogram | None = None

    @property
    def usual(self) -> tuple[float | None, float | None]:
        """The range that is not far from the middle half, as far as there are numbers."""
        low = self.least if self.low_fence is None or self.least is None else max(self.low_fence, self.least)
        high = self.most if self.high_fence is None or self.most is None else min(self.high_fence, self.most)
        return low, high


@dataclass(frozen=True, slots=True)
class Texts:
    """Lengths in characters (bytes of binary values, items of lists) and how the texts are written.

    Attributes:
        blank_edges: texts that begin or end with a blank.
        patterns: shapes by character class, of the sampled texts: A capital, a small letter, 9 digit, + several of them.
        looks_like: what nearly all of them are, such as e-mail addresses.
        variants: share of sampled texts that differ from a more frequent one only in case or blanks.
        null_words: sampled texts that mean "no value", as a share.
    """

    shortest: int | None = None
    longest: int | None = None
    mean_length: float | None = None
    empty: int = 0
    blank_edges: int = 0
    patterns: tuple[Count, ...] = ()
    looks_like: str | None = None
    variants: float = 0.0
    variant_example: str | None = None
    null_words: float = 0.0
    null_word: str | None = None


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """One column.

    Attributes:
        distinct: different values; see `distinct_exact`.
        hidden: why no value of it is shown; None if values may be.
        top: the most frequent values with their exact rows, as far as the sample found them; all of them if `top_is_all`.
        invalid: values that can't be what the column is for: NaN, words for "no value", texts that are not of the file's type.
    """

    name: str
    type: str
    kind: Kind
    rows: int
    values: int
    distinct: int
    distinct_exact: bool = True
    hidden: str | None = None
    numbers: Numbers | None = None
    texts: Texts | None = None
    top: tuple[Count, ...] = ()
    top_is_all: bool = False
    invalid: int = 0
    invalid_why: str | None = None
    description: str = ""

    @property
    def missing(self) -> int:
        """Rows without a value."""
        return self.rows - self.values

    @property
    def missing_share(self) -> float:
        """Share of rows without a value."""
        return self.missing / self.rows if self.rows else 0.0

    @property
    def unique_share(self) -> float:
        """Different values for each value there is."""
        return min(self.distinct / self.values, 1.0) if self.values else 0.0


@dataclass(frozen=True, slots=True)
class Key:
    """Columns that tell rows apart, and whether they do.

    Attributes:
        declared: by the contract; otherwise found.
        distinct: different keys.
    """

    columns: tuple[str, ...]
    declared: bool
    distinct: int


@dataclass(frozen=True, slots=True)
class Duplicates:
    """Rows that repeat another row in every column, without those that say where a row came from."""

    rows: int
    exact: bool
    columns: int
    key: Key | None = None


@dataclass(frozen=True, slots=True)
class Association:
    """How much two columns say about each other, of the sample.

    Attributes:
        measure: `spearman` (-1 to 1) between numbers and moments, `cramers_v` (0 to 1) between categories, `eta` (0 to 1) from a
            category to a number.
        linear: Pearson's correlation, of numbers.
    """

    left: str
    right: str
    measure: Literal["spearman", "cramers_v", "eta"]
    value: float
    linear: float | None = None


@dataclass(frozen=True, slots=True)
class TargetSuggestion:
    """A column that could be predicted, and why."""

    column: str
    problem: Literal["classification", "regression"]
    score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """The column to be predicted: what it looks like, what goes with it, what may hold the answer."""

    column: str
    problem: str
    balance: tuple[Count, ...]
    associations: tuple[Association, ...]
    suspects: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class Dimension:
    """One of the five parts of the score.

    Attributes:
        value: 0 to 1; None if there is nothing to judge it by.
        how: how it was computed, with its numbers.
    """

    name: str
    value: float | None
    how: str


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do next, in plain words."""

    weight: Weight
    column: str | None
    finding: str
    action: str


@dataclass(frozen=True, slots=True)
class Freshness:
    """When the newest rows came, how soon others were promised, and whether a later version of the table has them."""

    newest_at: datetime | None = None
    promise_s: float | None = None
    promise: str = ""
    superseded: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """One table version or file.

    Attributes:
        subject: `layer.name`, or the file's name.
        version: None of a file.
        sample_rows: rows that patterns, associations and suggestions were taken from; all if it equals `rows`.
        compared: columns that associations were looked for between.
        facts: what came with the table: rows read and accepted, broken rules, and the like.
    """

    subject: str
    source: Literal["table", "file"]
    version: int | None
    rows: int
    columns: tuple[ColumnFacts, ...]
    sample_rows: int
    duplicates: Duplicates
    associations: tuple[Association, ...]
    compared: tuple[str, ...]
    targets: tuple[TargetSuggestion, ...]
    target: Target | None
    freshness: Freshness
    dimensions: tuple[Dimension, ...]
    advice: tuple[Advice, ...]
    profiled_at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def score(self) -> float:
        """The mean of the dimensions that could be judged, between 0 and 1."""
        judged = [one.value for one in self.dimensions if one.value is not None]
        return sum(judged) / len(judged) if judged else 1.0

    def dimension(self, name: str) -> float | None:
        """The value of a dimension."""
        return next((one.value for one in self.dimensions if one.name == name), None)

    def column(self, name: str) -> ColumnFacts:
        """The column of this name."""
        return next(one for one in self.columns if one.name == name)
