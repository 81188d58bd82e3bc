"""How a model version takes over from the one before: the part of a model contract that says so."""

from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakehouse.contracts.objects import Rollout, Strategy

_FIRST_SHARE: dict[Strategy, float] = {"canary": 5.0, "ab": 50.0}


class RolloutPart(BaseModel):
    """The section `rollout` of a model contract."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    strategy: Strategy = Field(
        default="direct",
        description="direct: take over at once; canary: answer for a growing share of the entities first; ab: for a fixed share, until new "
        "labels say which is better; shadow: answer for nobody, be recorded.",
    )
    percent: float | None = Field(
        default=None,
        gt=0,
        le=100,
        description="Share of the entities that the new version answers for; default 5 as canary, 50 in an A/B test.",
    )
    steps: list[float] | None = Field(
        default=None, min_length=1, max_length=20, description="Growing shares of a canary, in percent: [5, 25, 50]."
    )
    step_hours: float = Field(default=24, ge=0, le=24 * 365, description="Least time of each step, and of a shadow.")
    staged_hours: float = Field(default=0, ge=0, le=24 * 365, description="Least time that a version is staged before it goes further.")
    approval: bool = Field(default=False, description="Somebody has to approve a version: lakehouse model approve.")
    max_error_rate: float = Field(default=0.05, ge=0, le=1, description="Above this share of failed requests a version is rolled back.")
    max_latency_ms: float | None = Field(
        default=None, gt=0, description="Above this time of an answer, in a batch per row, a version is rolled back."
    )
    max_metric_drop: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="A version that is worse than the champion on new labels by more than this share, and beyond chance, is rolled back.",
    )
    min_rows: int = Field(default=100, ge=1, description="Of fewer requests or labels nothing is concluded.")

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if (self.percent is not None or self.steps is not None) and self.strategy not in _FIRST_SHARE:
            raise ValueError("percent and steps need strategy: canary or ab")
        if self.percent is not None and self.steps is not None:
            raise ValueError("give percent or steps, not both")
        if self.steps is not None and self.strategy == "ab":
            raise ValueError("an A/B test has one share: give percent")
        shares = self.steps or []
        if any(not 0 < one <= 100 for one in shares) or any(low >= high for low, high in pairwise(shares)):
            raise ValueError("steps are growing shares between 0 and 100")
        return self

    def typed(self) -> Rollout:
        """The section as the library uses it."""
        first = self.percent or _FIRST_SHARE.get(self.strategy)
        return Rollout(
            strategy=self.strategy,
            steps=tuple(self.steps) if self.steps else ((first,) if first else ()),
            step_hours=self.step_hours,
            staged_hours=self.staged_hours,
            approval=self.approval,
            max_error_rate=self.max_error_rate,
            max_latency_ms=self.max_latency_ms,
            max_metric_drop=self.max_metric_drop,
            min_rows=self.min_rows,
        )
