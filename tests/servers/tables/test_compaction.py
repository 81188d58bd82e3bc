import pytest

from tests.tables.test_compaction import *  # noqa: F403

pytestmark = pytest.mark.servers
