"""A process that ingests: `python driver.py CONTRACT FILE...`; the home comes from the environment.

With DIES_AT=before-raw or after-raw it is killed right before or right after the commit to raw.
"""

import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def die_at(instant: str) -> None:
    from lakehouse.ingest.pieces import PiecewiseAppend

    commit = PiecewiseAppend.commit

    def killed(*arguments: Any, **more: Any) -> None:
        if instant == "after-raw":
            commit(*arguments, **more)
        os.kill(os.getpid(), signal.SIGKILL)

    PiecewiseAppend.commit = killed  # type: ignore[assignment,method-assign]


def main() -> None:
    from lakehouse.contracts import load_dataset
    from lakehouse.ingest import ingest
    from lakehouse.settings import Settings
    from lakehouse.tables import Lake

    if "DIES_AT" in os.environ:
        die_at(os.environ["DIES_AT"])
    settings = Settings.load()
    sys.stdout.write("started\n")
    sys.stdout.flush()
    report = ingest(
        Lake.from_settings(settings),
        load_dataset(Path(sys.argv[1])),
        [Path(path) for path in sys.argv[2:]],
        settings=settings,
        run=f"process {sys.argv[0]}",
        now=datetime.now(UTC),
    )
    sys.stdout.write(f"{report.as_dict()}\n")


if __name__ == "__main__":
    main()
