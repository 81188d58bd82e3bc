"""Topics: what is new in them into a dataset, once, again from an offset, or on and on."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import DatasetContract
from lakehouse.errors import ConcurrentWrite, SourceError, StorageError
from lakehouse.instants import parse_instant
from lakehouse.locks import exclusive
from lakehouse.pipeline.events import Event, Progress, State, unwatched
from lakehouse.pipeline.fetching import in_environment, with_waiting
from lakehouse.pipeline.ingestion import ingest_files
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.contracts.topics import SourceTopic
    from lakehouse.ingest import IngestReport
    from lakehouse.ingest.arrivals import Arrived
    from lakehouse.ingest.known import KnownFiles
    from lakehouse.ingest.sources import TopicReport
    from lakehouse.ingest.sources.kafka import Again, Lag, TopicReader
    from lakehouse.ingest.sources.kafka_group import Membership
    from lakehouse.ingest.topic_pages import Covered, Offsets


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One look of a follower, and what became of it.

    Attributes:
        partitions: the follower's own, of all topics.
        report: what was ingested; None where it failed.
        error: why nothing came of it; it is tried again.
    """

    number: int
    partitions: int
    seconds: float
    report: "IngestReport | None" = None
    error: str | None = None

    def as_dict(self) -> dict[str, object]:
        """The look as the CLI prints it under --json."""
        found = self.report.as_dict() if self.report is not None else {}
        return {"batch": self.number, "partitions": self.partitions, "seconds": round(self.seconds, 3), "error": self.error, **found}


@dataclass(frozen=True, slots=True)
class Since:
    """Where messages are read again from: an offset (of one partition, or of every one), or the first message of an instant."""

    offset: int = 0
    partition: int | None = None
    instant: datetime | None = None

    @classmethod
    def parse(cls, text: str) -> "Since":
        """`earliest`, `1200`, `3:1200` (of partition 3), or an instant (ISO, UTC).

        Raises:
            SourceError: it is none of these.
        """
        if text == "earliest":
            return cls()
        partition, _, offset = text.rpartition(":")
        if offset.isdecimal() and offset.isascii() and (not partition or (partition.isdecimal() and partition.isascii())):
            return cls(int(offset), int(partition) if partition else None)
        expected = "earliest, an offset, PARTITION:OFFSET or an instant"
        try:
            return cls(instant=parse_instant(text, subject="--again-from", error=SourceError, expected=expected))
        except SourceError as error:
            raise SourceError(f"--again-from {text}", "names no place in a topic", expected=expected) from error


def topics_of(workspace: Workspace, contract: DatasetContract) -> "tuple[SourceTopic, ...]":
    """The dataset's topics in this environment."""
    return in_environment(contract.topics, workspace.settings)


def check_topics(workspace: Workspace, contract: DatasetContract) -> None:
    """Raise where there is no topic.

    Raises:
        SourceError: the contract names none for this environment.
    """
    if not topics_of(workspace, contract):
        raise SourceError(
            f"dataset {contract.name}",
            "names no topic that could be read",
            expected=f"a server of type kafka in {contract.path or 'its contract'}, for {workspace.settings.environment} or for any",
        )


def lag_of(workspace: Workspace, contract: DatasetContract) -> "dict[tuple[str, int], Lag]":
    """How far the dataset is in its topics, by topic and partition; nothing is read.

    Raises:
        SourceError: a topic can't be looked at.
    """
    found: dict[tuple[str, int], Lag] = {}
    for topic in topics_of(workspace, contract):
        with _reader(workspace, contract, topic) as reader:
            lags = reader.lag(_Pages(workspace, contract).covered())
        found |= {(topic.name, partition): lag for partition, lag in lags.items()}
    return found


