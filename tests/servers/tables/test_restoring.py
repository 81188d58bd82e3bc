import pytest

from tests.tables.test_restoring import *  # noqa: F403

pytestmark = pytest.mark.servers
