"""What a model version was made from, kept with it so that it can be made again: contract, views, digests, libraries and machine."""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from lakehouse.contracts import ModelContract
from lakehouse.features import FeatureView
from lakehouse.learning.evaluation import Predictions
from lakehouse.learning.fingerprint import LIBRARIES, code_digest
from lakehouse.learning.registry import Registry
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

RECIPE_FILE = "recipe.json"
_FURTHER = ("joblib", "threadpoolctl", "pyarrow", "deltalake")


@dataclass(frozen=True, slots=True)
class Environment:
    """What a training ran on.

    Attributes:
        code: digest of the code that makes a model.
        threads: that trees were grown on; no number depends on it.
        libraries: versions by name.
    """

    code: str
    python: str
    platform: str
    threads: int
    libraries: Mapping[str, str]

    def differences(self, other: "Environment") -> dict[str, tuple[str, str]]:
        """What the other has otherwise, by name: here and there. Threads change nothing and do not count."""
        mine, its = (_flat(one) for one in (self, other))
        return {name: (mine.get(name, "none"), its.get(name, "none")) for name in sorted({*mine, *its}) if mine.get(name) != its.get(name)}


def _flat(environment: Environment) -> dict[str, str]:
    own = {"code": environment.code[:12], "python": environment.python, "platform": environment.platform}
    return own | dict(environment.libraries)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model version was made from.

    Attributes:
        contract: as it was.
        views: the feature views as they were declared.
        data: digest of the training set's rows, whatever their order.
        predictions: digest of what the model said of its test rows.
    """

    contract: ModelContract
    views: tuple[FeatureView, ...]
    data: str
    predictions: str
    environment: Environment

    def as_json(self) -> str:
        """As it is kept with the version."""
        stored: dict[str, Any] = {
            "contract": json.loads(_CONTRACT.dump_json(self.contract, fallback=dict, warnings="none")),
            "views": json.loads(_VIEWS.dump_json(self.views, fallback=dict, warnings="none")),
            "data": self.data,
            "predictions": self.predictions,
            "environment": asdict(self.environment),
        }
        return json.dumps(stored, sort_keys=True, indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Recipe":
        """What `as_json` gave."""
        stored: dict[str, Any] = json.loads(text)
        return cls(
            _CONTRACT.validate_python(stored["contract"]),
            _VIEWS.validate_python(stored["views"]),
            stored["data"],
            stored["predictions"],
            Environment(**stored["environment"]),
        )


_CONTRACT = TypeAdapter(ModelContract)
_VIEWS = TypeAdapter(tuple[FeatureView, ...])


def recipe_of(registry: Registry, model: str, version: str) -> Recipe | None:
    """What a registered version was made from; None for one without it, or that is not in the registry."""
    found = registry.registered(model, version) if registry.is_present else None
    text = registry.text_of(found, RECIPE_FILE) if found is not None else None
    return None if text is None else Recipe.from_json(text)


def environment_of(threads: int) -> Environment:
    """What this process runs on."""
    libraries = {name: found for name in (*LIBRARIES, *_FURTHER) if (found := _installed(name)) is not None}
    machine = f"{platform.system()} {platform.machine()}"
    return Environment(code_digest(), platform.python_version(), machine, threads, libraries)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def rows_digest(con: "duckdb.DuckDBPyConnection", relation: str) -> str:
    """Digest of a relation's rows: of their values by column name, whatever their order."""
    columns = sorted(str(row[0]) for row in con.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall())
    # NULL is told from every text, and a value from the one beside it.
    texts = ", ".join(f"coalesce(replace(CAST({quote_identifier(column)} AS VARCHAR), chr(31), chr(30)), chr(29))" for column in columns)
    row = con.execute(
        f"SELECT count(*), coalesce(md5(string_agg(h, '' ORDER BY h)), '') FROM (SELECT md5(concat_ws(chr(31), {texts})) AS h FROM {relation})"
    ).fetchone()
    return hashlib.sha256(json.dumps([columns, row]).encode()).hexdigest()


def predictions_digest(said: Predictions) -> str:
    """Digest of what a model said of rows, in their order: to the last bit."""
    import numpy as np

    digest = hashlib.sha256(json.dumps([list(said.classes), said.positive]).encode())
    if said.probabilities is None:
        digest.update(np.ascontiguousarray(said.predicted, dtype="float64").tobytes())
    else:
        digest.update("\0".join(str(one) for one in said.predicted).encode())
        digest.update(np.ascontiguousarray(said.probabilities, dtype="float64").tobytes())
    return digest.hexdigest()
