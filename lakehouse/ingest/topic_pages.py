"""Pages of a topic: files whose names say which offsets of which partition they hold, so that raw's own log is the cursor.

Every offset is in at most one page that counts. A page is refused a place if one that counts holds any of its offsets; since a batch
counts only if no other came in after it had looked, this holds between machines too. What no page holds is fetched again.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

_NAME = re.compile(r"^(?P<slug>.+)__p(?P<partition>\d{4,9})_(?P<begin>\d{19})-(?P<end>\d{19})(?:_again(?P<again>[0-9TZ]{16,24}))?\.ndjson$")


@dataclass(frozen=True, slots=True, order=True)
class Offsets:
    """A range of offsets, the end not among them."""

    begin: int
    end: int

    def overlaps(self, other: "Offsets") -> bool:
        """They have an offset in common."""
        return self.begin < other.end and other.begin < self.end

    def contains(self, other: "Offsets") -> bool:
        """The other's offsets are all among these."""
        return self.begin <= other.begin and other.end <= self.end

    def __len__(self) -> int:
        return max(0, self.end - self.begin)


@dataclass(frozen=True, slots=True)
class TopicPage:
    """What a page's name says.

    Attributes:
        again: when its messages were read once more, to take the place of the pages that held them; empty for the first time.
    """

    slug: str
    partition: int
    offsets: Offsets
    again: str = ""

    @classmethod
    def of(cls, name: str) -> "TopicPage | None":
        """The page of this name; None for any other file."""
        found = _NAME.match(name)
        if found is None or int(found["begin"]) >= int(found["end"]):
            return None
        return cls(found["slug"], int(found["partition"]), Offsets(int(found["begin"]), int(found["end"])), found["again"] or "")

    @property
    def name(self) -> str:
        """Its file's name; names sort as the offsets do."""
        again = f"_again{self.again}" if self.again else ""
        return f"{self.slug}__p{self.partition:04d}_{self.offsets.begin:019d}-{self.offsets.end:019d}{again}.ndjson"

    @property
    def mark(self) -> bytes:
        """Blanks to end the last line with: the same messages elsewhere in the topic are another content."""
        digits = int.from_bytes(sha256(self.name.encode()).digest()[:8], "big")
        return f"{digits:064b}".replace("0", " ").replace("1", "\t").encode()

    def same_place(self, other: "TopicPage") -> bool:
        """Both hold an offset of one partition."""
        return (self.slug, self.partition) == (other.slug, other.partition) and self.offsets.overlaps(other.offsets)


@dataclass(frozen=True, slots=True)
class PageNotes:
    """What a page's name can't say.

    Attributes:
        skips: where offsets are left out (a transaction's mark, an aborted or a compacted message): the row that comes next, and its
            offset.
        lost: offsets that the topic had removed before anybody read them.
        topic_id: Kafka's own, which a topic of the same name that is made anew does not have; empty where the broker told none.
    """

    skips: tuple[tuple[int, int], ...] = ()
    lost: tuple[Offsets, ...] = ()
    topic_id: str = ""

    @classmethod
    def beside(cls, page: Path) -> "PageNotes":
        """Those that were written with the page."""
        try:
            return cls.read(json.loads(notes_path(page).read_text(encoding="utf-8")))
        except FileNotFoundError:
            return cls()

    @classmethod
    def read(cls, found: Any) -> "PageNotes":
        """As `as_dict` wrote them."""
        skips = tuple((int(row), int(offset)) for row, offset in found.get("skips", ()))
        lost = tuple(Offsets(int(begin), int(end)) for begin, end in found.get("lost", ()))
        return cls(skips, lost, str(found.get("topic_id", "")))

    def __bool__(self) -> bool:
        return bool(self.skips or self.lost or self.topic_id)

    def as_dict(self) -> dict[str, object]:
        """As JSON types; nothing where there is nothing to say."""
        skips: dict[str, object] = {"skips": [list(one) for one in self.skips]} if self.skips else {}
        lost: dict[str, object] = {"lost": [[one.begin, one.end] for one in self.lost]} if self.lost else {}
        return skips | lost | ({"topic_id": self.topic_id} if self.topic_id else {})

    def offset_of(self, page: TopicPage, row: int) -> int:
        """The offset of a row of the page."""
        before = [(first, offset) for first, offset in self.skips if first <= row]
        first, offset = before[-1] if before else (1, page.offsets.begin)
        return offset + row - first


def notes_path(page: Path) -> Path:
    """Where a page's notes are; ingestion does not take the file for one that arrived."""
    return page.with_name(f".{page.name}.notes")


def page_source(path: Path) -> dict[str, object]:
    """What raw's log says of a page: topic, partition and offsets; nothing of another file."""
    page = TopicPage.of(path.name)
    if page is None:
        return {}
    offsets = [page.offsets.begin, page.offsets.end]
    return {"topic": page.slug, "partition": page.partition, "offsets": offsets, **PageNotes.beside(path).as_dict()}


class Covered:
    """The offsets that pages hold, by topic and partition, and the ids that Kafka gave these topics."""

    def __init__(self, ranges: Iterable[tuple[str, int, Offsets]] = (), topic_ids: Iterable[tuple[str, str]] = ()) -> None:
        self._ranges: dict[tuple[str, int], list[Offsets]] = {}
        for slug, partition, offsets in ranges:
            self._ranges.setdefault((slug, partition), []).append(offsets)
        self._ids: dict[str, set[str]] = {}
        for slug, topic_id in topic_ids:
            self._ids.setdefault(slug, set()).add(topic_id)

    def add(self, page: TopicPage, *, topic_id: str = "") -> None:
        """Count a page."""
        self._ranges.setdefault((page.slug, page.partition), []).append(page.offsets)
        if topic_id:
            self._ids.setdefault(page.slug, set()).add(topic_id)

    def other_topic(self, slug: str, topic_id: str) -> str | None:
        """The id of another topic that pages are of; None if this one's id, or no id at all, is all that they know."""
        return min(self._ids.get(slug, set()) - {topic_id}, default=None) if topic_id else None

    def holds_some_of(self, page: TopicPage) -> bool:
        """A page that counts has an offset of this one."""
        return any(page.offsets.overlaps(one) for one in self._ranges.get((page.slug, page.partition), ()))

    def missing(self, slug: str, partition: int, *, begin: int, end: int) -> list[Offsets]:
        """What is in no page, from the first offset that is in one (`begin` if none is) up to `end`."""
        held = sorted(self._ranges.get((slug, partition), ()))
        at = held[0].begin if held else begin
        gaps: list[Offsets] = []
        for one in held:
            if one.begin > at:
                gaps.append(Offsets(at, one.begin))
            at = max(at, one.end)
        if at < end:
            gaps.append(Offsets(at, end))
        return gaps

    def next_offset(self, slug: str, partition: int) -> int | None:
        """Behind the last offset that a page holds."""
        return max((one.end for one in self._ranges.get((slug, partition), ())), default=None)
