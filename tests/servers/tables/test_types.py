import pytest

from tests.tables.test_types import *  # noqa: F403

pytestmark = pytest.mark.servers
