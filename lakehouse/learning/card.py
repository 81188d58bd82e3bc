"""A model version's card: what it is for, what it learned from, how good it is, where not to trust it; one content, three forms."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lakehouse.contracts import ModelContract
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.comparison import verdict
from lakehouse.learning.evaluation import Interval
from lakehouse.learning.lifecycle import Event
from lakehouse.learning.pages import card, listed, page, paragraph, table
from lakehouse.learning.recipe import Recipe
from lakehouse.learning.results import TrainReport

_MOST_EVENTS = 30


@dataclass(frozen=True, slots=True)
class Grid:
    """A small table of texts; the columns in `numbers` are set to the right."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a card."""

    title: str
    text: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    grid: Grid | None = None

    def as_markdown(self) -> str:
        """For repositories and terminals."""
        parts = [f"## {self.title}", *self.text]
        if self.items:
            parts.append("\n".join(f"- {one}" for one in self.items))
        if self.grid is not None:
            rule = ["---:" if place in self.grid.numbers else "---" for place in range(len(self.grid.head))]
            parts.append("\n".join(_row(one) for one in (self.grid.head, rule, *self.grid.rows)))
        return "\n\n".join(parts)

    def as_html(self) -> str:
        """For browsers."""
        grid = table(self.grid.head, self.grid.rows, numbers=self.grid.numbers) if self.grid is not None else ""
        return card(self.title, *(paragraph(one) for one in self.text), listed(self.items), grid)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


@dataclass(frozen=True, slots=True)
class ModelCard:
    """The card of one version."""

    model: str
    version: str
    subtitle: str
    sections: tuple[Section, ...]

    def as_markdown(self) -> str:
        """The whole card."""
        return "\n\n".join([f"# {self.model} {self.version}", self.subtitle, *(one.as_markdown() for one in self.sections)]) + "\n"

    def as_html(self) -> str:
        """The whole card as a page that needs nothing else."""
        inside = "<br>".join(one.as_html() for one in self.sections)
        return page(f"{self.model} {self.version}", "Model card", self.subtitle, [f"<br>{inside}"])

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def model_card(contract: ModelContract, report: TrainReport, recipe: Recipe | None, events: Sequence[Event]) -> ModelCard:
    """The card of a version.

    Args:
        contract: of now: what it is meant for and its limits are what people say today.
        report: of the version, with what is true of it now.
        recipe: what it was made from; None for a version from before that was kept.
        events: of its history, oldest first.
    """
    made = recipe.contract if recipe is not None else contract
    sections = (
        _purpose(contract, made),
        _quality(report),
        *_segments(report),
        *_compared(contract, report),
        _data(made, report),
        _columns(report),
        _choice(made, report),
        _limits(contract, report),
        _history(report, events),
        *_again(report, recipe),
    )
    known = " · ".join(one for one in (report.semantic_version, report.state, report.algorithm, contract.owner or "") if one)
    return ModelCard(report.model, report.version, known, sections)


def _purpose(contract: ModelContract, made: ModelContract) -> Section:
    entity = f", one answer per {', '.join(made.entity)}" if made.entity else ""
    positive = f"; probabilities are those of {made.positive_class}" if made.positive_class is not None else ""
    text = [one for one in (contract.description, contract.intended_use) if one]
    return Section("What it is for", (*text, f"A {made.problem} of {' '.join(made.target.split())}{entity}{positive}."))


def _quality(report: TrainReport) -> Section:
    rows = tuple(
        (
            f"{name} (chose the algorithm)" if name == report.metric else name,
            _number(value),
            _range(report.intervals.get(name) or (report.interval if name == report.metric else None)),
            _number(report.baseline.get(name)),
            "less" if name in LOWER_IS_BETTER else "more",
        )
        for name, value in sorted(report.metrics.items(), key=lambda one: (one[0] != report.metric, one[0]))
    )
    head = ("metric", "on test rows", "95 % on as many new rows", "always the same answer", "better is")
    told = f"On {report.rows_test:,} test rows that it has not learned from, beside a model that always gives the same answer."
    return Section("How good it is", (told,), grid=Grid(head, rows, (1, 2, 3)))


