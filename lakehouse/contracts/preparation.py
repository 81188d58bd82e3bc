"""What the columns of a model become before an estimator sees them: the part of a model contract that says so."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lakehouse.contracts.objects import ColumnPreparation, Dates, Encode, Fences, Impute, Outliers, PreparationSpec, Scale, Select, Text

_AS_ABOVE = "; default as for all columns"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class PreparedColumnPart(_Part):
    """One column of the section `preparation.columns`; a key that is left out is as the section says."""

    impute: Impute | None = Field(default=None, description=f"What fills its gaps{_AS_ABOVE}.")
    encode: Encode | None = Field(default=None, description="Take it for categories, and turn them into numbers this way.")
    order: list[str] | None = Field(
        default=None, min_length=2, description="With encode: ordinal the categories from the least to the greatest; default alphabetical."
    )
    scale: Scale | None = Field(default=None, description=f"How it is scaled{_AS_ABOVE}.")
    outliers: Fences | None = Field(default=None, description=f"How its outliers are found, which are then clipped{_AS_ABOVE}.")
    outlier_threshold: float | None = Field(default=None, gt=0, description=f"How far out an outlier is{_AS_ABOVE}.")
    dates: Dates | None = Field(default=None, description=f"What becomes of a time{_AS_ABOVE}.")
    text: Text | None = Field(default=None, description="Take it for sentences, and turn them into numbers this way.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.order is not None and self.encode != "ordinal":
            raise ValueError("order needs encode: ordinal")
        if self.order is not None and len(set(self.order)) != len(self.order):
            raise ValueError("order names each category once")
        kinds = [name for name in ("encode", "dates", "text") if getattr(self, name) is not None]
        if len(kinds) > 1:
            raise ValueError(f"{' and '.join(kinds)} are for different kinds of columns: give one")
        return self

    def typed(self) -> ColumnPreparation:
        """The column's choices as the library uses them."""
        return ColumnPreparation(
            impute=self.impute,
            encode=self.encode,
            order=tuple(self.order or ()),
            scale=self.scale,
            outliers=self.outliers,
            outlier_threshold=self.outlier_threshold,
            dates=self.dates,
            text=self.text,
        )


class PreparationPart(_Part):
    """The section `preparation` of a model contract."""

    impute: Impute = Field(
        default="auto",
        description="What fills a gap in a number: auto and median, mean, mode, or knn (the mean of the five most similar rows). A flag says "
        "that it was one. A missing category is a category of its own, except with mode.",
    )
    encode: Encode = Field(
        default="auto",
        description="What categories become: one_hot a column each, ordinal their number, target the mean target of their rows, learned out "
        "of fold. auto: one_hot up to 50 values, target above.",
    )
    scale: Scale = Field(default="auto", description="How numbers are scaled; auto as each algorithm needs it: linear ones standard.")
    outliers: Outliers = Field(
        default="none",
        description="z_score and iqr clip a number to the fences learned from the training rows; isolation_forest adds a column that says how "
        "odd a row is.",
    )
    outlier_threshold: float | None = Field(
        default=None,
        gt=0,
        description="z_score: standard deviations from the mean (default 3); iqr: interquartile ranges from the quartiles (default 1.5); "
        "isolation_forest: share of the training rows that are odd, at most 0.5 (default as the forest finds).",
    )
    select: Select = Field(
        default="none",
        description="Keep the strongest of the resulting columns only: statistical by the F test of each, model by their importance in a forest.",
    )
    keep: float = Field(default=0.5, gt=0, description="With select: how many columns; below 1 a share.")
    dates: Dates = Field(
        default="auto",
        description="What a time becomes: auto its days, month, weekday and hour (UTC); cyclic the same as points on a circle, December beside "
        "January; elapsed its days alone; none nothing.",
    )
    text: Text = Field(
        default="auto",
        description="What sentences become: auto weights of words, and of letters too if they are short; words; letters as well; none nothing.",
    )
    columns: dict[str, PreparedColumnPart] = Field(default_factory=dict, description="What is different for single columns.")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.keep >= 1 and not self.keep.is_integer():
            raise ValueError("keep is a share below 1, or a whole number of columns")
        if self.outliers == "isolation_forest" and self.outlier_threshold is not None and self.outlier_threshold > 0.5:
            raise ValueError("outlier_threshold of isolation_forest is a share of the rows, at most 0.5")
        if self.outlier_threshold is not None and self.outliers == "none":
            raise ValueError("outlier_threshold needs outliers: z_score, iqr or isolation_forest")
        if "keep" in self.model_fields_set and self.select == "none":
            raise ValueError("keep needs select: statistical or model")
        shared = self.outliers if self.outliers in {"z_score", "iqr"} else "none"
        for name, column in self.columns.items():
            if column.outlier_threshold is not None and (column.outliers or shared) == "none":
                raise ValueError(f"columns.{name}.outlier_threshold needs outliers: z_score or iqr")
        return self

    def typed(self) -> PreparationSpec:
        """The section as the library uses it."""
        return PreparationSpec(
            impute=self.impute,
            encode=self.encode,
            scale=self.scale,
            outliers=self.outliers,
            outlier_threshold=self.outlier_threshold,
            select=self.select,
            keep=self.keep,
            dates=self.dates,
            text=self.text,
            columns={name: column.typed() for name, column in self.columns.items()},
        )
