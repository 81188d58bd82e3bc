"""Which offsets pages hold, without a broker."""

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lakehouse.ingest.topic_pages import Covered, Offsets, PageNotes, TopicPage, notes_path, page_source

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)).map(lambda one: Offsets(one[0], one[0] + one[1])), max_size=12)


@given(RANGES, st.integers(0, 90))
def test_what_is_missing_is_all_that_no_page_holds(held: list[Offsets], end: int) -> None:
    covered = Covered(("events__clicks", 3, one) for one in held)
    gaps = covered.missing("events__clicks", 3, begin=0, end=end)
    inside = {offset for one in held for offset in range(one.begin, one.end)}
    first = min(inside, default=0)
    upto = max([end, *inside])
    missing = [offset for gap in gaps for offset in range(gap.begin, gap.end)]
    assert missing == [
        offset for offset in range(first, upto) if offset not in inside and (offset < end or offset < max(inside, default=0))
    ]
    assert covered.next_offset("events__clicks", 3) == (max(inside) + 1 if inside else None)
    assert covered.next_offset("events__clicks", 4) is None


@given(st.integers(0, 9_999), st.integers(0, 2**62), st.integers(1, 10_000), st.sampled_from(["", "20261121T190000000000Z"]))
def test_a_name_says_what_a_page_holds(partition: int, begin: int, size: int, again: str) -> None:
    page = TopicPage("events__shop.clicks-v1", partition, Offsets(begin, begin + size), again)
    assert TopicPage.of(page.name) == page
    assert not page.mark.strip()


def test_other_files_are_no_pages() -> None:
    for name in ("events.ndjson", "events__clicks__p0001_5-9.ndjson", "a__p0001_0000000000000000009-0000000000000000009.ndjson"):
        assert TopicPage.of(name) is None


def test_equal_messages_elsewhere_are_another_content() -> None:
    marks = {TopicPage("t", number % 3, Offsets(number, number + 1)).mark for number in range(1000)}
    assert len(marks) == 1000


@given(st.lists(st.integers(1, 4), min_size=1, max_size=40))
def test_the_offset_of_a_row_is_known_where_offsets_are_left_out(steps: list[int]) -> None:
    offsets = [sum(steps[: number + 1]) for number in range(len(steps))]
    page = TopicPage("t", 0, Offsets(0, offsets[-1] + 1))
    at, skips = 0, []
    for row, offset in enumerate(offsets, start=1):
        if offset != at:
            skips.append((row, offset))
        at = offset + 1
    notes = PageNotes(tuple(skips))
    assert [notes.offset_of(page, row) for row in range(1, len(offsets) + 1)] == offsets
    assert PageNotes.read(notes.as_dict()) == notes


def test_notes_lie_beside_the_page_and_reach_the_log(tmp_path: Path) -> None:
    page = TopicPage("events__clicks", 2, Offsets(5, 9))
    path = tmp_path / page.name
    assert page_source(path) == {"topic": "events__clicks", "partition": 2, "offsets": [5, 9]}
    notes_path(path).write_text('{"skips": [[2, 7]], "lost": [[0, 5]]}')
    assert page_source(path) == {"topic": "events__clicks", "partition": 2, "offsets": [5, 9], "skips": [[2, 7]], "lost": [[0, 5]]}
    notes_path(path).write_text(json.dumps(PageNotes(topic_id="dY0g").as_dict()))
    assert page_source(path) == {"topic": "events__clicks", "partition": 2, "offsets": [5, 9], "topic_id": "dY0g"}
    assert page_source(tmp_path / "events.ndjson") == {}
