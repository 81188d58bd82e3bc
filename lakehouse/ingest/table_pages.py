"""What the pages of a database's table are called: by their source, the instant, and the number of the look."""

import re
from datetime import UTC, datetime

_NAME = re.compile(r"^.+_\d{8}T\d{6}Z_\d{8}\.parquet$")


def page_name(source: str, now: datetime, number: int) -> str:
    """The page of a look; later ones come later by name."""
    return f"{source}_{now.astimezone(UTC):%Y%m%dT%H%M%SZ}_{number:08d}.parquet"


def is_table_page(name: str) -> bool:
    """It may have newer versions of rows that an earlier page has."""
    return _NAME.match(name) is not None
