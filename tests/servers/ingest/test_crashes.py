import pytest

from tests.ingest.test_crashes import *  # noqa: F403

pytestmark = pytest.mark.servers
# It looks at what is synced to a disk.
del test_originals_are_on_disk_before_a_commit_names_them  # noqa: F821
