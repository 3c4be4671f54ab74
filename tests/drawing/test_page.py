"""The page holds what it shows, and nothing that a file's name could smuggle in."""

import base64
import json
import re
from typing import Any

import numpy as np

from vidprune.drawing.page import page
from vidprune.insight.look import ClipLook, ReducerLook, StageLook
from vidprune.layout import TokenGrid
from vidprune.report import Guess

GRID = TokenGrid(frames=2, rows=2, columns=3)
HOSTILE = '</script><script>alert("&lt;")</script><!--\u2028'


def looked(video: str = "clip.mp4", name: str = "swing") -> ClipLook:
    guesses = (Guess(label=1, name=name, probability=0.75),)
    stage = StageLook(
        title="after block 3",
        grid=GRID,
        entering=12,
        kept=4,
        standing=np.array([0, 0, -1, 3, -1, -1, 6, 0, -1, 9, -1, -1]),
        scores={"redundancy": np.array([np.nan] * 6 + [0.0, 1, 2, 3, 4, 5], dtype=np.float32)},
        gradnorm=0.5,
    )
    dense = ReducerLook(
        reducer="none",
        gmacs=2.0,
        milliseconds=20.0,
        guesses=guesses,
        trajectory=(0.9, 0.8),
        stages=(),
    )
    return ClipLook(
        video=video,
        frames=np.random.default_rng(1).integers(0, 255, (4, 20, 30, 3), dtype=np.uint8),
        grid=GRID,
        gradnorm=np.arange(12, dtype=np.float32),
        gradnorm_of=f"{name} (predicted)",
        looks=(
            dense,
            ReducerLook(
                reducer="tome:r=8",
                gmacs=1.0,
                milliseconds=10.0,
                guesses=guesses,
                trajectory=(0.9, None),
                stages=(stage,),
            ),
        ),
    )


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def test_numbers_come_back_as_they_were() -> None:
    clip = looked()
    held = data_of(page([clip, clip], title="t"))["clips"]
    assert len(held) == 2
    stage = held[1]["looks"][1]["stages"][0]
    standing = np.frombuffer(base64.b64decode(stage["standing"]), "<i4")
    assert standing.tolist() == clip.looks[1].stages[0].standing.tolist()
    scores = base64.b64decode(stage["scores"]["redundancy"]["steps"])
    assert list(scores[:6]) == [255] * 6
    assert list(scores[6:]) == sorted(scores[6:])
    assert held[0]["looks"][1]["trajectory"] == [0.9, None]
    assert all(frame.startswith("data:image/jpeg;base64,") for frame in held[0]["frames"])


def test_nothing_is_fetched_and_no_name_is_markup() -> None:
    text = page([looked(HOSTILE, HOSTILE)], title=f"{HOSTILE}{{{{data}}}}")
    assert len(re.findall("<script", text)) == 2
    assert (
        "alert"
        not in re.sub(r'<script id="data".*?</script>', "", text, flags=re.DOTALL)
        .split("<body>")[1]
        .split("</header>")[1]
    )
    assert data_of(text)["clips"][0]["video"] == HOSTILE
    assert not re.findall(
        r"(?:src|href)\s*=\s*[\"']|url\(|@import|https?:(?!//www.w3.org/2000/svg)", text
    )
    assert "default-src 'none'" in text
