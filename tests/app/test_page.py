"""The page end to end, in a browser: drop a clip, move r, read what changed."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import vidprune
from vidprune import cli
from vidprune.app import page as module
from vidprune.app.answers import Clip, Limits
from vidprune.demo.clips import write_clips
from vidprune.video.encode import write_video

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SOURCE = str(Path(vidprune.__file__).parents[1])
WAIT_MS = 60_000


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    write_clips(folder, per_class=1, seed=5)
    return sorted(folder.rglob("*.mp4"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server in a process of its own, whose home and folder are empty; when it
    ends, nothing may be left of what was uploaded and made."""
    home, temporary = (tmp_path_factory.mktemp(name) for name in ("home", "temporary"))
    port = free_port()
    environment = os.environ | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONPATH": SOURCE}
    command = [sys.executable, "-m", "vidprune", "app", "--port", str(port)]
    options = ["--upload-mib", "8", "--video-seconds", "20"]
    with subprocess.Popen(
        [*command, *options], cwd=home, env=environment, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            said = server.stdout.readline()
            found = re.fullmatch(r"vidprune serves (\S+) until it is interrupted\n", said)
            assert found is not None, said
            assert found[1].startswith(f"http://127.0.0.1:{port}")
            yield found[1].rstrip("/")
        finally:
            server.send_signal(signal.SIGINT)
            try:
                server.wait(timeout=60)
            except subprocess.TimeoutExpired:
                # Otherwise nobody would hear of it: leaving waits for ever.
                server.kill()
                raise
    assert not files_of(home)
    assert not [name for name in files_of(temporary) if "vidprune" in name or "gradio" in name]


@pytest.fixture
def tab(browser: "Browser", served: str) -> Iterator["Page"]:
    yield from opened(browser, served)


def opened(browser: "Browser", address: str) -> Iterator["Page"]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    asked: list[str] = []
    context.on("request", lambda request: asked.append(request.url))
    page = context.new_page()
    page.set_default_timeout(WAIT_MS)
    page.goto(address)
    page.wait_for_selector("#upload input[type=file]", state="attached")
    yield page
    strangers = [url for url in asked if not url.startswith((address, "data:", "blob:"))]
    assert not strangers
    context.close()


def drop(page: "Page", video: Path) -> None:
    page.set_input_files("#upload input[type=file]", video)


def figures(page: "Page") -> dict[str, str]:
    """What stands in the column of the pruned model."""
    page.wait_for_selector("#picture img")
    rows = page.locator("#figures tr").all()
    cells = [row.locator("td").all_inner_texts() for row in rows[1:]]
    return {what: pruned for what, _, pruned in cells}


def test_a_clip_is_dropped_r_is_moved_and_the_numbers_change(
    tab: "Page", clips: list[Path], tmp_path: Path
) -> None:
    drop(tab, clips[0])
    tab.wait_for_selector("#picture img")
    before, picture = figures(tab), tab.get_attribute("#picture img", "src")
    assert re.fullmatch(r"\d+ of 512", before["tokens left"])
    slider = tab.locator("#r input[type=range]")
    slider.focus()
    for _ in range(12):
        slider.press("ArrowRight")
    tab.wait_for_function(
        "before => document.querySelector('#picture img')?.src !== before", arg=picture
    )
    after = figures(tab)
    tokens = [int(found["tokens left"].split()[0]) for found in (before, after)]
    gmacs = [float(found["GMACs per view"].split()[0]) for found in (before, after)]
    assert tokens[1] < tokens[0]
    assert gmacs[1] < gmacs[0]
    assert re.search(r"\d", after["measured time, ms"])
    for name in ("dense", "pruned"):
        assert "%" in tab.inner_text(f"#{name}")
    assert size_of(tab, "#picture img")[0] > 600
    with tab.expect_download() as taken:
        tab.click("#page")
    taken.value.save_as(tmp_path / "page.html")
    assert "which tokens go" in (tmp_path / "page.html").read_text(encoding="utf-8")


def size_of(page: "Page", selector: str) -> tuple[int, int]:
    # One whose address has just changed has no size before it has come.
    page.wait_for_function("of => document.querySelector(of).naturalWidth > 0", arg=selector)
    found: list[int] = page.eval_on_selector(
        selector, "image => [image.naturalWidth, image.naturalHeight]"
    )
    return found[0], found[1]


def test_a_real_clip_is_shown(tab: "Page", shared: Callable[[str], Path]) -> None:
    drop(tab, shared("clips/k400_arm_wrestling__mmaction2_demo.mp4"))
    assert "GMACs per view" in figures(tab)


def test_another_reducer_has_another_answer(tab: "Page", clips: list[Path]) -> None:
    drop(tab, clips[1])
    tab.wait_for_selector("#picture img")
    picture = tab.get_attribute("#picture img", "src")
    tab.click("#reducer input")
    tab.get_by_role("option", name="ToMe").click()
    tab.wait_for_function(
        "before => document.querySelector('#picture img')?.src !== before", arg=picture
    )
    assert re.fullmatch(r"\d+ of 512", figures(tab)["tokens left"])


def test_broken_and_long_uploads_get_a_message_and_the_page_goes_on(
    tab: "Page", clips: list[Path], tmp_path: Path
) -> None:
    drop(tab, clips[2])
    assert "GMACs per view" in figures(tab)
    tab.click("#upload button[aria-label*=emove], #upload button[aria-label*=lear]")
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all" * 100)
    drop(tab, broken)
    tab.get_by_text("This file cannot be read as a video").first.wait_for()
    assert not tab.locator("#picture img").count()
    tab.reload()
    long = tmp_path / "long.mp4"
    write_video(long, np.zeros((900, 32, 32, 3), dtype=np.uint8))
    drop(tab, long)
    tab.get_by_text("Cut a part out of it and drop that").first.wait_for()
    tab.reload()
    drop(tab, clips[2])
    assert "GMACs per view" in figures(tab)


def test_a_slow_upload_leaves_the_page_to_others(
    browser: "Browser", clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one file is being read, another visitor gets an answer."""
    read, held = module.read, threading.Event()

    def slowly(upload: Path, source: str, limits: Limits) -> Clip:
        if upload.name == clips[0].name and upload.read_bytes() == clips[0].read_bytes():
            assert held.wait(timeout=WAIT_MS / 1e3)
        return read(upload, source, limits)

    monkeypatch.setattr(module, "read", slowly)
    address: list[str] = []
    serving = threading.Thread(
        target=module.serve,
        args=(["demo"],),
        kwargs={
            "host": "127.0.0.1",
            "port": free_port(),
            "limits": Limits(),
            "tell": address.append,
        },
        daemon=True,
    )
    serving.start()
    waited = time.monotonic()
    while not address:
        assert time.monotonic() - waited < WAIT_MS / 1e3
        time.sleep(0.1)
    for slow in opened(browser, address[0]):
        drop(slow, clips[0])
        for quick in opened(browser, address[0]):
            drop(quick, clips[1])
            assert "GMACs per view" in figures(quick)
        assert not slow.locator("#picture img").count()
        held.set()
        assert "GMACs per view" in figures(slow)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "70000"], "port=70000 must be 1 to 65535"),
        (["--host", "nonsense.invalid"], "host='nonsense.invalid' is no address of this machine"),
        (["--host", "192.0.2.1"], "host='192.0.2.1' is no address of this machine"),
        (["--upload-mib", "0"], "upload_mib=0 must be at least 1"),
    ],
)
def test_wrong_options_get_a_sentence(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["app", *options]) == cli.USAGE
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_said_in_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert cli.main(["app", "--port", port]) == cli.USAGE
    assert f"port={port} of host='127.0.0.1' cannot be had" in capsys.readouterr().err
