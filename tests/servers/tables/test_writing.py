import pytest

from tests.tables.test_writing import *  # noqa: F403

pytestmark = pytest.mark.servers
