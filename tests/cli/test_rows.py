"""Rows of any table on a terminal of any width."""

from io import StringIO

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lakehouse.cli.rows import print_rows


def printed(columns: list[str], rows: list[list[object]], width: int) -> list[str]:
    out = Console(file=StringIO(), width=width, highlight=False)
    print_rows(out, columns, ["VARCHAR"] * len(columns), rows)
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().splitlines()


def test_what_fits_is_shown_whole() -> None:
    text = "a text of forty-five letters, which just fits"
    assert printed(["name", "note"], [["x", text]], 60) == ["name  note" + " " * (len(text) - 4), f"x     {text}"]


def test_columns_that_do_not_fit_are_named() -> None:
    columns = [f"column_{number:02}" for number in range(30)]
    *grid, more = printed(columns, [["value"] * 30] * 3, 80)
    assert len(grid) == 4
    assert grid[0].split() == columns[:7]
    assert more.startswith("and 23 columns more: column_07, ")
    assert "--json" in more


@given(
    st.integers(1, 12).flatmap(
        lambda width: st.lists(
            st.lists(
                st.none() | st.integers() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=90),
                min_size=width,
                max_size=width,
            ),
            max_size=4,
        ).map(lambda rows: (width, rows))
    ),
    st.integers(30, 200),
)
def test_each_row_is_one_line_within_the_width(table: tuple[int, list[list[object]]], width: int) -> None:
    count, rows = table
    lines = printed([f"c{number}" for number in range(count)], rows, width)
    assert len(lines) in {len(rows) + 1, len(rows) + 2}
