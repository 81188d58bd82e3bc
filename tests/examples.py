"""How many examples a law is tried with: few in each run of the tests, many in `make test-all`."""

import os

from hypothesis import settings


def examples(few: int, *, many: int) -> settings:
    """Settings for a test of a law."""
    return settings(max_examples=many if os.environ.get("LAKEHOUSE_TEST_MANY_EXAMPLES") else few)
