"""A model contract: the schema of its YAML, published for editors, and the typed object."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lakehouse.contracts import document as documents
from lakehouse.contracts.answering import ANSWER_COLUMNS, PROBABILITY, ExplainPart
from lakehouse.contracts.budget import BudgetPart
from lakehouse.contracts.comparison import ComparisonPart
from lakehouse.contracts.metrics import LOWER_IS_BETTER, METRICS, MINIMUMS_TOO
from lakehouse.contracts.objects import FeatureWarning, ModelContract, Retraining, Split
from lakehouse.contracts.preparation import PreparationPart, PreparedColumnPart
from lakehouse.contracts.retraining import RetrainingPart
from lakehouse.contracts.rollout import RolloutPart
from lakehouse.demands import demanded
from lakehouse.errors import ContractError

Names = str | list[str]
# What reaches no number of a model: texts, when it is trained, how its versions take over, what is kept beside its answers.
_OF_NO_MODEL = frozenset(
    {
        "version",
        "description",
        "intended_use",
        "limits",
        "owner",
        "warnings",
        "comparison",
        "rollout",
        "retraining",
        "explain",
        "abstain",
        "digest",
        "path",
    }
)
_OF_NO_SEARCH = frozenset({"workers", "memory_gb"})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class _Split(_Part):
    strategy: Literal["time", "random", "group"] = Field(
        default="random", description="time: test on the newest rows; group: never divide an entity; random: stratified."
    )
    test_fraction: float = Field(default=0.2, gt=0, lt=1, description="Share of the rows kept for the final test.")
    column: str | None = Field(default=None, description="Column of the time or group; default the event timestamp or the entity.")
    gap_days: float = Field(
        default=0,
        ge=0,
        le=36_500,
        description="With strategy time: days before the test rows that nothing is learned from; as many as a label looks ahead.",
    )

    @model_validator(mode="after")
    def _of_the_strategy(self) -> "_Split":
        if self.gap_days and self.strategy != "time":
            raise ValueError("gap_days needs strategy: time")
        if self.column is not None and self.strategy == "random":
            raise ValueError("column needs strategy: time or group")
        return self


class _Warning(_Part):
    feature: str
    reason: str


class _Document(_Part):
    apiVersion: Literal["lakehouse/v1"]
    kind: Literal["ModelContract"]
    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="Name of the model, its tables and its registry entry.")]
    version: str = Field(default="1.0.0", description="Version of this contract.")
    description: str = ""
    intended_use: str = Field(default="", description="What its answers are meant for, and what not; on the model's card.")
    limits: list[str] = Field(
        default_factory=list, description="What it can't do, or does badly, as far as people know; on the model's card."
    )
    owner: str | None = Field(default=None, description="team:NAME or an e-mail address.")
    problem: Literal["classification", "regression"]
    dataset: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="Dataset whose entities are predicted.")]
    label_table: str | None = Field(
        default=None,
        pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$",
        description="layer.table that holds the label; default staging.<dataset>.",
    )
    target_column: str | None = Field(default=None, description="Column that is predicted; or give target_sql.")
    target_sql: str | None = Field(default=None, description="SQL expression over the label table's columns; or give target_column.")
    positive_class: str | int | bool | None = Field(default=None, description="Of two classes the one that probability and F1 are about.")
    entity: Names = Field(default_factory=list, description="Column or columns that say who a row is about.")
    event_timestamp: str | None = Field(default=None, description="Column that says when the label was known; features must not be newer.")
    feature_views: list[str] = Field(default_factory=list, description="dbt feature views to join; none: the label table's own columns.")
    include_features: list[str] = Field(default_factory=list, description="Only these features; empty means all.")
    exclude_features: list[str] = Field(default_factory=list, description="Never these.")
    split: _Split = _Split()
    preparation: PreparationPart = Field(
        default_factory=PreparationPart, description="What the columns become before an estimator sees them; by default each what suits it."
    )
    algorithms: Literal["auto"] | Annotated[list[str], Field(min_length=1)] = Field(
        default="auto", description="Names of the candidates, or auto."
    )
    folds: int = Field(default=5, ge=2, le=20, description="Folds of the cross-validation.")
    metric: str | None = Field(default=None, description="Metric that chooses the algorithm; default roc_auc, f1_macro or r2.")
    minimums: dict[str, float] = Field(default_factory=dict, description="Least value of each metric on the test rows for promotion.")
    seed: int = Field(default=7, ge=0, lt=2**32)
    max_rows: int | None = Field(default=None, ge=10, description="Train on a deterministic sample of at most this many rows.")
    comparison: ComparisonPart = Field(
        default_factory=ComparisonPart, description="What a version has to show beside the one in production."
    )
    explain: ExplainPart | None = Field(default=None, description="Keep with each prediction what the features add to it.")
    abstain: float | None = Field(
        default=None, gt=0, le=1, description="Below this confidence (the largest probability) a prediction is marked as none."
    )
    rollout: RolloutPart = Field(default_factory=RolloutPart, description="How a version takes over, and what takes it back.")
    retraining: RetrainingPart | None = Field(
        default=None, description="When the model trains again; without this section with each run in which something has changed."
    )
    warnings: list[_Warning] = Field(default_factory=list, description="Features a person should look at, written by inference.")

    imbalance: Literal["auto", "none", "balanced"] = Field(
        default="auto",
        description="Rare classes: balanced: they count as much as frequent ones, and the threshold is chosen for F1; none: they do not.",
    )
    budget: BudgetPart = Field(default_factory=BudgetPart, description="How much looking for better settings may cost.")
    trusted_features: list[str] = Field(
        default_factory=list, description="Features a person has looked at and found honest: no check warns of them any more."
    )

    @model_validator(mode="after")
    def _one_target(self) -> "_Document":
        if (self.target_column is None) == (self.target_sql is None):
            raise ValueError("exactly one of target_column and target_sql is needed")
        return self

    @model_validator(mode="after")
    def _of_the_problem(self) -> "_Document":
        if self.positive_class is not None and self.problem == "regression":
            raise ValueError("positive_class needs problem: classification: numbers have no classes")
        if self.abstain is not None and self.problem == "regression":
            raise ValueError("abstain needs problem: classification: numbers have no confidence")
        return self

    @model_validator(mode="after")
    def _known_metrics(self) -> "_Document":
        known = METRICS[self.problem]
        asked = {name: (*known, *MINIMUMS_TOO[self.problem]) for name in self.minimums} | ({self.metric: known} if self.metric else {})
        unknown = next((name for name, allowed in asked.items() if name not in allowed), None)
        if unknown:
            known = asked[unknown]
            close = get_close_matches(unknown, known, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ValueError(f"{unknown} is not a metric of {self.problem}: one of {', '.join(known)}{hint}")
        for name, value in self.minimums.items():
            if name in LOWER_IS_BETTER and value < 0:
                raise ValueError(f"minimums.{name} is an error, and none is below 0: no model could reach {value:g}")
            if name not in LOWER_IS_BETTER and value > 1:
                raise ValueError(f"minimums.{name} is at most 1: no model could reach {value:g}")
        return self


def model_json_schema() -> dict[str, Any]:
    """The JSON schema of a model contract, as published in contracts/model-contract.schema.json."""
    schema = _Document.model_json_schema()
    schema.pop("title", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Lakehouse model contract", **schema}


def model_json_schema_text() -> str:
    """The schema file's exact text."""
    return json.dumps(model_json_schema(), indent=2, ensure_ascii=False) + "\n"