def ingest_topics(
    workspace: Workspace, contract: DatasetContract, *, run: str, now: datetime, progress: Progress = unwatched
) -> "IngestReport":
    """Bring in what the dataset's topics had when this began, a micro-batch at a time; memory and disk don't grow with it.

    Raises:
        SourceError: a topic can't be read; what was ingested stays.
    """
    pages = _Pages(workspace, contract)
    # First what an earlier look left behind: only then is it known what is missing.
    reports = [pages.ingest(run=run, now=now, progress=progress)] if pages.are_waiting else []
    for topic in topics_of(workspace, contract):
        with _reader(workspace, contract, topic) as reader:
            left: int | None = None
            while left is None or left > 0:
                looked = _look(topic, reader, pages, progress=progress)
                left = (looked.lag if left is None else left - looked.messages) if looked.messages else 0
                reports.append(replace(pages.ingest(run=run, now=now, progress=progress), topics=(looked,)))
    return joined(reports)


def ingest_again(
    workspace: Workspace, contract: DatasetContract, since: Since, *, run: str, now: datetime, progress: Progress = unwatched
) -> "IngestReport":
    """Read what raw has of the dataset's topics once more, judge it by the contract as it is now, and put it in the place of what is there.

    Each page takes the place of pages in one commit: at every instant raw has each message once, and done twice the rows are the same.
    Reading begins with the page that holds the offset. Messages that the topic no longer has stay as they are.

    Raises:
        SourceError: a topic can't be read; what was ingested stays.
    """
    from lakehouse.ingest.sources.kafka import Again

    check_topics(workspace, contract)
    pages = _Pages(workspace, contract)
    reports = [pages.ingest(run=run, now=now, progress=progress)]
    mark = now.astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    for topic in topics_of(workspace, contract):
        with _reader(workspace, contract, topic) as reader:
            start = reader.offsets_at(int(since.instant.timestamp() * 1000)) if since.instant is not None else None
            wanted: dict[int, list[Offsets]] = {}
            for partition, offsets in pages.that_count(topic):
                first = start.get(partition, 0) if start is not None else since.offset
                if since.partition in {None, partition} and offsets.end > first:
                    wanted.setdefault(partition, []).append(offsets)
            while wanted:
                looked = _look(topic, reader, pages, again=Again(wanted, mark), progress=progress)
                reports.append(replace(pages.ingest(run=run, now=now, progress=progress), topics=(looked,)))
                wanted = _left(wanted, looked)
                if looked.busy and wanted:
                    time.sleep(_BUSY_S)
    return joined(reports)


def follow_topics(
    workspace: Workspace,
    contract: DatasetContract,
    *,
    every_s: float,
    stopped: threading.Event,
    told: Callable[[MicroBatch], None],
    new_run: Callable[[], str],
    then: "Callable[[IngestReport], None] | None" = None,
) -> None:
    """Bring in what comes, a micro-batch every so many seconds, and at once while there is more than one holds.

    Any number of processes may follow a dataset, on one machine or on several: the consumer group shares the partitions out.

    Args:
        workspace: the home.
        contract: of the dataset.
        every_s: from the beginning of a look to that of the next.
        stopped: ends it, after the batch that is under way.
        told: called after each look.
        new_run: an id for each look.
        then: called after each look that brought something.

    Raises:
        SourceError: a topic can't be read at the first look. What goes wrong later is told, and tried again.
    """
    check_topics(workspace, contract)
    pages, changed = _Pages(workspace, contract), threading.Event()
    with _Follower.opened(workspace, contract, pages, changed) as followers:
        number = 0
        while not stopped.is_set():
            began, number = time.monotonic(), number + 1
            changed.clear()
            report, error = None, None
            try:
                looks = tuple(follower.look() for follower in followers)
                report = replace(pages.ingest(run=new_run(), now=datetime.now(UTC)), topics=looks)
                for follower in followers:
                    follower.commit()
            except (SourceError, ConcurrentWrite, StorageError) as problem:
                if number == 1:
                    raise
                error = str(problem)
            own = sum(len(follower.partitions) for follower in followers)
            told(MicroBatch(number, own, time.monotonic() - began, report, error))
            if report is not None and then is not None and report.counts()["ingested"]:
                then(report)
            if report is None or not any(look.lag and look.messages for look in report.topics):
                _wait(stopped, changed, began + every_s)


