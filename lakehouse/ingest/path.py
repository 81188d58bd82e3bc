"""The one way in: which files are new, and batch by batch into quarantine and raw, each exactly once."""

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from lakehouse.contracts import DatasetContract, Severity
from lakehouse.crashpoints import Point, reached
from lakehouse.errors import ErasedMeanwhile, FileRefused, SourceError
from lakehouse.ingest.archive import Original, take
from lakehouse.ingest.arrivals import Arrived, looks_of
from lakehouse.ingest.batch import Batch, BatchResult
from lakehouse.ingest.contract_versions import note_contract
from lakehouse.ingest.dead import remove_dead
from lakehouse.ingest.drift import column_warnings
from lakehouse.ingest.errors import Superseded
from lakehouse.ingest.known import KnownFile, KnownFiles, SeenFile, app_id, cuts_one
from lakehouse.ingest.landing import pending
from lakehouse.ingest.recording import index_batches, judge_batch
from lakehouse.ingest.report import FileReport, IngestProgress, IngestReport
from lakehouse.ingest.restoring import follow_restore
from lakehouse.ingest.table_pages import is_table_page
from lakehouse.ingest.topic_pages import Covered, TopicPage
from lakehouse.ingest.unrecorded import Unrecorded
from lakehouse.openlineage import Assertion, job
from lakehouse.privacy import Key
from lakehouse.privacy import key as secret_key
from lakehouse.quality import CheckResult
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from lakehouse.tables.retrying import wait_after_conflict
from lakehouse.tables.spill import own_folder

# Small files are committed together: a commit costs as much as reading thousands of rows.
_BATCH_FILES = 1000
_BATCH_BYTES = 128 * 1024 * 1024
_DIGEST = re.compile(r"[0-9a-f]{8,64}")

Progress = Callable[[IngestProgress], None]


def ingest(
    lake: Lake,
    contract: DatasetContract,
    paths: Iterable[Arrived | str],
    *,
    settings: Settings,
    run: str,
    now: datetime,
    progress: Progress | None = None,
    replaces: Sequence[str] = (),
    repaired: bool = False,
) -> IngestReport:
    """Ingest files into raw and quarantine: every row of a file exactly once, whatever happens meanwhile.

    A file whose content is in raw, under whatever name, is left alone. A file that can't be read, or breaks its contract
    beyond the limit, is refused as a whole and the others go on. Call it again after a crash.

    Args:
        lake: the tables.
        contract: of the dataset.
        paths: files.
        settings: of the home.
        run: recorded in the commits.
        now: the time of arrival, recorded with every row.
        progress: told after every piece of a file.
        replaces: names or digests of files that were ingested before: the one path given takes their place, in one commit.
        repaired: each path takes the place of what arrived under its name before.

    Raises:
        ConcurrentWrite: other processes ingested into the same dataset without pause.
        PrivacyError: the contract protects columns and the home's key can't be used.
        SourceError: it can't be told what takes the place of what.
    """
    arrived: list[Arrived] = [Path(path) if isinstance(path, str) else path for path in paths]
    work = _Work(lake, contract, settings, run, now, arrived, progress, tuple(replaces), repaired)
    with job(settings, lake, "ingest", contract.name, run=run) as told:
        report = work.all()
        for file in report.files:
            if file.status == "refused":
                told.failed(Path(file.path).name, "was refused")
        told.found(contract.raw, (_assertion(contract, check) for check in report.checks))
        return report


def ingest_landing(
    lake: Lake, contract: DatasetContract, *, settings: Settings, run: str, now: datetime, progress: Progress | None = None
) -> IngestReport:
    """Ingest the files of the dataset's landing folder that are new and complete.

    Raises:
        ConcurrentWrite: other processes ingested into the same dataset without pause.
        PrivacyError: the contract protects columns and the home's key can't be used.
    """
    ready = [file.path for file in pending(lake, contract, settings=settings).ready]
    return ingest(lake, contract, ready, settings=settings, run=run, now=now, progress=progress)


