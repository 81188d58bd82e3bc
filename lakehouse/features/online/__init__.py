"""The online store: the newest features of every entity, at hand within a millisecond."""

from lakehouse.features.online.answers import Answer, answer
from lakehouse.features.online.capacity import ALARM_SHARE, Evicted, Occupancy, OnlineStoreFull, evict, occupancy
from lakehouse.features.online.materializing import Materialized, materialize
from lakehouse.features.online.parity import Difference, Parity, check_parity
from lakehouse.features.online.serving import OnlineFeatures, Origin, Served
from lakehouse.features.online.state import ViewState
from lakehouse.features.online.store import LaneSize, OnlineStore, Read, open_store

__all__ = [
    "ALARM_SHARE",
    "Answer",
    "Difference",
    "Evicted",
    "LaneSize",
    "Materialized",
    "Occupancy",
    "OnlineFeatures",
    "OnlineStore",
    "OnlineStoreFull",
    "Origin",
    "Parity",
    "Read",
    "Served",
    "ViewState",
    "answer",
    "check_parity",
    "evict",
    "materialize",
    "occupancy",
    "open_store",
]
