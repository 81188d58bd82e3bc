"""A process that ingests fuzzed files: `python -m tests.fuzz.worker CASES SEED FOLDER`.

Before each case its file lies in FOLDER/case, so that whoever watches knows which one a crash, a hang or a gigabyte belongs to.
"""

import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import strategies as st

from lakehouse.contracts import DatasetContract, Landing, infer_dataset, load_dataset
from lakehouse.errors import FileRefused
from lakehouse.ingest import ingest
from lakehouse.ingest.readers import stage
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.fuzz.files import FuzzedFile, files
from tests.ingest.conftest import PEOPLE, rows_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LONGEST_ERROR = 2000


class Fuzzing:
    """Ingests one file after another, each into a lake of its own, and asks the laws of each."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings.load()
        self.folder = folder
        self.case = folder / "case"
        self.people = self._contract(PEOPLE, "people")
        self.outcomes = {"ingested": 0, "refused": 0}
        self.quarantined = 0

    def _contract(self, text: str, name: str) -> DatasetContract:
        path = self.folder / f"{name}.odcs.yaml"
        path.write_text(text, encoding="utf-8")
        return load_dataset(path)

    def ask(self, file: FuzzedFile, *, by_inference: bool) -> None:
        """Ingest the file and check every law.

        Raises:
            AssertionError: a law does not hold.
        """
        shutil.rmtree(self.case, ignore_errors=True)
        self.case.mkdir()
        path = self.case / file.name
        path.write_bytes(file.data)
        lake = Lake(self.case / "lake", memory_limit="512MB", threads=1, spill_dir=self.settings.spill_dir)
        try:
            contract = self._inferred(lake, path) if by_inference else self.people
            report = ingest(lake, contract, [path], settings=self.settings, run="fuzz", now=NOW)
        except FileRefused as error:
            self._names_it(path, str(error))
            return
        result = report.files[0]
        if result.status == "refused":
            assert result.error is not None
            self._names_it(path, result.error)
            assert not lake.exists(contract.raw) or not rows_of(lake, contract.raw)
            return
        assert result.status == "ingested"
        self.outcomes["ingested"] += 1
        assert result.rows_read == result.rows_accepted + result.rows_quarantined
        accepted = rows_of(lake, contract.raw, "_row")
        quarantined = rows_of(lake, contract.quarantine, "_row, len(rules), len(reasons)")
        assert len(accepted) == result.rows_accepted
        assert len(quarantined) == result.rows_quarantined
        self.quarantined += len(quarantined)
        assert sorted(row[0] for row in [*accepted, *quarantined]) == list(range(1, result.rows_read + 1))
        assert all(rules and rules == reasons for _, rules, reasons in quarantined)
        again = ingest(lake, contract, [path], settings=self.settings, run="fuzz", now=NOW)
        assert again.files[0].status == "already"
        assert again.version == report.version

    def _inferred(self, lake: Lake, path: Path) -> DatasetContract:
        with lake.connect(()) as session:
            staged = stage(session.con, path)
            shape = staged.file_format
            landing = Landing(paths=(path.name,), format=shape.format, encodings=(shape.encoding,))
            inferred = infer_dataset(session.con, staged.relation, name="fuzzed", landing=landing)
        return self._contract(inferred.text, "fuzzed")

    def _names_it(self, path: Path, message: str) -> None:
        self.outcomes["refused"] += 1
        assert path.name in message
        assert len(message) < _LONGEST_ERROR
        assert not _CONTROL.search(message), message


def main() -> None:
    cases, seed, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    fuzzing = Fuzzing(folder)

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=cases,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(file=files, by_inference=st.booleans())
    def ask(file: FuzzedFile, by_inference: bool) -> None:
        fuzzing.ask(file, by_inference=by_inference)

    ask()
    sys.stdout.write(
        f"{fuzzing.outcomes['ingested']} ingested, {fuzzing.outcomes['refused']} refused, {fuzzing.quarantined} rows quarantined\n"
    )


if __name__ == "__main__":
    main()
