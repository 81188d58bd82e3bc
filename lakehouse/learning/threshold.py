"""Another decision threshold for the version in production, until the model is trained again: chosen by people, and recorded."""

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError
from lakehouse.learning.evaluation import own_threshold
from lakehouse.learning.lifecycle.deciding import Author
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.lifecycle.running import Outcome
from lakehouse.learning.lifecycle.states import Standing
from lakehouse.sql import quote_literal
from lakehouse.tables import Lake

OUTCOMES = "monitoring.outcomes"


def adjust_threshold(lifecycle: Lifecycle, contract: ModelContract, threshold: float | None, author: Author) -> Outcome:
    """Let the version in production answer the positive class from a probability on; None for the model's own threshold.

    The model stays what was trained. The next version in production answers by its own threshold.

    Raises:
        ModelError: the model does not tell two classes apart, or the threshold is not between 0 and 1.
        ModelNotFound: no version is in production.
        TransitionRefused: another version has gone into production meanwhile.
    """
    subject = f"model {contract.name}"
    if contract.problem != "classification":
        raise _has_none(subject, contract.problem)
    if threshold is not None and not 0 < threshold < 1:
        expected, found = "between 0 and 1, both excluded", f"{threshold:g}"
        raise ModelError(subject, "can't have this decision threshold", expected=expected, found=found, fix="Give another probability")
    lifecycle.look(contract.name)
    model = lifecycle.load(contract.name)
    classes, positive = model.spec.classes, model.spec.positive
    if len(classes) != 2 or positive is None:
        raise _has_none(subject, f"{len(classes)} classes")
    own = round(own_threshold(model.pipeline, positive), 12)
    return lifecycle.set_threshold(contract.name, model.version, threshold, own=own, author=author)


def _has_none(subject: str, found: str) -> ModelError:
    fix = "Leave it: what has the highest probability is answered, or the number itself"
    return ModelError(subject, "has no decision threshold", expected="a classification of two classes", found=found, fix=fix)


def suggested_threshold(lake: Lake, contract: ModelContract, production: Standing | None) -> float:
    """The threshold that does best on the labels that came, as `monitoring.outcomes` has it of the version in production.

    What was measured before there was this version is about another one of its number, from a registry before this one.

    Raises:
        ModelError: it predicts numbers, nothing was measured of that version yet, or no other threshold is worth it.
    """
    subject, row = f"model {contract.name}", None
    if contract.problem != "classification":
        raise _has_none(subject, contract.problem)
    if production is not None and lake.exists(OUTCOMES):
        subject = f"{subject}@{production.version}"
        mine = f"model = {quote_literal(contract.name)} AND model_version = {quote_literal(production.version)} AND kind = 'threshold'"
        mine += f" AND measured_at >= {quote_literal(production.drafted_at)}" if production.drafted_at is not None else ""
        with lake.connect([OUTCOMES]) as session:
            row = session.con.execute(
                f"SELECT name, observed, expected, flagged FROM {OUTCOMES} WHERE {mine} ORDER BY measured_at DESC LIMIT 1"
            ).fetchone()
    if row is None:
        wait = "Wait for labels of its predictions (rollout.min_rows), or choose one with --set"
        raise ModelError(
            subject,
            "has no suggested threshold",
            found=f"nothing about thresholds in {OUTCOMES}",
            fix=wait if contract.positive_class is not None else "Name the positive_class in the model contract, or choose one with --set",
        )
    name, observed, expected, is_worth_it = row
    if not is_worth_it:
        raise ModelError(
            subject,
            "answers about as well by its threshold as by any other",
            found=f"balanced accuracy {expected:.4f} now, {observed:.4f} at {name}",
            fix="Leave it, or choose one with --set",
        )
    return float(name)
