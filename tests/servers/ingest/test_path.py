import pytest

from tests.ingest.test_path import *  # noqa: F403

pytestmark = pytest.mark.servers
