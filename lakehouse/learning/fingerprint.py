"""A digest of what a fitted pipeline knows: equal for equal models, whatever file they are stored in."""

import hashlib
import struct
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

_CODE = ("learning", "features")
# Everything else of these packages is part of a model's code, a new module too. These only show, observe or decide about versions,
_OF_NO_NUMBER = (
    "features/online/",
    "learning/ancestry.py",
    "learning/card.py",
    "learning/comparison_page.py",
    "learning/file_columns.py",
    "learning/file_prediction.py",
    "learning/pages.py",
    "learning/preview.py",
    "learning/reproduction.py",
    "learning/retraining/",
    "learning/scratch.py",
)
# and these reach what a model says of new rows, not what it is.
_OF_PREDICTIONS = ("learning/explaining.py", "learning/lifecycle/", "learning/prediction.py", "learning/scoring.py")
Made = Literal["model", "predictions"]
LIBRARIES = ("scikit-learn", "numpy", "scipy", "pandas", "duckdb", "skops")


def model_digest(pipeline: Any) -> str:
    """Sha256 over every parameter and everything learned, in a fixed order."""
    digest = hashlib.sha256()
    _feed(digest, pipeline, set())
    return digest.hexdigest()


@lru_cache(maxsize=2)
def code_digest(of: Made = "model") -> str:
    """Sha256 of the code that makes a model (or its predictions too), and of the libraries it is made with."""
    digest = hashlib.sha256()
    for name, path in code_of(of).items():
        digest.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    for library in LIBRARIES:
        digest.update(f"{library}=={version(library)}\n".encode())
    return digest.hexdigest()


def code_of(made: Made) -> dict[str, Path]:
    """The modules that reach a number of it, by their names in the package."""
    root = Path(__file__).resolve().parent.parent
    others = _OF_NO_NUMBER if made == "predictions" else (*_OF_NO_NUMBER, *_OF_PREDICTIONS)
    every = {path.relative_to(root).as_posix(): path for package in _CODE for path in sorted((root / package).rglob("*.py"))}
    return {name: path for name, path in every.items() if not name.startswith(others)}


def _feed(digest: Any, value: Any, open_objects: set[int]) -> None:
    """Add one value; each kind has its own mark, so that no two values look alike."""
    import numpy as np

    if value is None or isinstance(value, bool | int | str | bytes):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, float):
        digest.update(b"float:" + struct.pack("<d", value))
    elif isinstance(value, np.generic):
        _feed(digest, value.item(), open_objects)
    elif isinstance(value, np.ndarray):
        _feed_array(digest, value, open_objects)
    elif isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        digest.update(f"name:{value.__module__}.{value.__qualname__};".encode())
    elif isinstance(value, np.dtype | slice):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    elif isinstance(value, Mapping):
        digest.update(f"map:{len(value)};".encode())
        for key in sorted(value, key=lambda one: (type(one).__name__, str(one))):
            _feed(digest, key, open_objects)
            _feed(digest, value[key], open_objects)
    elif isinstance(value, set | frozenset):
        _feed(digest, sorted(value, key=str), open_objects)
    elif isinstance(value, list | tuple):
        digest.update(f"list:{len(value)};".encode())
        for one in value:
            _feed(digest, one, open_objects)
    else:
        _feed_object(digest, value, open_objects)


def _feed_array(digest: Any, value: Any, open_objects: set[int]) -> None:
    import numpy as np

    digest.update(f"array:{value.dtype.str if value.dtype.fields is None else sorted(value.dtype.fields)}:{value.shape};".encode())
    if value.dtype.fields is not None:
        # Between the fields of a record lies memory that nobody wrote.
        for name in sorted(value.dtype.fields):
            _feed_array(digest, value[name], open_objects)
    elif value.dtype.hasobject:
        _feed(digest, value.tolist(), open_objects)
    else:
        digest.update(np.ascontiguousarray(value).tobytes())


def _feed_object(digest: Any, value: Any, open_objects: set[int]) -> None:
    digest.update(f"object:{type(value).__module__}.{type(value).__qualname__};".encode())
    if id(value) in open_objects:
        return
    if hasattr(value, "tocsr"):
        # A sparse matrix comes back from storage with places of another width.
        rows = value.tocsr()
        _feed(digest, [rows.shape, rows.indptr.astype("int64"), rows.indices.astype("int64"), rows.data], open_objects)
        return
    open_objects.add(id(value))
    reduced = value.__reduce_ex__(2)
    state = reduced[2] if len(reduced) > 2 else None
    # How many threads fitted it is not what it learned, nor where its words lay in memory.
    ignored = {"n_jobs", "_sklearn_version", "_stop_words_id"}
    if isinstance(state, Mapping):
        state = {key: one for key, one in state.items() if key not in ignored}
        # Boosting keeps the number under another name; it counts as the one thread that all models once were fitted on.
        state |= {"n_threads": 1} if "n_threads" in state else {}
    _feed(digest, state if state is not None else list(reduced[1][1:]), open_objects)
    open_objects.discard(id(value))
