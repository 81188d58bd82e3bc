"""A Kafka topic, read from the offsets that raw's log has come to: its messages become pages of JSON lines in a landing folder."""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lakehouse.contracts.topics import SourceTopic
from lakehouse.crashpoints import Point, reached
from lakehouse.durable import PRIVATE, finish, new_file, sync
from lakehouse.errors import SourceError
from lakehouse.ingest.sources.kafka_client import ANSWER_S, Client
from lakehouse.ingest.sources.kafka_gaps import EmptyOffsets, without_messages
from lakehouse.ingest.topic_pages import Covered, Offsets, PageNotes, TopicPage, notes_path
from lakehouse.locks import LockHeld, exclusive
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import KafkaError, Message

MOST_MESSAGES = 250_000
"""What one look takes: enough that its commit costs little beside it, and little to read again where it is killed."""
MOST_BYTES = 96 * 1024 * 1024
_PAGE_BYTES = 32 * 1024 * 1024
# A page's notes are in the commit: transactions of a few messages each would make them large.
_PAGE_SKIPS = 2000
_AT_ONCE = 5000
_GATHER_S = 0.1
# A longer message is poison: a reader refuses the file in which a record is longer than its limit.
_LONGEST_MESSAGE = 8 * 1024 * 1024
_SHOWN_OF_POISON = 10_000
# Open files at once.
_PARTITIONS_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the pages of a partition are: behind their last offset, messages in none yet, and those that are lost."""

    offset: int
    messages: int
    lost: int


@dataclass(frozen=True, slots=True)
class PartitionReport:
    """What was read of one partition.

    Attributes:
        offset: behind the last message that is in a page.
        lag: messages that the topic had and that are in no page yet.
        lost: offsets that the topic had removed before they were read.
    """

    partition: int
    offset: int
    messages: int = 0
    lag: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class TopicReport:
    """What one look at a topic brought; `busy` are partitions that another process was reading."""

    topic: str
    partitions: tuple[PartitionReport, ...] = ()
    pages: tuple[Path, ...] = ()
    busy: tuple[int, ...] = ()

    @property
    def messages(self) -> int:
        """In all pages."""
        return sum(one.messages for one in self.partitions)

    @property
    def lag(self) -> int:
        """Of all partitions."""
        return sum(one.lag for one in self.partitions)

    @property
    def lost(self) -> int:
        """Of all partitions."""
        return sum(one.lost for one in self.partitions)

    def after(self, before: "TopicReport") -> "TopicReport":
        """Both looks as one: how far it is now, and what both have read."""
        read = {one.partition: one.messages for one in before.partitions}
        partitions = [replace(one, messages=one.messages + read.pop(one.partition, 0)) for one in self.partitions]
        partitions += [one for one in before.partitions if one.partition in read]
        partitions.sort(key=lambda one: one.partition)
        return TopicReport(self.topic, tuple(partitions), (*before.pages, *self.pages), self.busy)

    def as_dict(self) -> dict[str, Any]:
        """The look as the CLI prints it under --json."""
        return {
            "topic": self.topic,
            "messages": self.messages,
            "lag": self.lag,
            "lost": self.lost,
            "busy": list(self.busy),
            "partitions": [
                {"partition": one.partition, "offset": one.offset, "messages": one.messages, "lag": one.lag, "lost": one.lost}
                for one in self.partitions
            ],
        }


@dataclass(frozen=True, slots=True)
class Again:
    """What to read once more: by partition, and whole pages only, for a page takes the place of pages.

    Attributes:
        pages: the offsets of those that count, in order.
        mark: when this was asked for; a part of the new pages' names.
    """

    pages: Mapping[int, Sequence[Offsets]]
    mark: str


class TopicReader:
    """Reads one topic into one landing folder; offsets are assigned, never asked of a group.

    Args:
        topic: which.
        settings: what the client needs to be let in.
        out: landing folder of the pages.

    Raises:
        SourceError: no driver, or the options can't be used.
    """

    def __init__(self, topic: SourceTopic, settings: Settings, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self._topic, self._out = topic, out
        self._empty = EmptyOffsets()
        self._client = Client(
            topic,
            settings,
            {
                # Asked for by the client; nothing is ever committed by this one.
                "group.id": "lakehouse",
                "client.id": "lakehouse",
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "isolation.level": "read_committed",
                "queued.max.messages.kbytes": 65_536,
                "fetch.message.max.bytes": 16_777_216,
            },
        )

    def __enter__(self) -> "TopicReader":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def lag(self, covered: Covered) -> dict[int, "Lag"]:
        """How far pages are, by partition; no page is written. Offsets without a message count only if some with one come after them.

        Raises:
            SourceError: the brokers can't be reached or refuse, or there is no such topic.
        """
        plans: dict[int, _Plan] = {}
        asked = self._client.partitions()
        self._check_same(covered)
        while asked:
            plans |= {one: self._plan(one, covered) for one in asked}
            wanted = {one: Offsets(plan.start, plan.wanted.end) for one in asked if (plan := plans[one]).wanted is not None}
            asked = without_messages(self._client, wanted) if wanted else []
            for one in asked:
                self._empty.add(one, wanted[one])
        return {plan.partition: Lag(plan.behind, plan.lag, sum(len(gap) for gap in plan.lost)) for plan in plans.values()}

    def offsets_at(self, instant_ms: int) -> dict[int, int]:
        """Of each partition the first offset whose message is of this instant or later.

        Raises:
            SourceError: the brokers can't be reached or refuse, or there is no such topic.
        """
        from confluent_kafka import KafkaException, TopicPartition

        asked = [TopicPartition(self._topic.topic, partition, instant_ms) for partition in self._client.partitions()]
        try:
            found = self._client.consumer.offsets_for_times(asked, timeout=ANSWER_S)
        except KafkaException as error:
            raise self._client.refused(error) from error
        # -1: all of them are older.
        return {one.partition: one.offset if one.offset >= 0 else self._client.ends(one.partition)[1] for one in found}

    def look(
        self,
        covered: Callable[[], Covered],
        *,
        only: Collection[int] | None = None,
        again: Again | None = None,
        most: int = MOST_MESSAGES,
        progress: Callable[[int], None] | None = None,
    ) -> TopicReport:
        """Write the messages that are in no page yet as pages into the folder.

        A partition that another process of this folder reads is left to it.

        A message that is no JSON object on one line becomes one that is, or a text, which ingestion quarantines.

        Args:
            covered: says which offsets pages hold, those in the folder included; asked when the partitions are this process's own.
            only: the partitions to read; all without.
            again: read what pages hold, instead of what none holds.
            most: messages to take at most, about; the rest comes with the next look.
            progress: called with the number of messages that came since the last call.

        Raises:
            SourceError: the brokers can't be reached or refuse, there is no such topic, or it is another than the one read before.
        """
        wanted = [one for one in self._client.partitions() if only is None or one in only]
        reports: dict[int, PartitionReport] = {}
        pages: list[Path] = []
        for first in range(0, len(wanted), _PARTITIONS_AT_ONCE):
            with ExitStack() as held:
                own = [one for one in wanted[first : first + _PARTITIONS_AT_ONCE] if self._is_free(one, held)]
                self._tidy(own)
                found = covered()
                topic_id = self._check_same(found)
                left = most
                while own:
                    plans = [self._plan(one, found) if again is None else self._plan_again(one, again) for one in own]
                    reading = _Reading(
                        self._client, self._out, plans, topic_id=topic_id, most=left, mark=again.mark if again else "", progress=progress
                    )
                    reading.run()
                    reports |= {one.partition: one for one in reading.reports()}
                    pages += reading.pages
                    left -= reading.count
                    # Where there was no message, there may be some behind the next page.
                    own = list(reading.empty) if left > 0 else []
                    for one, offsets in reading.empty.items():
                        self._empty.add(one, offsets)
        in_order = tuple(reports[one] for one in wanted if one in reports)
        return TopicReport(self._topic.name, in_order, tuple(pages), tuple(one for one in wanted if one not in reports))

    def _is_free(self, partition: int, held: ExitStack) -> bool:
        """Hold the partition if no other process of this folder reads it."""
        try:
            held.enter_context(exclusive(self._out / f".{self._topic.slug}__p{partition:04d}.lock"))
        except LockHeld:
            return False
        return True

    def _tidy(self, partitions: Sequence[int]) -> None:
        """Remove what killed processes began; whose partition it is, is the only one that writes."""
        for partition in partitions:
            for dots in (".", ".."):
                for left in self._out.glob(f"{dots}{self._topic.slug}__p{partition:04d}[._]*.tmp"):
                    left.unlink(missing_ok=True)

    def _check_same(self, covered: Covered) -> str:
        """The topic's id; a topic that was made anew has offsets of the old one's numbers, whose messages would be taken for read."""
        topic_id = self._client.topic_id()
        before = covered.other_topic(self._topic.slug, topic_id)
        if before is not None:
            raise _another(self._topic, "was made anew", expected=f"the id {before}", found=topic_id)
        return topic_id

    def _plan(self, partition: int, covered: Covered) -> "_Plan":
        slug = self._topic.slug
        low, high = self._client.ends(partition)
        upto = covered.next_offset(slug, partition)
        if upto is not None and upto > high:
            problem = f"ends before the offset of partition {partition} that was read last"
            raise _another(self._topic, problem, expected=f"at least {upto}", found=str(high))
        self._empty.check(partition, high)
        gaps = covered.missing(slug, partition, begin=low, end=high)
        gaps = [gap for gap in gaps if self._empty.count(partition, gap) < len(gap)]
        lost = tuple(Offsets(gap.begin, min(gap.end, low)) for gap in gaps if gap.begin < low)
        there = [Offsets(max(gap.begin, low), gap.end) for gap in gaps if gap.end > low]
        return _Plan(
            partition,
            # What is behind the first gap comes with the next look. A page begins where the gap does: it accounts for what has no message.
            wanted=there[0] if there else None,
            start=self._empty.behind(partition, there[0].begin) if there else 0,
            lag=sum(len(gap) - self._empty.count(partition, gap) for gap in there),
            lost=lost,
            behind=upto if upto is not None else low,
        )

    def _plan_again(self, partition: int, again: Again) -> "_Plan":
        low, high = self._client.ends(partition)
        pages = [page for page in again.pages.get(partition, ()) if page.begin >= low and page.end <= high]
        # What the topic has removed in part is left as it is.
        wanted = Offsets(pages[0].begin, pages[-1].end) if pages else None
        start = wanted.begin if wanted else high
        return _Plan(partition, wanted=wanted, start=start, behind=start, ends=frozenset(page.end for page in pages))


def _another(topic: SourceTopic, problem: str, *, expected: str, found: str) -> SourceError:
    fix = "Give the server another name in the contract: it is read from its beginning then"
    return SourceError(f"topic {topic.name}", f"{problem}: it is another topic than before", expected=expected, found=found, fix=fix)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to read of one partition.

    Attributes:
        start: the first offset of it that may have a message.
        behind: the offset behind the last one that a page holds.
        ends: where a page may end; anywhere if there is none.
    """

    partition: int
    wanted: Offsets | None
    start: int = 0
    lag: int = 0
    lost: tuple[Offsets, ...] = ()
    behind: int = 0
    ends: frozenset[int] = frozenset()


