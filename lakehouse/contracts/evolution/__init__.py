"""How contracts change: what arrived against what they say, one version against another, and the change that brings them together."""

from lakehouse.contracts.evolution.accepting import Accepted, accept
from lakehouse.contracts.evolution.compatibility import Compatibility, ContractChange, Impact, compare, next_version, widens
from lakehouse.contracts.evolution.drift import Arrived, Drift, DriftKind, find_drift

__all__ = [
    "Accepted",
    "Arrived",
    "Compatibility",
    "ContractChange",
    "Drift",
    "DriftKind",
    "Impact",
    "accept",
    "compare",
    "find_drift",
    "next_version",
    "widens",
]