def in_batches(sizes: Sequence[tuple[Arrived, int]]) -> list[list[Arrived]]:
    """Files in their order, small ones together, large ones and pages of tables alone: which row came later is told by its batch."""
    batches: list[list[Arrived]] = []
    room = 0
    for path, size in sizes:
        is_alone = is_table_page(path.name)
        if not batches or is_alone or size > room or len(batches[-1]) >= _BATCH_FILES:
            batches.append([])
            room = _BATCH_BYTES
        batches[-1].append(path)
        room = -1 if is_alone else room - size
    return batches


@dataclass
class _Work:
    """One call of ingest."""

    lake: Lake
    contract: DatasetContract
    settings: Settings
    run: str
    now: datetime
    paths: list[Arrived]
    progress: Progress | None
    replaces: tuple[str, ...] = ()
    repaired: bool = False
    reports: dict[Arrived, FileReport] = field(default_factory=dict)
    checks: list[CheckResult] = field(default_factory=list)
    noted: list[CheckResult] = field(default_factory=list)
    bytes_done: int = 0
    bytes_total: int = 0

    def all(self) -> IngestReport:
        """Every file, batch by batch."""
        known = KnownFiles(self.lake, self.contract, self.settings)
        key = secret_key(self.settings) if self.contract.protected_columns else None
        known.catch_up()
        self._check_replaced(known)
        sizes = [(path, _size(path)) for path in dict.fromkeys(self.paths)]
        self.bytes_total = sum(size for _, size in sizes)
        self._leave_known(known, [path for path, _ in sizes])
        batches = in_batches([(path, size) for path, size in sizes if path not in self.reports])
        if batches and (judged := note_contract(self.lake, self.contract, run=self.run, now=self.now)) is not None:
            self.noted = [judged]
        for batch in batches:
            # Under this process's own folder: what a killed one leaves is removed when the next one starts.
            with tempfile.TemporaryDirectory(prefix="originals-", dir=own_folder(self.settings.spill_dir)) as folder:
                self._batch(known, key, batch, Path(folder))
        self._complete(known)
        return IngestReport(
            self.contract.name,
            self.contract.raw,
            self.lake.version(self.contract.raw),
            tuple(self.reports[path] for path in self.paths),
            tuple(self.checks),
        )

    def _leave_known(self, known: KnownFiles, paths: Sequence[Arrived]) -> None:
        """Files that have not changed since they were ingested need not be read to be known."""
        if self.replaces or self.repaired:
            return
        digests = known.cached_digests(paths)
        present = known.known(digests.values())
        for path, digest in digests.items():
            if digest in present:
                self.reports[path] = FileReport(str(path), digest, "already")

    def _batch(self, known: KnownFiles, key: Key | None, paths: Sequence[Arrived], folder: Path) -> None:
        originals: list[Original] = []
        seen: list[SeenFile] = []
        for number, path in enumerate(paths):
            try:
                before = looks_of(path)
                original = take(path, folder, number)
            except FileRefused as error:
                # Who has ingested a page removes it: another process was faster.
                is_done = self.contract.topics and TopicPage.of(path.name) is not None and isinstance(path, Path) and not path.exists()
                status = "already" if is_done else "refused"
                self.reports[path] = FileReport(str(path), None, status, error=None if is_done else str(error))
                continue
            originals.append(original)
            looks = before if original.fetched is None else looks_of(original.fetched)
            if looks is not None and looks.size_bytes == original.size_bytes:
                seen.append(SeenFile(path, looks, original.sha256))
        known.remember_digests(seen)
        attempt = 1
        while True:
            # First the batch to follow, then what is known: what another process commits in between is known or supersedes this one.
            after = self.lake.transaction(self.contract.raw, app_id(self.contract))
            known.catch_up()
            if known.is_restored():
                follow_restore(self.lake, self.contract, run=self.run)
            new = self._new(known, originals)
            replaced = self._replaced(known, originals)
            if not new and not replaced:
                return
            try:
                self._ingest(known, key, new, after, replaced)
                return
            except (Superseded, ErasedMeanwhile):
                # Another process was faster, perhaps with these very files; or they were read with somebody who is erased now.
                wait_after_conflict(self.contract.raw, attempt, undone="nothing was ingested")
                attempt += 1

    def _new(self, known: KnownFiles, originals: Sequence[Original]) -> list[Original]:
        """Files whose content is not in raw; of equal ones the first."""
        present = known.known(original.sha256 for original in originals)
        # Of a topic, an offset counts once, whatever page it is in.
        covered = known.covered() if self.contract.topics else Covered()
        new: dict[str, Original] = {}
        taken = Covered()
        for original in originals:
            if original.path in self.reports:
                continue
            page = self._page(original)
            is_there = page is not None and (
                taken.holds_some_of(page) or (cuts_one(known, page) if page.again else covered.holds_some_of(page))
            )
            if original.sha256 in present or original.sha256 in new or is_there:
                self.reports[original.path] = FileReport(str(original.path), original.sha256, "already")
                continue
            new[original.sha256] = original
            if page is not None:
                taken.add(page)
        return list(new.values())

    def _page(self, original: Original) -> TopicPage | None:
        return TopicPage.of(original.path.name) if self.contract.topics else None

    def _check_replaced(self, known: KnownFiles) -> None:
        """Refuse what can't be told: which of several paths takes the place, or which file is meant."""
        names = [path.name for path in dict.fromkeys(self.paths)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if self.repaired and twice is not None:
            raise SourceError(twice, "is the name of two of the files: which is the repaired one can't be told", fix="Give one of them")
        if self.replaces and len(names) != 1:
            raise SourceError(
                f"ingest {self.contract.name}", "can replace files by one file only", found=f"{len(names)} files", fix="Give one path"
            )
        files = known.files() if self.replaces else []
        for wanted in self.replaces:
            if not any(_is_meant(file, wanted) for file in files):
                raise SourceError(
                    wanted,
                    f"is no file that was ingested into {self.contract.name}",
                    expected="the name it arrived under, or its SHA-256",
                    fix=f"Look it up: lakehouse history {self.contract.raw} --json",
                )

    def _replaced(self, known: KnownFiles, originals: Sequence[Original]) -> dict[str, list[KnownFile]]:
        """The files that each of the given ones takes the place of; none that was replaced itself comes back by this."""
        by_name = self.repaired or self.contract.redelivery == "replaces"
        pages = {original.sha256: page for original in originals if (page := self._page(original)) is not None and page.again}
        if not self.replaces and not by_name and not pages:
            return {}
        found: dict[str, list[KnownFile]] = {}
        there = known.known(original.sha256 for original in originals)
        for original in originals:
            own = there.get(original.sha256)
            report = self.reports.get(original.path)
            if original.sha256 in found or (own is not None and own.replaced_by is not None) or (report and report.status == "refused"):
                continue
            # Without being asked for, only a file that is new takes a place: an old one may lie there still.
            if own is not None and not (self.repaired or self.replaces):
                continue
            if (page := pages.get(original.sha256)) is not None:
                # What is reported by now is there already, or was cut.
                if report is None and (below := known.pages_below(page)):
                    found[original.sha256] = below
                continue
            if not self.replaces and not by_name:
                continue
            files = known.files() if self.replaces else known.files(name=original.path.name)
            gone = [
                file
                for file in files
                if file.replaced_by is None
                and file.sha256 != original.sha256
                and (not self.replaces or any(_is_meant(file, wanted) for wanted in self.replaces))
            ]
            if gone:
                found[original.sha256] = gone
        return found

    def _ingest(
        self,
        known: KnownFiles,
        key: Key | None,
        new: Sequence[Original],
        after: int | None,
        replaced: Mapping[str, Sequence[KnownFile]],
    ) -> None:
        con = self.lake.open_connection()
        try:
            batch = Batch(self.lake, self.contract, settings=self.settings, key=key, run=self.run, now=self.now)
            unrecorded = Unrecorded(self.lake, self.contract, self.settings)
            checks: list[CheckResult] = []

            def judged(result: BatchResult) -> None:
                judgement = judge_batch(
                    self.lake, con, self.contract, result, run=self.run, now=self.now, noted=self.noted, counted=known.newest_batches(60)
                )
                checks.extend(judgement.results)
                unrecorded.note(judgement.note)

            result = batch.run(con, new, after=after, told=self._told, judged=judged, replaced=replaced)
            self._report(known, result, replaced)
            if result.commit is not None:
                self.checks += checks
                known.catch_up()
                reached(Point.BEFORE_RECORD)
                unrecorded.settle(con, known)
        finally:
            con.close()
        self.bytes_done += sum(original.size_bytes for original in new)

    def _told(self, original: Original, rows: int) -> None:
        if self.progress is not None:
            self.progress(IngestProgress(original.path.name, self.bytes_done, self.bytes_total, rows))

    def _report(self, known: KnownFiles, result: BatchResult, replaced: Mapping[str, Sequence[KnownFile]]) -> None:
        errors: dict[str, str] = {}
        for outcome in result.files:
            original = outcome.original
            if outcome.error is not None:
                errors[original.sha256] = str(outcome.error)
                self.reports[original.path] = FileReport(str(original.path), original.sha256, "refused", error=str(outcome.error))
            else:
                self.reports[original.path] = FileReport(
                    str(original.path),
                    original.sha256,
                    "ingested",
                    outcome.rows_read,
                    outcome.rows_accepted,
                    outcome.rows_quarantined,
                    warnings=(*column_warnings(self.contract, outcome), *self._same_name(known, original, replaced), *self._promises()),
                    rows_erased=outcome.rows_erased,
                )
        for path, report in self.reports.items():
            gone = replaced.get(report.sha256 or "", ())
            if gone and report.status != "refused":
                self.reports[path] = replace(report, replaced=tuple(file.sha256 for file in gone))
        if errors:
            known.remember_refused(errors)

    def _promises(self) -> list[str]:
        """A contract that breaks what it promised without saying so by its version; told once."""
        told = any(report.warnings for report in self.reports.values())
        return [] if told else [f"the contract of {check.dataset}: {check.detail}" for check in self.noted if not check.passed]

    def _same_name(self, known: KnownFiles, original: Original, replaced: Mapping[str, Sequence[KnownFile]]) -> list[str]:
        """A hint where a file looks like the repaired version of one that had bad rows."""
        if original.sha256 in replaced:
            return []
        name = original.path.name
        earlier = [
            file
            for file in known.files(name=name)
            if file.sha256 != original.sha256 and file.replaced_by is None and file.rows_quarantined and file.batch
        ]
        if not earlier:
            return []
        bad = sum(file.rows_quarantined for file in earlier)
        return [
            f"{name} arrived before with other content, of which {bad:,} rows were quarantined: both count. If this one repairs it, "
            f"replace it: lakehouse ingest {self.contract.name} {original.path} --repaired"
        ]

    def _complete(self, known: KnownFiles) -> None:
        """What killed processes left undone, this dataset's batches before this call included."""
        con = self.lake.open_connection()
        try:
            remove_dead(self.lake, con, self.contract, known, run=self.run)
            Unrecorded(self.lake, self.contract, self.settings).settle(con, known)
            reached(Point.BEFORE_INDEX)
            index_batches(self.lake, con, self.contract)
        finally:
            con.close()


def _assertion(contract: DatasetContract, check: CheckResult) -> Assertion:
    subject, _, kind = check.id.rpartition(".")
    column = subject if any(one.name == subject for one in contract.columns) else None
    return Assertion(check.id, kind, check.passed, check.severity is Severity.ERROR, check.rows_failed, column)


def _is_meant(file: KnownFile, wanted: str) -> bool:
    return file.file == wanted or (_DIGEST.fullmatch(wanted) is not None and file.sha256.startswith(wanted))


def _size(path: Arrived) -> int:
    looks = looks_of(path)
    return 0 if looks is None else looks.size_bytes