def _left(wanted: "Mapping[int, Sequence[Offsets]]", looked: "TopicReport") -> "dict[int, list[Offsets]]":
    """The pages that are still to be read again: behind what was read, and those of partitions that another process was reading."""
    read = {one.partition: one.offset for one in looked.partitions if one.messages}
    left = {one: list(pages) for one, pages in wanted.items() if one in looked.busy}
    left |= {one: [page for page in wanted[one] if page.begin >= offset] for one, offset in read.items() if one in wanted}
    return {one: pages for one, pages in left.items() if pages}


def joined(reports: "Sequence[IngestReport]") -> "IngestReport":
    """Several calls as one: the files of all, of each topic the last look with the messages of all."""
    files = tuple(file for report in reports for file in report.files if file.status != "already" or len(reports) == 1)
    topics: dict[str, TopicReport] = {}
    for look in (look for report in reports for look in report.topics):
        before = topics.get(look.topic)
        topics[look.topic] = look if before is None else look.after(before)
    checks = tuple(check for report in reports for check in report.checks)
    return replace(reports[-1], files=files, checks=checks, topics=tuple(topics.values()))


@dataclass(frozen=True, slots=True)
class _Pages:
    """The pages of a dataset: in the landing folder, and those that raw has."""

    workspace: Workspace
    contract: DatasetContract

    def known(self) -> "KnownFiles":
        """What raw has by now."""
        from lakehouse.ingest.known import KnownFiles

        known = KnownFiles(self.workspace.lake, self.contract, self.workspace.settings)
        known.catch_up()
        return known

    def covered(self) -> "Covered":
        """The offsets in raw and in the folder."""
        from lakehouse.ingest.topic_pages import PageNotes, TopicPage

        found = self.known().covered()
        for path in self._landing.glob("*.ndjson"):
            page = TopicPage.of(path.name)
            if page is not None and not page.again:
                found.add(page, topic_id=PageNotes.beside(path).topic_id)
        return found

    def that_count(self, topic: "SourceTopic") -> "list[tuple[int, Offsets]]":
        """Those of a topic, by partition and offset."""
        from lakehouse.ingest.topic_pages import TopicPage

        named = (TopicPage.of(file.file) for file in self.known().files() if file.replaced_by is None)
        return sorted((page.partition, page.offsets) for page in named if page is not None and page.slug == topic.slug)

    def ingest(self, *, run: str, now: datetime, progress: Progress = unwatched) -> "IngestReport":
        """Ingest the pages that wait, one process of this home at a time: two would only be in each other's way."""
        with exclusive(self._landing / ".pages.lock", waiting=lambda: None):
            self._tidy()
            reports = [
                ingest_files(self.workspace, self.contract, portion, run=run, now=now, progress=progress) for portion in self._portions()
            ]
            self._tidy()
        return joined(reports)

    def _portions(self) -> "list[list[Arrived]]":
        """What waits, each portion for a commit of its own: who is killed leaves only one of them to be ingested again."""
        portions: list[list[Arrived]] = [[]]
        size = 0
        for one in sorted(with_waiting(self.workspace, self.contract, {}), key=str):
            own = _size(one)
            if portions[-1] and size + own > _PORTION_BYTES:
                portions.append([])
                size = 0
            portions[-1].append(one)
            size += own
        return portions

    @property
    def are_waiting(self) -> bool:
        """There is one in the folder."""
        return next(self._landing.glob("*.ndjson"), None) is not None

    @property
    def _landing(self) -> Path:
        return self.workspace.settings.landing_dir / self.contract.name

    def _tidy(self) -> None:
        """Remove the pages that have no more to do here: archived with their batch, or what they hold came by another."""
        from lakehouse.ingest.known import cuts_one
        from lakehouse.ingest.topic_pages import TopicPage, notes_path

        named = [(path, TopicPage.of(path.name)) for path in self._landing.glob("*.ndjson")]
        pages = [(path, page) for path, page in named if page is not None]
        if not pages:
            return
        known = self.known()
        covered = known.covered()
        for path, page in pages:
            if (known.files(name=path.name) or cuts_one(known, page)) if page.again else covered.holds_some_of(page):
                path.unlink(missing_ok=True)
                notes_path(path).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class _Follower:
    """One topic that is followed."""

    topic: "SourceTopic"
    reader: "TopicReader"
    member: "Membership"
    pages: _Pages

    @classmethod
    @contextmanager
    def opened(
        cls, workspace: Workspace, contract: DatasetContract, pages: _Pages, changed: threading.Event
    ) -> "Iterator[list[_Follower]]":
        from contextlib import ExitStack

        from lakehouse.ingest.sources.kafka_group import Membership, group_of

        landing = workspace.settings.landing_dir / contract.name
        raw = workspace.lake.storage.address(*contract.raw.split("."))
        followers: list[_Follower] = []
        with ExitStack() as held:
            for topic in topics_of(workspace, contract):
                reader = held.enter_context(_reader(workspace, contract, topic))
                # What is wrong with the topic is found out before anybody joins its group.
                reader.lag(pages.covered())
                member = Membership(topic, group=group_of(topic, raw), settings=workspace.settings, folder=landing, changed=changed)
                held.callback(member.close)
                followers.append(cls(topic, reader, member, pages))
            changed.wait(_JOIN_S)
            yield followers

    @property
    def partitions(self) -> frozenset[int]:
        """This follower's own."""
        return self.member.partitions

    def look(self) -> "TopicReport":
        """Read what is new in this follower's own partitions."""
        self.member.check()
        return _look(self.topic, self.reader, self.pages, only=self.partitions)

    def commit(self) -> None:
        """Tell the group how far raw is."""
        covered = self.pages.known().covered()
        offsets = {one: upto for one in self.partitions if (upto := covered.next_offset(self.topic.slug, one)) is not None}
        self.member.commit(offsets)


