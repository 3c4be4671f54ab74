"""The page holds what it shows, and nothing that a file's name could smuggle in."""

import base64
import json
import re
from typing import Any

import numpy as np

from looked_clips import looked
from vidprune.drawing.page import page

HOSTILE = '</script><script>alert("&lt;")</script><!--\u2028'


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
