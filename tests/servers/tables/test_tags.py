import pytest

from tests.tables.test_tags import *  # noqa: F403

pytestmark = pytest.mark.servers
