"""What the Feature API takes and gives, as types: requests are checked by them, answers are described by them."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictStr

MOST_VIEWS = 50
_MOST_FEATURES = 5_000
_INT64 = 1 << 63

_Name = Annotated[StrictStr, Field(min_length=1, max_length=255)]
_Whole = Annotated[int, Field(strict=True, ge=-_INT64, lt=_INT64)]
_Fraction = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Text = Annotated[StrictStr, Field(max_length=4_000)]
Scalar = _Text | StrictBool | _Whole | _Fraction
"""A value of an entity."""


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Retrieval(_Document):
    """Entities, and which of their features."""

    views: Annotated[
        list[_Name], Field(min_length=1, max_length=MOST_VIEWS, description="Feature views; name@2 for one of several versions.")
    ]
    entities: Annotated[list[dict[_Name, Scalar]], Field(min_length=1, description="The values of the entity's columns, each by name.")]
    features: Annotated[
        list[_Name],
        Field(default_factory=list, max_length=_MOST_FEATURES, description="Only these, as feature or view.feature; all without."),
    ]


class Push(_Document):
    """One entity's features, before the tables have them."""

    row: Annotated[dict[_Name, Any], Field(min_length=1, description="The entity's columns and every feature.")]
    event_time: Annotated[datetime | None, Field(description="From when they are true; default now.")] = None


class Pushed(_Document):
    """What came of a push."""

    view: str
    taken: Annotated[bool, Field(description="False where the store has a newer row, or this one.")]


class _Described(BaseModel):
    """Of answers fields may be added, never renamed or removed."""


class Origin(_Described):
    """Where an entity's features are from."""

    origin: Literal["table", "pushed", "none"]
    event_time: Annotated[datetime | None, Field(description="From when they were true.")]
    written_at: Annotated[datetime | None, Field(description="When they came to the online store.")]


class Confirmed(_Described):
    """When a view's rows were last found to be those of its table."""

    at: datetime
    staleness_s: float


class Features(_Described):
    """The features of entities."""

    views: list[str]
    as_of: datetime
    rows: Annotated[list[dict[str, Any]], Field(description="The entity's columns and the features, in the order of the entities.")]
    served: Annotated[list[dict[str, Origin]], Field(description="For each row, by view.")]
    versions: Annotated[dict[str, int], Field(description="Of each table, the version that the online store has.")]
    confirmed: Annotated[dict[str, Confirmed], Field(description="By view.")]


class ServedView(_Described):
    """What the online store has of a view."""

    version: int
    confirmed_at: datetime
    blocked: Annotated[str | None, Field(description="Why it is not served.")]


class View(_Described):
    """A feature view."""

    view: str
    version_of_model: str | None
    table: str
    entity: list[str]
    event_timestamp: str | None
    known_timestamp: str | None
    ttl_s: float | None
    owner: str | None
    feature_count: int
    rows: int
    version: int | None
    last_written: datetime | None
    online: bool
    served: ServedView | None


class Feature(_Described):
    """A feature of a view."""

    name: str
    type: str | None
    description: str
    default: Any


class DescribedView(View):
    """A feature view with its features."""

    description: str
    features: list[Feature]
    source_priority: list[str]
    versions_beside: list[str]
    made_from: list[str]
    used_by: list[str]


class Views(_Described):
    """Every feature view."""

    views: list[View]


class ViewVersion(_Described):
    """A version of a view's table."""

    version: int
    timestamp: datetime
    operation: str | None
    rows: int | None
    definition: str | None
    inputs: dict[str, int]
    run: str | None


class History(_Described):
    """The versions of a view's table, newest first."""

    view: str
    table: str
    versions: list[ViewVersion]


class FoundFeature(_Described):
    """A feature that a search found."""

    view: str
    feature: str
    type: str | None
    description: str


class Findings(_Described):
    """What a search found."""

    text: str
    features: list[FoundFeature]


class Step(_Described):
    """How a table version came to be."""

    table: str
    version: int
    depth: int
    committed: datetime
    asset: str | None
    run: str | None
    code: str | None
    inputs: dict[str, int]


class SourceFile(_Described):
    """A file that rows came from."""

    dataset: str
    file: str
    sha256: str
    rows_accepted: int | None
    raw_version: int
    archive: str


class ViewLineage(_Described):
    """What a view's table was made from, back to the files."""

    view: str
    table: str
    version: int
    versions: dict[str, list[int]]
    steps: list[Step]
    models: list[dict[str, Any]]
    files: list[SourceFile]
    file_count: Annotated[int, Field(description="All of them; `files` may hold fewer.")]


class Registered(_Described):
    """What came of a registration."""

    view: str
    table: str
    created: bool
    changed: bool
    dry_run: bool
    next: str


class Unregistered(_Described):
    """A declaration that was taken back."""

    view: str
    removed: bool


class ViewHealth(_Described):
    """A view that the online store has."""

    view: str
    version: int
    confirmed_at: datetime
    staleness_s: float
    served: bool
    reason: str | None


class Health(_Described):
    """How the server is. Without a key, where one is needed, only the status is told."""

    status: Literal["live", "ready", "degraded", "unavailable"]
    reasons: list[str] = []
    views: list[ViewHealth] = []


class Problem(_Described):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    subject: str
    problem: str
    expected: str | None
    found: str | None
    fix: str | None
    reasons: list[str] | None = None