@dataclass(slots=True)
class _Draft:
    """A page that is being written."""

    begin: int
    file: BinaryIO
    path: Path
    held: ExitStack
    rows: int = 0
    size: int = 0
    skips: list[tuple[int, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Partition:
    """How far a partition is: `at` is the next offset, `waiting` the lines that are not in the draft yet."""

    plan: _Plan
    at: int
    end: int
    messages: int = 0
    waiting: list[bytes] = field(default_factory=list)
    draft: _Draft | None = None
    lost: tuple[Offsets, ...] = ()
    is_done: bool = False

    @property
    def may_end(self) -> bool:
        """A page may end here."""
        return not self.plan.ends or self.at in self.plan.ends or (self.draft is None and not self.waiting)


class _Reading:
    """One look: every partition in one poll loop, each into drafts of its own, which appear as pages together."""

    def __init__(
        self,
        client: Client,
        out: Path,
        plans: Sequence[_Plan],
        *,
        topic_id: str,
        most: int,
        mark: str,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._client, self._out, self._most, self._mark, self._progress = client, out, most, mark, progress
        self._topic_id = topic_id
        self._plans = plans
        self._parts = {
            plan.partition: _Partition(plan, plan.wanted.begin, plan.wanted.end, lost=plan.lost) for plan in plans if plan.wanted
        }
        self._left = len(self._parts)
        self._size = self.count = 0
        self._finished: list[tuple[_Draft, TopicPage, PageNotes]] = []
        self.pages: list[Path] = []

    def run(self) -> None:
        """Read until every partition is at its end or there is enough, and let the pages appear."""
        from confluent_kafka import TopicPartition

        if not self._parts:
            return
        topic = self._client.topic.topic
        with ExitStack() as drafts:
            try:
                places = [TopicPartition(topic, number, one.plan.start) for number, one in self._parts.items()]
                self._client.consumer.assign(places)
                # A partition that was set to rest by an earlier look still rests.
                self._client.consumer.resume(places)
                self._poll(drafts)
            finally:
                self._client.consumer.unassign()
            for one in self._parts.values():
                if one.draft is not None:
                    self._end_page(one)
            topic_id = self._client.topic_id() if self._finished else self._topic_id
            if topic_id != self._topic_id:
                raise _another(self._client.topic, "was made anew", expected=f"the id {self._topic_id}", found=topic_id)
            self._appear()

    @property
    def empty(self) -> dict[int, Offsets]:
        """What was read to its end and has no message; not of what is read again."""
        return {
            number: Offsets(one.plan.start, one.end)
            for number, one in self._parts.items()
            if one.is_done and one.at >= one.end and not one.messages and not one.plan.ends
        }

    def reports(self) -> list[PartitionReport]:
        """Every partition, what there was to read or not."""
        found: list[PartitionReport] = []
        for plan in self._plans:
            one = self._parts.get(plan.partition)
            lost = sum(len(gap) for gap in plan.lost)
            if one is None or plan.wanted is None:
                found.append(PartitionReport(plan.partition, plan.behind, lag=plan.lag, lost=lost))
                continue
            lag = 0 if plan.ends else max(0, plan.lag - max(0, min(one.at, plan.wanted.end) - plan.start))
            found.append(PartitionReport(plan.partition, max(plan.behind, one.at), one.messages, lag, lost))
        return found

    def _poll(self, drafts: ExitStack) -> None:
        from confluent_kafka import KafkaException

        heard = time.monotonic()
        while self._left:
            try:
                messages = self._client.consumer.consume(_AT_ONCE, timeout=_GATHER_S)
            except KafkaException as error:
                raise self._client.refused(error) from error
            count = self._take(messages, drafts)
            for one in self._parts.values():
                self._write(one)
            self.count += count
            if count and self._progress:
                self._progress(count)
            if self._is_full:
                for one in self._parts.values():
                    if one.may_end:
                        self._done(one)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > ANSWER_S:
                raise self._client.refused(None)

    @property
    def _is_full(self) -> bool:
        return self.count >= self._most or self._size >= MOST_BYTES

    def _take(self, messages: "Sequence[Message]", drafts: ExitStack) -> int:
        """The loop that every message goes through: nothing is here but what must be."""
        count = 0
        for message in messages:
            one = self._parts.get(message.partition() or 0)
            error = message.error()
            if error is not None:
                self._answered(error, one, message.offset())
                continue
            offset = message.offset()
            if one is None or one.is_done or offset is None or offset < one.at:
                continue
            if offset >= one.end:
                one.at = one.end
                self._done(one)
                continue
            if offset != one.at or one.draft is None:
                self._place(one, offset, drafts)
            one.waiting.append(line_of(message.value()))
            one.at = offset + 1
            count += 1
            if one.at == one.end or one.at in one.plan.ends:
                self._note(one)
        return count

    def _answered(self, error: "KafkaError", one: _Partition | None, offset: int | None) -> None:
        meaning = self._client.meaning(error)
        if meaning is None or one is None or one.is_done:
            return
        if meaning == "end":
            # Behind the last message there may be marks of transactions, which are no messages.
            one.at = max(one.at, min(offset or 0, one.end))
        # What was removed just now, the next look tells.
        self._done(one)

    def _done(self, one: _Partition) -> None:
        from confluent_kafka import TopicPartition

        if not one.is_done:
            one.is_done = True
            self._left -= 1
            self._client.consumer.pause([TopicPartition(self._client.topic.topic, one.plan.partition)])

    def _place(self, one: _Partition, offset: int, drafts: ExitStack) -> None:
        """Open a draft, or note that offsets are left out."""
        if one.draft is not None:
            self._write(one)
        if one.draft is None:
            held = drafts.enter_context(ExitStack())
            target = self._out / f"{self._client.topic.slug}__p{one.plan.partition:04d}.ndjson"
            file, path = held.enter_context(new_file(target, mode=PRIVATE))
            one.draft = _Draft(one.at, file, path, held)
        if offset != one.at:
            one.draft.skips.append((one.draft.rows + 1, offset))

    def _note(self, one: _Partition) -> None:
        """The partition is at its end, or where a page may end."""
        if one.at == one.end or self._is_full:
            self._done(one)
        self._write(one)

    def _write(self, one: _Partition) -> None:
        """Add what waits to the draft, and end the page where it is large."""
        draft = one.draft
        if draft is None or not one.waiting:
            return
        data = b"\n".join(one.waiting)
        if draft.rows:
            data = b"\n" + data
        draft.file.write(data)
        draft.rows += len(one.waiting)
        draft.size += len(data)
        self._size += len(data)
        one.messages += len(one.waiting)
        one.waiting.clear()
        if (draft.size >= _PAGE_BYTES or len(draft.skips) >= _PAGE_SKIPS) and one.may_end:
            self._end_page(one)

    def _end_page(self, one: _Partition) -> None:
        draft = one.draft
        if draft is None:
            return
        page = TopicPage(self._client.topic.slug, one.plan.partition, Offsets(draft.begin, one.at), self._mark)
        draft.file.write(page.mark + b"\n")
        finish(draft.file)
        self._finished.append((draft, page, PageNotes(tuple(draft.skips), one.lost, self._topic_id)))
        one.draft, one.lost = None, ()

    def _appear(self) -> None:
        for draft, page, notes in self._finished:
            path = self._out / page.name
            if notes:
                with new_file(notes_path(path), mode=PRIVATE) as (file, written):
                    file.write(json.dumps(notes.as_dict()).encode())
                    finish(file)
                    written.replace(notes_path(path))
            reached(Point.BEFORE_CURSOR)
            draft.path.replace(path)
            self.pages.append(path)
        if self._finished:
            sync(self._out)
            reached(Point.AFTER_CURSOR)


def line_of(value: bytes | None) -> bytes:
    """The message as one line: itself, its JSON without line breaks, or, where it is no JSON object, its text as a JSON text."""
    if value is not None and len(value) <= _LONGEST_MESSAGE and value[:1] == b"{" and b"\n" not in value and b"\r" not in value:
        try:
            value.decode("utf-8")
        except UnicodeDecodeError:
            pass
        else:
            return value
    if value is None:
        return b"null"
    if len(value) <= _LONGEST_MESSAGE:
        try:
            found: Any = json.loads(value)
        except (ValueError, RecursionError):
            pass
        else:
            if isinstance(found, dict):
                return json.dumps(found, ensure_ascii=False).encode("utf-8", "surrogatepass")
    return json.dumps(value[:_SHOWN_OF_POISON].decode("utf-8", "backslashreplace")).encode()
