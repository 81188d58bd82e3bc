"""The program that reads one workbook or PDF, in a process of its own: `python document_process.py KIND PATH OUT SHEET`.

Both formats are read by libraries that a file of a kilobyte can make ask for 500 GB, or go round in circles; what ends this
process leaves the one that started it as it was. It imports nothing of the package, so that it starts in milliseconds.

Rows go to OUT as CSV with every value quoted and an empty field for an empty cell; the last line on stdout is a JSON document:
`{"width": columns}` or `{"problem": what is wrong with the file, "fix": what to do}`.
"""

import csv
import json
import resource
import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

Cell = int | float | str | bool | time | date | datetime | timedelta
MEMORY_BYTES = 2 * 1024**3
_BASE_CPU_S = 50
_CPU_S_PER_MB = 1


class Unreadable(Exception):
    """The file can't be read: what is wrong with it, and what to do."""

    def __init__(self, problem: str, fix: str) -> None:
        self.problem = problem
        self.fix = fix
        super().__init__(problem)


def limit_itself(size_bytes: int) -> None:
    """Take no more memory and time than an honest file of this size needs."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    seconds = _BASE_CPU_S + _CPU_S_PER_MB * size_bytes // 1024**2
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def sheet_rows(path: Path, sheet: str | None) -> Sequence[Sequence[str]]:
    """The rows of the named sheet, or of the first with data, from the first to the last row with a value.

    Raises:
        Unreadable: damaged, protected by a password, or the sheet does not exist.
    """
    from python_calamine import CalamineError, CalamineWorkbook, PasswordError, WorksheetNotFound

    try:
        with CalamineWorkbook.from_path(str(path)) as workbook:
            for name in [sheet] if sheet is not None else workbook.sheet_names:
                if rows := _filled(workbook.get_sheet_by_name(name).to_python(skip_empty_area=True)):
                    return [[_text(cell) for cell in row] for row in rows]
    except WorksheetNotFound as error:
        raise Unreadable(f"has no sheet {sheet!r}", "Correct lakehouse.sheet") from error
    except PasswordError as error:
        raise Unreadable("is protected by a password", "Deliver it without one") from error
    except (CalamineError, OSError, ValueError) as error:
        raise Unreadable(f"is not a readable spreadsheet: {error}", "Save it again, or deliver it as CSV") from error
    raise Unreadable("no sheet holds data", "Deliver the file again")


def _filled(rows: list[list[Cell]]) -> list[list[Cell]]:
    """From the first to the last row with a value: an empty row between them is a row."""
    filled = [position for position, row in enumerate(rows) if any(cell != "" for cell in row)]
    return rows[filled[0] : filled[-1] + 1] if filled else []


def _text(cell: Cell) -> str:
    """A cell as it would stand in a CSV file."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, datetime):
        is_date = (cell.hour, cell.minute, cell.second, cell.microsecond) == (0, 0, 0, 0)
        return cell.date().isoformat() if is_date else cell.isoformat(sep=" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell)


def pdf_pages(path: Path) -> Sequence[Sequence[str]]:
    """Number and text of each page.

    Raises:
        ImportError: pypdf is not installed.
        Unreadable: damaged, protected by a password, or without pages.
    """
    import logging

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    # pypdf reports each thing it repairs; the text is what counts.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    pages: list[list[str]] = []
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise Unreadable("is protected by a password", "Deliver it without one")
        for number, page in enumerate(reader.pages, start=1):
            pages.append([str(number), page.extract_text().replace("\0", "")])
    except PyPdfError as error:
        raise Unreadable(f"is not a readable PDF: {error}", "Save it again") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, AssertionError, ZeroDivisionError) as error:
        # What pypdf raises by accident on damaged objects.
        raise Unreadable(f"is not a readable PDF: {type(error).__name__} {error}", "Save it again") from error
    if not pages:
        raise Unreadable("the PDF has no pages", "Save it again")
    return pages


def write_rows(rows: Iterable[Sequence[str]], out: Path) -> int:
    """Write the rows as CSV; returns the width of the widest."""
    width = 0
    with out.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        for row in rows:
            writer.writerow(row)
            width = max(width, len(row))
    return width


def main() -> None:
    """Read the file that the arguments name."""
    kind, path, out, sheet = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] or None
    limit_itself(path.stat().st_size)
    try:
        rows = pdf_pages(path) if kind == "pdf" else sheet_rows(path, sheet)
        told: dict[str, object] = {"width": write_rows(rows, out)}
    except Unreadable as error:
        told = {"problem": error.problem[:500], "fix": error.fix}
    except ImportError as error:
        told = {"missing": error.name}
    except MemoryError:
        told = {"problem": f"needs more than {MEMORY_BYTES // 1024**3} GB of memory to be read", "fix": "Deliver it as CSV or Parquet"}
    sys.stdout.write("\n" + json.dumps(told))


if __name__ == "__main__":
    main()
