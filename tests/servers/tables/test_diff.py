import pytest

from tests.tables.test_diff import *  # noqa: F403

pytestmark = pytest.mark.servers
# It is about values, not about where they are, and writes a hundred tables.
del test_law_of_counts  # noqa: F821 # pyright: ignore
