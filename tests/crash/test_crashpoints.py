"""The switch itself: a point kills where it is named, as often as it is reached, and does nothing otherwise."""

import os
import signal
import subprocess
import sys

import pytest

from lakehouse.crashpoints import VARIABLE

PROGRAM = """
from lakehouse.crashpoints import Point, reached
for number in range(3):
    print(number, flush=True)
    reached(Point.BEFORE_COMMIT)
"""


@pytest.mark.parametrize(
    ("named", "said", "status"),
    [
        (None, "012", 0),
        ("", "012", 0),
        ("after_commit", "012", 0),
        ("before_commit", "0", -signal.SIGKILL),
        ("before_commit:3", "012", -signal.SIGKILL),
        ("before_commit:4", "012", 0),
    ],
)
def test_a_process_is_killed_at_the_point_that_is_named(named: str | None, said: str, status: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE} | ({} if named is None else {VARIABLE: named})
    ended = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert (ended.stdout.replace("\n", ""), ended.returncode) == (said, status)
