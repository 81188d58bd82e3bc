"""What a table or a file holds, how good it is, and what to do about it."""

from lakehouse.quality.profile.building import Subject, build_profile, hidden_columns
from lakehouse.quality.profile.facts import (
    Advice,
    Association,
    ColumnFacts,
    Count,
    Dimension,
    Duplicates,
    Freshness,
    Histogram,
    Key,
    Numbers,
    Profile,
    Target,
    TargetSuggestion,
    Texts,
)
from lakehouse.quality.profile.scoring import DIMENSIONS, as_of, promised

__all__ = [
    "DIMENSIONS",
    "Advice",
    "Association",
    "ColumnFacts",
    "Count",
    "Dimension",
    "Duplicates",
    "Freshness",
    "Histogram",
    "Key",
    "Numbers",
    "Profile",
    "Subject",
    "Target",
    "TargetSuggestion",
    "Texts",
    "as_of",
    "build_profile",
    "hidden_columns",
    "promised",
]
