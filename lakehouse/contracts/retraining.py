"""When a model trains again: the part of a model contract that says so."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from lakehouse.contracts.objects import Retraining
from lakehouse.contracts.schedules import EXPECTED, is_cron


class RetrainingPart(BaseModel):
    """The section `retraining` of a model contract; null turns a trigger off."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    new_rows: int | None = Field(default=50, ge=1, description="Train again on as many labelled rows more.")
    psi_warn: float = Field(default=0.2, gt=0, description="PSI beyond chance from which a column has moved: a warning.")
    psi_retrain: float | None = Field(default=0.25, gt=0, description="The same, from which it has drifted: train again.")
    performance_drop: float | None = Field(
        default=0.05,
        gt=0,
        lt=1,
        description="Train again when the metric on new labels is worse than on the test rows by more than this share, and beyond chance.",
    )
    max_age_days: float | None = Field(default=14, gt=0, le=3650, description="Train again after so many days, if anything is new.")
    schedule: str | None = Field(default=None, description="Cron in UTC: train again then, if anything is new.")
    debounce_minutes: float = Field(
        default=60, ge=0, le=60 * 24 * 365, description="Least time between two trainings that nobody asked for."
    )

    @field_validator("schedule")
    @classmethod
    def _cron(cls, value: str | None) -> str | None:
        if value is not None and not is_cron(value):
            raise ValueError(f"a schedule is {EXPECTED}")
        return value

    @model_validator(mode="after")
    def _warn_first(self) -> Self:
        if self.psi_retrain is not None and self.psi_warn > self.psi_retrain:
            raise ValueError("psi_warn is at most psi_retrain")
        return self

    def typed(self) -> Retraining:
        """The section as the library uses it."""
        return Retraining(
            automatic=True,
            new_rows=self.new_rows,
            psi_warn=self.psi_warn,
            psi_retrain=self.psi_retrain,
            performance_drop=self.performance_drop,
            max_age_days=self.max_age_days,
            schedule=self.schedule,
            debounce_minutes=self.debounce_minutes,
        )
