"""The page as a browser shows it: white is what went, and nobody is asked for anything."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from looked_clips import GRID, looked
from vidprune.drawing.page import page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HOSTILE = '</script><img src=x onerror="window.hit=1"><!--.mp4'


@pytest.fixture
def tab(browser: "Browser", tmp_path: Path) -> Iterator["Page"]:
    path = tmp_path / "index.html"
    path.write_text(page([looked(), looked(HOSTILE, HOSTILE)], title="t"), encoding="utf-8")
    context = browser.new_context()
    wrong: list[str] = []
    shown = context.new_page()
    shown.on("pageerror", lambda error: wrong.append(str(error)))
    # (Chromium thinks that to read pixels, as the test does, could be faster.)
    shown.on("console", lambda said: "readback" in said.text or wrong.append(said.text))
    shown.on("request", lambda asked: wrong.append(asked.url) if "http" in asked.url else None)
    shown.goto(path.as_uri())
    until(shown, "clip.pictures.every((picture) => picture.complete)")
    shown.evaluate("draw()")
    yield shown
    assert not wrong
    context.close()


def until(tab: "Page", expression: str) -> None:
    """Wait; the page's own policy keeps playwright from doing so inside of it."""
    for _ in range(300):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"never: {expression}")


def white_places(tab: "Page") -> list[int]:
    """Which places of the shown frame are white in the second card, by the pixel in the middle."""
    found: list[int] = tab.evaluate(
        """([rows, columns]) => {
            const canvas = document.querySelectorAll("canvas")[2], pen = canvas.getContext("2d");
            const white = [];
            for (let place = 0; place < rows * columns; place++) {
                const x = (place % columns + 0.5) * canvas.width / columns;
                const y = (Math.floor(place / columns) + 0.5) * canvas.height / rows;
                const [red, green, blue] = pen.getImageData(x, y, 1, 1).data;
                if (red === 255 && green === 255 && blue === 255) white.push(place);
            }
            return white;
        }""",
        [GRID.rows, GRID.columns],
    )
    return found


def move(tab: "Page", frame: int) -> None:
    tab.fill("#frame", str(frame))


def test_white_is_what_went_in_each_frame_at_each_stage(tab: "Page") -> None:
    standing = looked().looks[1].stages[0].standing.reshape(GRID.frames, -1)
    for frame in range(4):
        move(tab, frame)
        wanted = [place for place, owner in enumerate(standing[frame // 2]) if owner < 0]
        assert white_places(tab) == wanted
    tab.select_option("#stage", label="before any")
    assert white_places(tab) == []


def test_pointing_at_a_place_tells_what_became_of_it(tab: "Page") -> None:
    canvas = tab.locator("article canvas").nth(1)
    box = canvas.bounding_box()
    assert box is not None
    for column, said in (
        (0.5, "stands for 2 more"),
        (1.5, "merged into frames 1-2, row 1, column 1"),
        (2.5, "dropped"),
    ):
        x, y = column * box["width"] / GRID.columns, 0.5 * box["height"] / GRID.rows
        canvas.hover(position={"x": x, "y": y})
        assert said in tab.locator("article .place").nth(1).inner_text()


def test_names_are_shown_and_never_run(tab: "Page") -> None:
    tab.select_option("#clip", index=1)
    assert HOSTILE in tab.inner_text("#cards")
    assert tab.evaluate("window.hit") is None


def test_heat_maps_come_with_their_scale(tab: "Page") -> None:
    assert not tab.is_visible("#scale")
    for shown in ("GradNorm of swing (predicted)", "redundancy"):
        tab.select_option("#shown", label=shown)
        assert tab.is_visible("#scale")
    assert tab.inner_text("#low") == "0.0"


def test_it_plays(tab: "Page") -> None:
    tab.click("#play")
    until(tab, "document.getElementById('frame').value !== '0'")
    tab.click("#play")
    assert tab.get_attribute("#play", "aria-pressed") == "false"
