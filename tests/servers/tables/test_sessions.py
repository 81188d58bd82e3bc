import pytest

from tests.tables.test_sessions import *  # noqa: F403

pytestmark = pytest.mark.servers
