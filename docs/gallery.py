"""Makes the pictures of docs/looking.md anew: `make gallery`.

The committed ones show generated clips. Where ../shared/clips is there, `gallery/` (not committed)
gets the same of real clips. The two screenshots need Playwright and a Chromium.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from playwright.sync_api import Page, sync_playwright

from vidprune.cli import main
from vidprune.commands.demo import CLIP_SEED
from vidprune.demo.clips import write_clips

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
REAL = ROOT.parent / "shared" / "clips"
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
CLIP = "demo-output/clips/rotating_clockwise/000.mp4"
PORT = 7873


def visualize(*words: str) -> None:
    if main(["visualize", *words]) not in (0, 1):
        raise SystemExit(f"visualize {' '.join(words)} failed")


def generated(folder: Path) -> None:
    """Pictures of one clip, which are named as whoever follows the docs would name it."""
    os.chdir(folder)
    write_clips("demo-output/clips", per_class=1, seed=CLIP_SEED)
    for name, reducers in (
        ("look-dropped", ("sta:r=32", "random:r=32")),
        ("look-merged", ("sta:r=16,fold=true",)),
    ):
        visualize(CLIP, "--model", "demo", "--reducer", *reducers, "--output", name)
        shutil.copy(f"{name}/000.png", IMAGES / f"{name}.png")
    scores = ("--scores", "--formats", "png", "--output", "look-scores")
    visualize(CLIP, "--model", "demo", "--reducer", "sta:r=32,stages=1", *scores)
    shutil.copy("look-scores/000.png", IMAGES / "look-scores.png")


def screenshots(folder: Path) -> None:
    """The page that visualize writes, and the app with a clip in it."""
    found = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if found is None:
        print(f"no screenshots: none of {', '.join(CHROMIUM)} is installed", file=sys.stderr)
        return
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1180, "height": 800})
        tab.goto((folder / "look-merged" / "index.html").as_uri())
        tab.wait_for_timeout(1000)
        tab.locator("article canvas").nth(1).hover(position={"x": 100, "y": 60})
        tab.screenshot(path=IMAGES / "look-page.png", full_page=True)
        served(lambda: app(tab, folder / CLIP))
        browser.close()


def app(tab: Page, clip: Path) -> None:
    tab.goto(f"http://127.0.0.1:{PORT}")
    tab.set_input_files("#upload input[type=file]", clip)
    tab.wait_for_selector("#picture img", timeout=120_000)
    tab.wait_for_timeout(1000)
    tab.screenshot(path=IMAGES / "app.png", full_page=True)


def served(then: Callable[[], Any]) -> None:
    """Do something while the app runs."""
    command = [sys.executable, "-m", "vidprune", "app", "--port", str(PORT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            then()
        finally:
            server.terminate()


def real(folder: Path) -> None:
    """The same of real clips; broken ones are named."""
    reducers = ("sta:r=32", "random:r=32", "sta:r=32,fold=true")
    visualize(
        os.path.relpath(REAL), "--model", "demo", "--reducer", *reducers, "--output", str(folder)
    )


def gallery() -> None:
    IMAGES.mkdir(exist_ok=True)
    with TemporaryDirectory() as place:
        generated(Path(place))
        screenshots(Path(place))
        os.chdir(ROOT)
    if REAL.is_dir():
        real(ROOT / "gallery")


if __name__ == "__main__":
    gallery()