def load_model(path: Path) -> ModelContract:
    """The model contract in a file.

    Raises:
        ContractError: the file is not a valid contract; the message names file, line, key, expected and found.
    """
    return parse_model(documents.read(path), path=path)


def parse_model(text: str, *, path: Path) -> ModelContract:
    """The model contract in a text; `path` is only named in errors.

    Raises:
        ContractError: as `load_model`.
    """
    parsed = documents.parse(text, path=path)
    try:
        spec = _Document.model_validate(parsed)
    except ValidationError as error:
        raise _explained(error, parsed, text=text, path=path) from error
    _refuse_taken_names(spec, path)
    binary = spec.positive_class is not None
    metric = spec.metric or {"regression": "r2"}.get(spec.problem, "roc_auc" if binary else "f1_macro")
    positive = spec.positive_class
    contract = ModelContract(
        name=spec.name,
        version=spec.version,
        problem=spec.problem,
        dataset=spec.dataset,
        label_table=spec.label_table or f"staging.{spec.dataset}",
        target_sql=spec.target_sql,
        target_column=spec.target_column,
        positive_class=str(positive).lower() if isinstance(positive, bool) else (str(positive) if positive is not None else None),
        description=spec.description,
        intended_use=spec.intended_use,
        limits=tuple(spec.limits),
        owner=spec.owner,
        entity=_names(spec.entity),
        event_timestamp=spec.event_timestamp,
        feature_views=tuple(spec.feature_views),
        include_features=tuple(spec.include_features),
        exclude_features=tuple(spec.exclude_features),
        split=Split(spec.split.strategy, spec.split.test_fraction, spec.split.column, spec.split.gap_days),
        preparation=spec.preparation.typed(),
        algorithms=() if spec.algorithms == "auto" else tuple(spec.algorithms),
        folds=spec.folds,
        metric=metric,
        minimums=dict(spec.minimums),
        seed=spec.seed,
        max_rows=spec.max_rows,
        comparison=spec.comparison.typed(),
        rollout=spec.rollout.typed(),
        explain=spec.explain.typed() if spec.explain is not None else None,
        abstain=spec.abstain,
        retraining=spec.retraining.typed() if spec.retraining is not None else Retraining(),
        warnings=tuple(FeatureWarning(one.feature, one.reason) for one in spec.warnings),
        imbalance=spec.imbalance,
        budget=spec.budget.typed(),
        trusted_features=tuple(spec.trusted_features),
        path=path,
    )
    return replace(contract, digest=_digest(contract))