_BUSY_S = 0.5
# About a second's work.
_PORTION_BYTES = 24 * 1024 * 1024
# The first member waits for others for as long as the broker says: 3 seconds, as Kafka comes.
_JOIN_S = 15.0


def _size(waiting: "Arrived") -> int:
    """In bytes; pages are files of this machine, and what has gone meanwhile takes no time."""
    try:
        return waiting.stat().st_size if isinstance(waiting, Path) else 0
    except FileNotFoundError:
        return 0


@contextmanager
def _reader(workspace: Workspace, contract: DatasetContract, topic: "SourceTopic") -> "Iterator[TopicReader]":
    from lakehouse.ingest.sources.kafka import TopicReader

    with TopicReader(topic, workspace.settings, workspace.settings.landing_dir / contract.name) as reader:
        yield reader


def _look(
    topic: "SourceTopic",
    reader: "TopicReader",
    pages: _Pages,
    *,
    only: frozenset[int] | None = None,
    again: "Again | None" = None,
    progress: Progress = unwatched,
) -> "TopicReport":
    progress(Event("fetch", topic.name, State.STARTED))
    looked = reader.look(pages.covered, only=only, again=again)
    lost = f", {looked.lost:,} removed by the topic before they were read" if looked.lost else ""
    detail = f"{looked.messages:,} messages, {looked.lag:,} behind{lost}"
    progress(Event("fetch", topic.name, State.FINISHED if looked.pages else State.SKIPPED, detail))
    return looked


def _wait(stopped: threading.Event, changed: threading.Event, until: float) -> None:
    """Until it is time, somebody ends it, or there are other partitions to read."""
    while not stopped.is_set() and (left := until - time.monotonic()) > 0 and not changed.wait(min(left, 0.5)):
        pass
