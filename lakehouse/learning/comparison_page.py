"""A comparison of two models as one HTML page for people who do not compare models every day."""

from collections.abc import Iterator

from lakehouse.contracts import ModelContract
from lakehouse.contracts.metrics import LOWER_IS_BETTER
from lakehouse.learning.comparison import ModelComparison, OnFolds, OnHoldout, effect_word, verdict
from lakehouse.learning.pages import Bar, bars, card, interval, listed, page, paragraph

_MEANINGS = {
    "roc_auc": "how often a row of the class in question gets a higher probability than another row: 0.5 is guessing, 1 is never wrong",
    "average_precision": "how pure the list is when rows are sorted by probability: 1 is perfect",
    "f1": "the balance of how many of its alarms are right and how many cases it finds: 1 is perfect",
    "f1_macro": "the balance of right alarms and cases found, averaged over the classes: 1 is perfect",
    "accuracy": "the share of rows that it has right",
    "r2": "the share of the differences between rows that it explains: 0 is always saying the mean, 1 is never wrong",
    "rmse": "the typical size of its errors, large ones counting more: less is better",
    "mae": "the mean size of its errors: less is better",
    "log_loss": "how surprised it is by the truth: less is better",
}


def comparison_page(contract: ModelContract, comparison: ModelComparison) -> str:
    """The page."""
    judged = verdict(comparison, contract.comparison)
    challenger = f"Version {comparison.challenger}" if comparison.challenger else "The new version"
    said = "is better than" if judged.passed else "is not shown to be better than"
    if comparison.holdout is None:
        said = "can't be compared with"
    head = f"{challenger} {said} version {comparison.champion}, which was in production"
    box = (
        f'<div class="card verdict {"good" if judged.passed else ""}"><b>{head}.</b>{paragraph(_so(contract, passed=judged.passed))}</div>'
    )
    return page(
        f"{contract.name}: {challenger.lower()} beside version {comparison.champion}",
        "Comparison",
        contract.description,
        [box, *_body(contract, comparison)],
    )


def _so(contract: ModelContract, *, passed: bool) -> str:
    if not contract.comparison.required:
        return "The contract does not ask for it: the new version may take over all the same."
    return "It may take over." if passed else "The version in production stays."


def _body(contract: ModelContract, comparison: ModelComparison) -> Iterator[str]:
    found, metric = comparison.holdout, comparison.metric
    if found is None:
        yield f"<h2>Why</h2>{paragraph(f'Version {comparison.champion} could not be asked about the same rows: {comparison.reason}.')}"
    else:
        yield _values(contract, comparison, found)
        yield "<h2>Could it be chance?</h2>" + _chance(contract, metric, found)
        yield f'<h2>How large is the difference?</h2><div class="two">{"".join(_sizes(comparison, found))}</div>'
    if comparison.folds is not None:
        yield "<h2>Is it the recipe, or the newer rows?</h2>" + _folds(comparison, comparison.folds)
    if comparison.notes:
        yield f"<h2>To be known</h2>{listed(comparison.notes)}"


def _values(contract: ModelContract, comparison: ModelComparison, found: OnHoldout) -> str:
    metric = comparison.metric
    shown = [
        Bar(f"version {comparison.champion}", found.champion, f"{found.champion:.4f}", quiet=True),
        Bar(f"version {comparison.challenger}" if comparison.challenger else "new version", found.challenger, f"{found.challenger:.4f}"),
    ]
    meaning = f": {_MEANINGS[metric]}" if metric in _MEANINGS else ""
    about = f"of {found.entities:,} groups" if contract.split.strategy == "group" else f"about {found.entities:,} entities"
    rows = f"Both answered the same {found.rows:,} test rows {about}; neither had learned from any of them."
    return (
        f"<h2>How good are both?</h2><div class=card>{paragraph(rows)}{bars(shown, label=f'{metric} of both versions')}"
        f"{paragraph(f'{metric}{meaning}.', soft=True)}</div>"
    )


def _chance(contract: ModelContract, metric: str, found: OnHoldout) -> str:
    demand = contract.comparison
    write = _share if metric in LOWER_IS_BETTER else _points
    unit = " of the old version's value" if metric in LOWER_IS_BETTER else f" {metric}"
    drawn = interval(
        found.gain,
        found.low,
        found.high,
        asked=demand.minimum_gain,
        shown=(write(found.low), write(found.gain), write(found.high)),
        label=f"gain {write(found.gain)}, between {write(found.low)} and {write(found.high)}",
    )
    rare = found.p_value <= demand.significance
    so = "that is rare enough" if rare else "that is too often to conclude anything"
    often = f"If both were equally good, a difference as large would come about by chance in {_often(found.p_value)}; {so}."
    asked = (
        f"The contract asks for a gain of at least {write(demand.minimum_gain)}{unit}, and for chance in at most "
        f"{_often(demand.significance)}: both have to hold."
    )
    where = (
        f"With other test rows of the same kind the gain would lie between {write(found.low)} and {write(found.high)} in 95 of 100 cases."
    )
    return f"<div class=card>{drawn}{paragraph(where)}{paragraph(often)}{paragraph(asked)}</div>"


def _sizes(comparison: ModelComparison, found: OnHoldout) -> Iterator[str]:
    effect = f"Cohen's d of what the answers to single rows lose less: {effect_word(found.effect)}. 0.2 is small, 0.5 medium, 0.8 large."
    yield card("Effect", f'<p class="big">{found.effect:+.2f}</p>', paragraph(effect, soft=True))
    if found.only_champion is None or found.only_challenger is None:
        return
    shown = [
        Bar("only the new is right", found.only_challenger, f"{found.only_challenger:,} rows"),
        Bar("only the old is right", found.only_champion, f"{found.only_champion:,} rows", quiet=True),
    ]
    yield card(
        "Where they disagree",
        bars(shown, label="rows that only one has right"),
        paragraph("About all other rows both are right, or both wrong.", soft=True),
    )


def _folds(comparison: ModelComparison, folds: OnFolds) -> str:
    if folds.same_recipe:
        same = "Both have the same recipe: the same algorithm with the same settings. They differ in the rows that they have learned from."
        return f"<div class=card>{paragraph(same)}</div>"
    shown: list[Bar] = []
    for place, (before, after) in enumerate(zip(folds.champion, folds.challenger, strict=True), start=1):
        shown += [
            Bar(f"part {place}: old recipe", before, f"{before:.4f}", quiet=True),
            Bar(f"part {place}: new recipe", after, f"{after:.4f}"),
        ]
    told = (
        f"Both recipes learned anew from the same rows, and were judged by parts of them that they had not seen: {comparison.metric} gains "
        f"{folds.gain:+.4f} on average (chance alone: {_often(folds.p_value)}, corrected for rows that the parts share)."
    )
    return f"<div class=card>{paragraph(told)}{bars(shown, label='both recipes on the folds')}</div>"


def _often(share: float) -> str:
    return "fewer than 1 of 100 trials" if share < 0.01 else f"{share * 100:.0f} of 100 trials"


def _points(value: float) -> str:
    return f"{value:+.3f}"


def _share(value: float) -> str:
    return f"{value:+.1%}"
