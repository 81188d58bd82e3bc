"""How much looking for a better model may cost: the part of a model contract that says so."""

from pydantic import BaseModel, ConfigDict, Field

from lakehouse.contracts.objects import Budget


class BudgetPart(BaseModel):
    """The section `budget` of a model contract."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    trials: int = Field(
        default=0, ge=0, le=1000, description="Settings to try beside each algorithm's own, dealt out to the algorithms in turn; 0: none."
    )
    seconds: float = Field(
        default=3600,
        gt=0,
        description="No further setting is tried after this time. The report says how many were: they repeat the result.",
    )
    memory_gb: float | None = Field(default=None, gt=0, description="Fewer workers are used where theirs would be more than this.")
    workers: int = Field(default=1, ge=1, le=64, description="Processes that try settings side by side.")
    repeats: int = Field(
        default=1,
        ge=1,
        le=20,
        description="Cross-validations, each with the entities or groups dealt out anew; not where the split is by time.",
    )

    def typed(self) -> Budget:
        """The section as the library uses it."""
        return Budget(trials=self.trials, seconds=self.seconds, memory_gb=self.memory_gb, workers=self.workers, repeats=self.repeats)
