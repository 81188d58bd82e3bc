"""Feature views that were registered in a home: a declaration each, and the dbt model that follows from it.

A declaration names a table that dbt builds and the columns to take of it. It holds no SQL and no Jinja, so whoever may register a
view can't have anything run; all that is written into the model is a name that was looked up, quoted.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from lakehouse.errors import FeatureError
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier
from lakehouse.transform.sources import plain_text

HEADER = "# Registered through `lakehouse features register` or the Feature API. To change it, register it again.\n"
_Text = Annotated[StrictStr, Field(min_length=1, max_length=1_000)]
_Name = Annotated[StrictStr, Field(min_length=1, max_length=255)]


class ViewMeta(BaseModel):
    """What a dbt model says under `meta.feature_view`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    entity: list[_Name] = Field(min_length=1, max_length=16, description="Columns that say whose features a row holds.")
    event_timestamp: _Name | None = Field(default=None, description="Column of the instant from which a row's values were true.")
    known_timestamp: _Name | None = Field(default=None, description="Column of the instant from which they could be known.")
    ttl: _Text | StrictInt | Annotated[StrictFloat, Field(allow_inf_nan=False)] | None = Field(
        default=None, description="Seconds, or such as 90 days: an older value is as none."
    )
    defaults: dict[_Name, StrictBool | StrictInt | StrictFloat | StrictStr] | None = Field(default=None, description="Instead of NULL.")
    source: _Name | None = Field(default=None, description="Column that says which source a row came from.")
    source_priority: list[_Text] | None = Field(default=None, max_length=100, description="Sources, the most trusted first.")
    online: StrictBool = Field(default=False, description="It goes to the online store.")
    owner: _Text | None = Field(default=None, description="Who answers for it.")

    def declared(self) -> dict[str, Any]:
        """As dbt's YAML has it."""
        return self.model_dump(exclude_none=True)


class ViewDeclaration(BaseModel):
    """A feature view to be, over a table that dbt builds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: _Name = Field(description="The table to take it from, `layer.name`: of staging, analytics or features.")
    features: list[_Name] | dict[_Name, StrictStr] = Field(
        min_length=1, max_length=2_000, description="Columns of the table, or columns with what each means."
    )
    feature_view: ViewMeta
    description: Annotated[StrictStr, Field(max_length=4_000)] = ""

    @property
    def described(self) -> dict[str, str]:
        """The features, with what each means."""
        return dict(self.features) if isinstance(self.features, dict) else dict.fromkeys(self.features, "")

    @property
    def times(self) -> tuple[str, ...]:
        """The columns of its instants."""
        return tuple(name for name in (self.feature_view.event_timestamp, self.feature_view.known_timestamp) if name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the view's table."""
        source = (self.feature_view.source or "_source",) if self.feature_view.source_priority else ()
        return tuple(dict.fromkeys((*self.feature_view.entity, *self.times, *source, *self.described)))

    @property
    def jinja(self) -> list[str]:
        """Texts that dbt would take for more than text: it renders what stands in its YAML and SQL. Descriptions are made harmless."""
        texts = (self.table, *self.described, *_texts(self.feature_view.declared()))
        return [text for text in texts if any(mark in text for mark in ("{{", "{%", "{#"))]


class RegisteredView(BaseModel):
    """A declaration as a home keeps it.

    Attributes:
        kind: what the file is.
        name: of the view.
        model: the dbt model, seed or snapshot that builds the table.
        model_version: of a model that has several.
        domain: whose it is, as the model says.
        declaration: what was registered.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["FeatureView"] = "FeatureView"
    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    model: str = Field(pattern=r"^\w+$")
    model_version: str | None = Field(default=None, pattern=r"^[\w.]+$")
    domain: str | None = Field(default=None, pattern=r"^[^{}]*$")
    declaration: ViewDeclaration

    def text(self) -> str:
        """The file; the same for the same declaration."""
        return HEADER + yaml.safe_dump(self.model_dump(exclude_none=True), sort_keys=False, allow_unicode=True, width=140)

    def sql(self) -> str:
        """The dbt model's SELECT."""
        columns = ",\n    ".join(quote_identifier(name) for name in self.declaration.columns)
        version = f", v='{self.model_version}'" if self.model_version is not None else ""
        return f"{{{{ config(materialized='table') }}}}\n\nselect\n    {columns}\nfrom {{{{ ref('{self.model}'{version}) }}}}\n"

    def properties(self) -> dict[str, Any]:
        """The dbt model's entry in a YAML file."""
        described, declaration = self.declaration.described, self.declaration
        meta: dict[str, Any] = {"domain": self.domain} if self.domain else {}
        return {
            "name": self.name,
            "description": plain_text(declaration.description) or f"Features of {declaration.table}.",
            "config": {
                **({"tags": [self.domain]} if self.domain else {}),
                "meta": {**meta, "feature_view": declaration.feature_view.declared()},
            },
            "columns": [{"name": name, "description": plain_text(described.get(name, ""))} for name in declaration.columns],
        }


def registered_dir(settings: Settings) -> Path:
    """Where a home keeps its declarations."""
    return settings.home_dir / "contracts" / "features"


def registered_views(settings: Settings) -> dict[str, RegisteredView]:
    """Every view that was registered in the home, by name.

    Raises:
        FeatureError: a file is no declaration.
    """
    return {path.stem: read_registered(path) for path in sorted(registered_dir(settings).glob("*.yaml")) if not path.name.startswith(".")}


def read_registered(path: Path) -> RegisteredView:
    """The view of one file.

    Raises:
        FeatureError: the file is no declaration.
    """
    try:
        document: Any = yaml.safe_load(path.read_text("utf-8"))
        view = RegisteredView.model_validate(document)
    except (yaml.YAMLError, UnicodeDecodeError, ValidationError) as error:
        problem = reasons_of(error)[0] if isinstance(error, ValidationError) else " ".join(str(error).split())
        raise FeatureError(str(path), "is no declaration of a feature view", found=problem, fix="Correct it, or remove it") from error
    unsafe = view.declaration.jinja
    if unsafe or view.name != path.stem:
        found = f"Jinja in {unsafe[0]!r}" if unsafe else f"the name {view.name}"
        raise FeatureError(str(path), "is no declaration of a feature view", found=found, fix="Correct it, or remove it")
    return view


def reasons_of(error: ValidationError) -> list[str]:
    """What is wrong with a document, a line each."""
    return [f"{'.'.join(map(str, one['loc'])) or 'document'}: {one['msg']}" for one in error.errors(include_url=False, include_input=False)]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, one in value.items():
            yield from (str(name), *_texts(one))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif isinstance(value, str):
        yield value