def _segments(report: TrainReport) -> Iterator[Section]:
    if report.segments:
        rows = tuple((f"{one.feature} {one.value}", f"{one.rows:,}", _number(one.error), _number(one.elsewhere)) for one in report.segments)
        grid = Grid(("rows with", "rows", "error", "elsewhere"), rows, (1, 2, 3))
        told = "Kinds of test rows on which it errs more, or less, than on all others; only differences that hold after Holm's correction."
        yield Section("Where it is better or worse", (told,), grid=grid)


def _compared(contract: ModelContract, report: TrainReport) -> Iterator[Section]:
    if report.comparison is not None:
        judged = verdict(report.comparison, contract.comparison)
        said = "It is better than" if judged.passed else "It is not shown to be better than"
        title = "Beside the version before"
        yield Section(title, (f"{said} version {report.comparison.champion}, which was in production: {judged.sentence}.",))


def _data(made: ModelContract, report: TrainReport) -> Section:
    rows = [(name, str(version)) for name, version in sorted(report.inputs.items())]
    rows.append((f"models.{report.model}_training_set", str(report.training_set_version)))
    split = f"{made.split.strategy} split, {made.split.test_fraction:.0%} for the test"
    views = f" Feature views: {', '.join(made.feature_views)}." if made.feature_views else ""
    told = f"{report.rows_train:,} rows to learn from and {report.rows_test:,} to test ({split}), labels from {made.label_table}.{views}"
    left_out = tuple(f"left out {one}" for one in report.left_out)
    return Section("What it learned from", (told,), left_out, Grid(("table", "version"), tuple(rows), (1,)))


def _columns(report: TrainReport) -> Section:
    rows = tuple((str(one.get("feature", "")), str(one.get("treatment", "")), str(one.get("reason", ""))) for one in report.columns)
    return Section("What becomes of its features", grid=Grid(("feature", "becomes", "because"), rows))


def _choice(made: ModelContract, report: TrainReport) -> Section:
    rows = tuple(
        (one.algorithm, _number(one.metrics.get(report.metric)), _number(one.std), f"{one.seconds:.1f} s") for one in report.candidates
    )
    told = f"{report.algorithm}, by {report.metric} in a cross-validation of {made.folds} folds of the training rows."
    return Section("How it was chosen", (told,), grid=Grid(("candidate", report.metric, "spread", "time"), rows, (1, 2, 3)))


def _limits(contract: ModelContract, report: TrainReport) -> Section:
    failed = [f"{one.id} does not hold: {one.detail}" for one in report.checks if not one.passed]
    warned = [f"{one.feature}: {one.reason}" for one in contract.warnings]
    known = (
        "It was measured on rows like those of its test: of other places, times or kinds of rows nothing is known.",
        "Values that it has never seen are predicted all the same; lakehouse predict --file warns of them.",
    )
    return Section("Limits", items=(*contract.limits, *failed, *warned, *report.notes, *known))


def _history(report: TrainReport, events: Sequence[Event]) -> Section:
    own = [one for one in events if one.version == report.version][-_MOST_EVENTS:]
    rows = tuple((f"{one.at:%Y-%m-%d %H:%M}", f"{one.kind}{_adjusted(one)}", str(one.after), one.actor, one.reason) for one in own)
    return Section("What happened to it", grid=Grid(("UTC", "event", "state", "by", "why"), rows))


def _adjusted(event: Event) -> str:
    return "" if event.threshold is None else f" from {event.threshold_before:g} to {event.threshold:g}"


def _again(report: TrainReport, recipe: Recipe | None) -> Iterator[Section]:
    if recipe is None:
        return
    ran = recipe.environment
    rows = [("parameters", report.model_digest), ("training rows", recipe.data), ("predictions of the test rows", recipe.predictions)]
    rows += [("code", ran.code), ("contract", f"{recipe.contract.version}, {recipe.contract.digest}"), ("seed", str(recipe.contract.seed))]
    rows += [("Python", ran.python), ("platform", ran.platform), *sorted(ran.libraries.items())]
    told = f"lakehouse model reproduce {report.model}@{report.version} makes it again and compares the digests."
    yield Section("How to make it again", (told,), grid=Grid(("what", "value"), tuple(rows)))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _range(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
