"""Pages that a command writes beside what it prints."""

from pathlib import Path

from lakehouse.errors import QueryError


def write_page(path: Path, page: str) -> None:
    """Write a page where a person asked for it.

    Raises:
        QueryError: it can't be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise QueryError(f"--html {path}", "can't be written", found=str(error), fix="Choose another place") from error
