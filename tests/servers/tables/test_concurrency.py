import pytest

from tests.tables.test_concurrency import *  # noqa: F403

pytestmark = pytest.mark.servers
