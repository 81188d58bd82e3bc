"""What was tried, kept until its training is recorded: a training that was killed goes on where it stopped."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lakehouse.settings import Settings


class TrialFile:
    """Scores of trials by their names, one line each; a line that a kill cut off counts as none. Without a path they are in memory only."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._known = _read(path) if path is not None else {}

    @property
    def seconds(self) -> float:
        """What all trials took together, those of earlier starts among them."""
        return sum(float(one["seconds"]) for one in self._known.values())

    @classmethod
    def of(cls, settings: Settings, model: str, *origin: str) -> "TrialFile":
        """The file of one training: the same contract, code and inputs."""
        digest = hashlib.sha256("\0".join(origin).encode()).hexdigest()[:16]
        return cls(settings.home_dir / "tmp" / "trials" / f"{model}-{digest}.ndjson")

    def get(self, name: str) -> float | None:
        """The score of a trial, if it was made before; NaN for one that could not be."""
        found = self._known.get(name)
        if found is None:
            return None
        return math.nan if found["score"] is None else float(found["score"])

    def took(self, name: str) -> float | None:
        """The seconds of a trial, if it was made before."""
        found = self._known.get(name)
        return None if found is None else float(found["seconds"])

    def add(self, name: str, score: float, *, seconds: float) -> None:
        """Keep a trial's score."""
        self._known[name] = {"score": None if math.isnan(score) else score, "seconds": round(seconds, 3)}
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"trial": name, **self._known[name]}) + "\n")

    def forget(self) -> None:
        """The training is recorded: nothing of it will be asked for again."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Mapping[str, Any]]:
    """What a file says; a line that a kill cut off is taken away, so that the next one does not become a part of it."""
    if not path.exists():
        return {}
    known: dict[str, Mapping[str, Any]] = {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    for line in whole.splitlines():
        one = json.loads(line)
        known[one.pop("trial")] = one
    return known
