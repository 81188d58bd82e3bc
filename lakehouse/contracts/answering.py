"""What is kept with a model's predictions beside the answer: the part of a model contract that says so."""

from pydantic import BaseModel, ConfigDict, Field

from lakehouse.contracts.objects import Explain

# Columns of a table of predictions beside the entity, the time, and PROBABILITY with each class.
ANSWER_COLUMNS = frozenset(
    {
        "prediction",
        "confidence",
        "abstained",
        "reasons",
        "reasons_unit",
        "reasons_method",
        "model_name",
        "model_version",
        "feature_versions",
        "predicted_at",
    }
)
PROBABILITY = "probability_"


class ExplainPart(BaseModel):
    """The section `explain` of a model contract."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    top: int = Field(default=3, ge=1, le=100, description="How many features are named per prediction, the weightiest first.")
    seconds: float = Field(
        default=60, gt=0, le=86_400, description="Time for all predictions of a batch; what does not fit in has no reasons."
    )

    def typed(self) -> Explain:
        """The section as the library uses it."""
        return Explain(top=self.top, seconds=self.seconds)
