"""The library and its command line work where Dagster is not installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = """
import importlib.machinery, sys
found = importlib.machinery.PathFinder.find_spec
def without_dagster(name, path=None, target=None):
    return None if name.split(".")[0].startswith("dagster") else found(name, path, target)
importlib.machinery.PathFinder.find_spec = without_dagster
sys.argv = ["lakehouse", *sys.argv[1:]]
from lakehouse.cli.main import main
main()
"""


@pytest.mark.slow
def test_a_file_reaches_a_prediction(home: Path, tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text(
        "person_id,height_cm,tall\n" + "".join(f"p{i:04d},{150 + i % 50},{'yes' if i % 50 > 25 else 'no'}\n" for i in range(400))
    )
    for args in (["add", str(people), "--name", "people", "--target", "tall"], ["run", "people", "--json"]):
        done = subprocess.run([sys.executable, "-c", BLOCK, *args], capture_output=True, text=True, check=False, env=os.environ.copy())
        assert done.returncode == 0, done.stderr[-3000:]
    assert '"people"' in done.stdout
