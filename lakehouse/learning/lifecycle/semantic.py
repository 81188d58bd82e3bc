"""The semantic version of a model version: what changed since the one before says which number goes up."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FIRST = "1.0.0"


@dataclass(frozen=True, slots=True)
class Signature:
    """What two versions are compared by.

    Attributes:
        algorithm: the architecture.
        target: digest of the problem and of what is predicted.
        features: digest of the features' names.
    """

    algorithm: str
    target: str
    features: str

    @classmethod
    def of(cls, *, algorithm: str, problem: str, target: str, features: Iterable[str]) -> "Signature":
        """The signature of a model."""
        return cls(algorithm, target_digest(problem, target), _digest(sorted(features)))

    def as_json(self) -> str:
        """As it is stored."""
        return json.dumps({"algorithm": self.algorithm, "target": self.target, "features": self.features}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Signature":
        """From what is stored."""
        stored: Mapping[str, str] = json.loads(text)
        return cls(stored["algorithm"], stored["target"], stored["features"])


def target_digest(problem: str, target: str) -> str:
    """Of what is predicted, however its expression is spaced."""
    return _digest([problem, " ".join(target.split())])


def next_version(before: str | None, was: Signature | None, now: Signature) -> str:
    """The semantic version after `before`: another architecture or target is a major, other features are a minor change, a refit a patch."""
    if before is None or was is None:
        return FIRST
    major, minor, patch = (int(part) for part in before.split("."))
    if (was.algorithm, was.target) != (now.algorithm, now.target):
        return f"{major + 1}.0.0"
    if was.features != now.features:
        return f"{major}.{minor + 1}.0"
    return f"{major}.{minor}.{patch + 1}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:16]
