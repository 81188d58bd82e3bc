"""Make the pictures of the documentation from a real Dagster with real runs.

    .venv/bin/python docs/images/make_screenshots.py            # a scratch home, filled by `lakehouse demo`; writes asset-graph.png
    .venv/bin/python docs/images/make_screenshots.py --home H --all DIR   # an existing home; every page into DIR as well
    .venv/bin/python docs/images/make_screenshots.py --story H            # unattended-*.png, of the home that the test of it keeps:
        LAKEHOUSE_TEST_KEEP_STORY=H .venv/bin/pytest tests/end_to_end/test_unattended.py

Needs Chromium (Debian: apt-get install chromium) and the `dev` extra.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent.parent.parent
OUT = Path(__file__).resolve().parent
CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
MAX_BYTES = 400_000
SHOWN_GROUP = "households"


def environment(home: Path) -> dict[str, str]:
    """The environment of every process that works on the home."""
    return {**os.environ, "LAKEHOUSE_HOME": str(home), "LAKEHOUSE_PROJECT": str(PROJECT), "DAGSTER_HOME": str(home / "dagster")}


@contextmanager
def dagster(home: Path) -> Iterator[str]:
    """`dagster dev` on a free port until the block ends; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (home / "screenshots.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "dagster", "dev", "-w", "workspace.yaml", "-h", "127.0.0.1", "-p", str(port)],
        cwd=PROJECT,
        env={**environment(home), "LAKEHOUSE_SENSOR_INTERVAL_S": "3600"},
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(url, process)
        yield url
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


def wait_for(url: str, process: "subprocess.Popen[bytes]", *, patience_s: float = 180) -> None:
    """Return once the code location has been loaded."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if process.poll() is not None:
            raise SystemExit("dagster dev ended; see screenshots.log in the home")
        try:
            if ask(url, "{ assetNodes { id } }")["assetNodes"]:
                return
        except OSError:
            pass
        time.sleep(1)
    raise SystemExit("dagster dev did not load the definitions in time")


def ask(url: str, query: str) -> dict[str, Any]:
    """Dagster's GraphQL answer."""
    request = urllib.request.Request(f"{url}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)["data"]


def pages(url: str) -> dict[str, str]:
    """Every page worth a look, by the name of its picture."""
    runs = ask(url, "{ runsOrError(limit: 1) { ... on Runs { results { id } } } }")["runsOrError"]["results"]
    found = {
        "groups": f"{url}/asset-groups?expanded=",
        "catalog": f"{url}/assets",
        "household_survey": f"{url}/assets/raw/household_survey",
        "quarantine": f"{url}/assets/quarantine/household_survey",
        "checks": f"{url}/assets/raw/household_survey?view=checks",
        "dbt": f"{url}/assets/analytics/household_vulnerability_by_district_quarter",
        "model": f"{url}/assets/models/household_vulnerability",
        "predictions": f"{url}/assets/models/household_vulnerability_predictions",
        "lineage": f"{url}/assets/models/household_vulnerability_predictions?view=lineage&lineageScope=upstream",
        "households": f"{url}/locations/__repository__@lakehouse/asset-groups/households",
        "automation": f"{url}/automation",
        "jobs": f"{url}/jobs",
        "quality": f"{url}/assets/monitoring/quality_scores",
    }
    if runs:
        found["run"] = f"{url}/runs/{runs[0]['id']}"
    return found


def story_pages(url: str) -> dict[str, str]:
    """What the unattended story looks like, by the name of its picture."""
    return {
        "unattended-runs": f"{url}/runs",
        "unattended-drift": f"{url}/assets/monitoring/drift?view=checks&checkDetail=loan_applications_features_have_not_drifted",
        "unattended-model": f"{url}/assets/models/loan_applications",
    }


def take(addresses: dict[str, str], folder: Path, names: list[str] | None, *, chromium: str) -> None:
    """Open each page in a headless browser and save what it shows."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        for name, address in addresses.items():
            if names is None or name in names:
                page.goto(address, wait_until="domcontentloaded")
                page.wait_for_timeout(6000)
                if name == "unattended-model":
                    page.get_by_text("[Show Markdown]").first.click()
                    page.wait_for_timeout(1000)
                    page.mouse.move(800, 400)
                    page.mouse.wheel(0, -10_000)
                    page.wait_for_timeout(1500)
                page.screenshot(path=str(folder / f"{name}.png"))
        browser.close()


def graph(url: str, picture: Path, *, chromium: str) -> None:
    """The asset graph with one domain open, without the rest of the interface."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page(viewport={"width": 3100, "height": 2100})
        page.goto(f"{url}/asset-groups?expanded=global@global:{SHOWN_GROUP}", wait_until="domcontentloaded")
        page.wait_for_timeout(12_000)
        # To the right of the two side bars, below the search field, left of the zoom buttons.
        page.screenshot(path=str(picture), clip={"x": 545, "y": 115, "width": 2470, "height": 1980})
        browser.close()
    trim(picture)
    optimise(picture)


def trim(picture: Path, *, margin: int = 30) -> None:
    """Cut off what shows nothing but the dotted background."""
    from PIL import Image

    with Image.open(picture) as image:
        grey = image.convert("L")
        drawn = grey.point(lambda value: 255 if value < 205 else 0).getbbox()
        if drawn is None:
            raise SystemExit("the graph shows nothing")
        left, top, right, bottom = drawn
        box = (max(left - margin, 0), max(top - margin, 0), min(right + margin, image.width), min(bottom + margin, image.height))
        image.crop(box).save(picture)


def optimise(picture: Path) -> None:
    """Few colours are enough for boxes and text: a quarter of the size."""
    from PIL import Image

    with Image.open(picture) as image:
        image.convert("RGB").quantize(colors=128, dither=Image.Dither.NONE).save(picture, optimize=True)
    if picture.stat().st_size > MAX_BYTES:
        raise SystemExit(f"{picture} is larger than {MAX_BYTES:,} bytes")


def main() -> None:
    """Parse the arguments and make the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="an existing home; a scratch one is made without")
    parser.add_argument("--all", type=Path, metavar="DIR", help="also save every page worth a look")
    parser.add_argument(
        "--story", type=Path, metavar="HOME", help="only the pictures of the unattended story, from the home that its test kept"
    )
    parser.add_argument("--only", nargs="*", help="of these pages, only the named ones")
    parser.add_argument("--chromium", default=shutil.which("chromium") or "/usr/bin/chromium")
    options = parser.parse_args()
    if options.story is not None:
        with dagster(options.story.resolve()) as url:
            take(story_pages(url), OUT, options.only, chromium=options.chromium)
        for picture in OUT.glob("unattended-*.png"):
            optimise(picture)
        return
    with tempfile.TemporaryDirectory(prefix="lakehouse-pictures-") as scratch:
        home = (options.home or Path(scratch)).resolve()
        if options.home is None:
            subprocess.run([sys.executable, "-m", "lakehouse.cli.main", "demo"], cwd=PROJECT, env=environment(home), check=True)
        with dagster(home) as url:
            if options.all:
                options.all.mkdir(parents=True, exist_ok=True)
                take(pages(url), options.all, options.only, chromium=options.chromium)
            graph(url, OUT / "asset-graph.png", chromium=options.chromium)


if __name__ == "__main__":
    main()
