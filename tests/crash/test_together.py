"""Several processes ingest, build and maintain the same tables at once: what is left is what one after the other would leave."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.conftest import DISK
from tests.crash.operations import TOGETHER
from tests.crash.suite import Driver, Root, content

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# What is compared: its rows do not say how often, and at which states, it was built.
LAYERS = ("raw.", "quarantine.", "staging.", "features.", "analytics.")
TOLD_BY_EACH_BUILD = "analytics.household_status_history"


@pytest.fixture
def homes(driver: Driver, tmp_path: Path, root: Root) -> Iterator[tuple[Path, Path]]:
    """Two that begin alike."""
    together, alone = tmp_path / f"together-{tmp_path.name}", tmp_path / f"alone-{tmp_path.name}"
    together.mkdir()
    driver.run(TOGETHER["deliveries forward"], "prepare", root.settings(together))
    root.copy(together, alone)
    yield together, alone
    for home in (together, alone):
        root.remove(home)


@pytest.mark.parametrize("root", [DISK])
def test_ingesting_building_and_maintaining_at_once(driver: Driver, root: Root, homes: tuple[Path, Path]) -> None:
    together, alone = homes
    at_once = ["deliveries forward", "deliveries backward", "builds", "builds", "maintenance"]
    started = [driver.start(TOGETHER[name], "act", root.settings(together)) for name in at_once]
    for name, pid in zip(at_once, started, strict=True):
        answer = driver.wait(pid)
        assert answer["status"] == 0, f"{name}: {answer.get('said')}"
    driver.run(TOGETHER["last build"], "act", root.settings(together))
    for name in ("deliveries forward", "last build"):
        driver.run(TOGETHER[name], "act", root.settings(alone))
    found, expected = content(root, together), content(root, alone)
    assert found.keys() == expected.keys()
    for table in sorted(found):
        if table.startswith(LAYERS) and table != TOLD_BY_EACH_BUILD:
            assert found[table] == expected[table], table
