"""Which code a model's digest is of: all that its numbers come from, and nothing that only shows it."""

import ast
from pathlib import Path

from lakehouse.learning import fingerprint
from lakehouse.learning.fingerprint import code_of

PACKAGE = Path(fingerprint.__file__).resolve().parents[1]


def module_path(name: str) -> Path | None:
    """Of a module or package of ours."""
    place = PACKAGE.parent.joinpath(*name.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def imported(path: Path) -> set[Path]:
    """What a module imports of ours, at its top or in its functions."""
    found: set[Path | None] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lakehouse"):
            found |= {module_path(node.module), *(module_path(f"{node.module}.{one.name}") for one in node.names)}
    # The package's own face imports everything; nothing is taken from there but modules.
    return {path for path in found if path is not None} - {PACKAGE / "learning" / "__init__.py"}


def needed(*names: str) -> set[str]:
    """All that these modules import of learning and features, and what that imports."""
    waiting = {PACKAGE / name for name in names}
    found: set[Path] = set()
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting |= imported(one) - found
    named = {path.relative_to(PACKAGE).as_posix() for path in found}
    return {name for name in named if name.startswith(("learning/", "features/")) and not name.endswith("__init__.py")}


def test_all_that_a_model_or_its_comparison_is_made_with_is_of_its_code():
    assert needed("learning/fitting.py", "learning/training_rows.py", "learning/comparison.py") <= set(code_of("model"))


def test_all_that_predictions_are_made_with_is_of_their_code():
    made = needed("learning/scoring.py", "learning/explaining.py", "learning/lifecycle/traffic.py")
    assert made <= set(code_of("predictions"))
    assert "learning/prediction.py" in code_of("predictions")
    assert set(code_of("model")) < set(code_of("predictions"))


def test_what_shows_a_model_or_decides_about_its_versions_is_of_no_code_and_a_new_module_is(monkeypatch, tmp_path):
    names = set(code_of("model"))
    assert not names & {"learning/card.py", "learning/preview.py", "learning/lifecycle/states.py", "learning/retraining/deciding.py"}
    every = {path.relative_to(PACKAGE).as_posix() for package in ("learning", "features") for path in (PACKAGE / package).rglob("*.py")}
    for listed in (*fingerprint._OF_NO_NUMBER, *fingerprint._OF_PREDICTIONS):
        assert any(name.startswith(listed) for name in every), f"{listed} is no module any more"
    for new in ("learning/novel.py", "learning/card.py", "features/novel.py"):
        (tmp_path / new).parent.mkdir(exist_ok=True)
        (tmp_path / new).touch()
    monkeypatch.setattr(fingerprint, "__file__", str(tmp_path / "learning" / "fingerprint.py"))
    assert set(code_of("model")) == {"learning/novel.py", "features/novel.py"}
