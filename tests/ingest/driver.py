"""A process that ingests: `python driver.py CONTRACT FILE...`; the home comes from the environment."""

import sys
from datetime import UTC, datetime
from pathlib import Path


def main() -> None:
    from lakehouse.contracts import load_dataset
    from lakehouse.ingest import ingest
    from lakehouse.settings import Settings
    from lakehouse.tables import Lake

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