def _digest(contract: ModelContract) -> str:
    """Of all that makes the model what it is: another one trains it again, whether a default is written out or not."""
    told = {key: value for key, value in asdict(contract).items() if key not in _OF_NO_MODEL}
    told["budget"] = {key: value for key, value in told["budget"].items() if key not in _OF_NO_SEARCH}
    return documents.digest(_without_kinds_of_numbers(told))


def _without_kinds_of_numbers(value: Any) -> Any:
    """The same with 3 for 3.0: a default is what somebody would have written."""
    if isinstance(value, Mapping):
        return {key: _without_kinds_of_numbers(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_kinds_of_numbers(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse_taken_names(spec: _Document, path: Path) -> None:
    """Predictions have the entity, the time, and columns of their own."""
    kept = [*_names(spec.entity), *([spec.event_timestamp] if spec.event_timestamp else [])]
    taken = [name for name in kept if name.lower() in ANSWER_COLUMNS or name.lower().startswith(PROBABILITY)]
    if taken:
        raise ContractError(
            f"{path.name}: {'event_timestamp' if taken[0] == spec.event_timestamp else 'entity'}",
            "has the name of a column that predictions have",
            expected=f"none of {', '.join(sorted(ANSWER_COLUMNS))}, and none that begins with {PROBABILITY}",
            found=taken[0],
            fix=f"Give the column another name in the dataset contract, with physicalName: {documents.quoted(taken[0])}",
        )


def _names(value: Names) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _part_at(parts: tuple[str | int, ...]) -> type[BaseModel]:
    """Whose keys the last part of a place should have been one of."""
    if len(parts) < 2:
        return _Document
    if parts[:2] == ("preparation", "columns") and len(parts) > 2:
        return PreparedColumnPart
    sections = {
        "budget": BudgetPart,
        "comparison": ComparisonPart,
        "explain": ExplainPart,
        "split": _Split,
        "preparation": PreparationPart,
        "warnings": _Warning,
        "rollout": RolloutPart,
        "retraining": RetrainingPart,
    }
    return sections.get(str(parts[0]), _Document)


def _explained(error: ValidationError, parsed: Mapping[str, Any], *, text: str, path: Path) -> ContractError:
    # An unknown key explains the missing one it was meant to be.
    details = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")[0]
    parts = tuple(part for part in details["loc"] if not (isinstance(part, str) and part.startswith(("list[", "literal[", "dict["))))
    place = documents.blame(path, text, parts, parsed)
    if details["type"] == "extra_forbidden":
        known = list(_part_at(parts).model_fields)
        close = get_close_matches(str(details["loc"][-1]), known, n=1, cutoff=0.6)
        fix = f"Did you mean {close[0]}?" if close else "Correct or remove it"
        return ContractError(place, "is not a key of a model contract", expected=None if close else f"one of {', '.join(known)}", fix=fix)
    if details["type"] == "missing":
        place = documents.blame(path, text, parts[:-1], parsed)
        return ContractError(place, "lacks a required key", expected=str(details["loc"][-1]), fix="Add it")
    found = details.get("input")
    shown = json.dumps(found, ensure_ascii=False, default=str)[:80]
    if details["type"] == "value_error":
        return ContractError(place, demanded(details), found=None if isinstance(found, dict) else shown, fix="Correct it")
    return ContractError(place, "is not valid here", expected=demanded(details), found=shown, fix="Correct it")
