"""What a model version has to show beside the one in production: the part of a model contract that says so."""

from pydantic import BaseModel, ConfigDict, Field

from lakehouse.contracts.objects import Comparison


class ComparisonPart(BaseModel):
    """The section `comparison` of a model contract."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    required: bool = Field(
        default=True,
        description="A version takes over only if it is better than the one in production; false: the comparison is only shown.",
    )
    minimum_gain: float = Field(
        default=0.02,
        ge=0,
        le=1,
        description="What the metric has to gain on the test rows; of a metric where less is better a share of the champion's value.",
    )
    significance: float = Field(
        default=0.05, gt=0, lt=1, description="How often chance alone may bring such a gain, at most: the level of the test."
    )

    def typed(self) -> Comparison:
        """The section as the library uses it."""
        return Comparison(required=self.required, minimum_gain=self.minimum_gain, significance=self.significance)
