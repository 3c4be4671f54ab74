"""A pruned model that is saved, or pushed to a hub, comes back pruned; to others it is dense."""

import base64
import copy
import inspect
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
import torch
from transformers import (
    AutoModelForVideoClassification,
    VideoMAEForVideoClassification,
    pipeline,
)
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

import vidprune
from tiny_videomae import clips, tiny_videomae
from vidprune.cli import main
from vidprune.commands.evaluate import model_digest
from vidprune.demo.clips import write_clips
from vidprune.prepare import ViewOptions, load_model
from vidprune.pruned import RECORDED
from vidprune.reducers.spec import describe

SPEC = "sta:r=4,order=BFB"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    vidprune.prune(tiny_videomae(num_hidden_layers=3), SPEC).save_pretrained(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_it_comes_back_pruned(saved: Path) -> None:
    model, wanted = vidprune.load(saved), vidprune.prune(tiny_videomae(num_hidden_layers=3), SPEC)
    assert model.reducer == wanted.reducer
    pixels = clips(2)
    torch.testing.assert_close(model(pixels).logits, wanted(pixels).logits)
    again = type(wanted).from_pretrained(saved)
    assert again.reducer == wanted.reducer
    told, info = type(wanted).from_pretrained(saved, output_loading_info=True)
    assert told.reducer == wanted.reducer
    assert not info["missing_keys"]


@pytest.mark.parametrize("kind", [VideoMAEForVideoClassification, AutoModelForVideoClassification])
def test_to_transformers_it_is_the_dense_model(saved: Path, kind: Any) -> None:
    model, pixels = kind.from_pretrained(saved).eval(), clips(2)
    model.config.fc_norm_eps = None
    dense = tiny_videomae(num_hidden_layers=3)
    torch.testing.assert_close(model(pixels).logits, dense(pixels).logits)


def test_saving_leaves_the_model_as_it_was(saved: Path) -> None:
    dense = tiny_videomae(num_hidden_layers=3)
    pruned = vidprune.prune(dense, SPEC)
    pruned.save_pretrained(saved)
    assert not hasattr(dense.config, RECORDED)
    assert not hasattr(pruned.config, RECORDED)


def test_what_is_dense_again_is_saved_so(saved: Path, tmp_path: Path) -> None:
    """Though it was loaded from a folder that records a reducer, also as commands load it."""
    for number, dense in enumerate(
        (vidprune.unprune(vidprune.load(saved)), load_model(str(saved), options=ViewOptions()))
    ):
        dense.save_pretrained(tmp_path / str(number))
        record = json.loads((tmp_path / str(number) / "config.json").read_text())
        assert RECORDED not in record
        assert not isinstance(vidprune.load(tmp_path / str(number)), type(vidprune.load(saved)))


def test_weights_are_the_same_model_s_whatever_is_recorded(saved: Path) -> None:
    dense = load_model(str(saved), options=ViewOptions())
    assert model_digest(vidprune.load(saved)) == model_digest(dense)


def test_a_reducer_that_cannot_be_is_named(saved: Path) -> None:
    config = saved / "config.json"
    record = json.loads(config.read_text())
    for recorded, sentence in (
        ("newest:r=4", "reducer 'newest' is not known"),
        ("sta:r=400", "r=400"),
    ):
        config.write_text(json.dumps(record | {RECORDED: recorded}))
        with pytest.raises(ValueError, match=rf"records {RECORDED}='{recorded}', which cannot be"):
            vidprune.load(saved)
        with pytest.raises(ValueError, match=sentence):
            vidprune.load(saved)


def test_what_is_pruned_by_nothing_is_saved_as_dense(saved: Path) -> None:
    """And an older section goes out of the card."""
    card = saved / "README.md"
    card.write_text("# Mine\n\n" + card.read_text())
    vidprune.prune(tiny_videomae(num_hidden_layers=3), None).save_pretrained(saved)
    assert RECORDED not in json.loads((saved / "config.json").read_text())
    assert "Pruned without" not in card.read_text()
    assert card.read_text().startswith("# Mine\n")
    card.unlink()
    vidprune.prune(tiny_videomae(num_hidden_layers=3), None).save_pretrained(saved)
    assert not card.exists()


@dataclass(frozen=True, kw_only=True)
class Mine(vidprune.STA):
    """A reducer that no text names."""


def test_a_reducer_that_no_text_names_is_not_saved(tmp_path: Path) -> None:
    model = vidprune.prune(tiny_videomae(num_hidden_layers=3), Mine(r=4))
    with pytest.raises(ValueError, match=r"reducer=Mine\(r=4.* cannot be recorded"):
        model.save_pretrained(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_options_may_be_given_by_their_place(tmp_path: Path) -> None:
    model = vidprune.prune(tiny_videomae(num_hidden_layers=3), SPEC)
    model.save_pretrained(tmp_path, True)
    assert vidprune.load(tmp_path).reducer == model.reducer


def test_a_new_head_is_the_model_s_wherever_it_goes(tmp_path: Path) -> None:
    """And any other module, weight or buffer that is set."""
    model, pixels = vidprune.prune(tiny_videomae(num_hidden_layers=3), SPEC), clips(2)
    model.classifier = torch.nn.Linear(model.classifier.in_features, 3)
    model.fc_norm.weight = torch.nn.Parameter(torch.full_like(model.fc_norm.weight, 2))
    wanted = model(pixels).logits
    assert wanted.shape == (2, 3)
    for other in (
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        vidprune.prune(model, SPEC),
        vidprune.prune(vidprune.unprune(model), SPEC),
    ):
        torch.testing.assert_close(other(pixels).logits, wanted)
    halved = copy.deepcopy(model).half()
    assert (halved.classifier.weight.dtype, model.classifier.weight.dtype) == (
        torch.float16,
        torch.float32,
    )


def test_a_saved_model_in_a_pipeline(saved: Path, tmp_path: Path) -> None:
    """As docs/deploying.md has it."""
    write_clips(tmp_path / "clips", per_class=1, seed=5)
    model = vidprune.load(saved)
    sides = {"height": 64, "width": 64}
    processor = VideoMAEImageProcessorPil(
        size={"shortest_edge": 64},
        crop_size=sides,
        image_mean=model.config.image_mean,
        image_std=model.config.image_std,
    )
    classify = pipeline("video-classification", model=model, image_processor=processor)
    (best,) = classify(str(tmp_path / "clips" / "growing" / "000.mp4"), top_k=1)
    assert best["label"] in model.config.id2label.values()


# The card.


def test_a_card_in_another_encoding_stays(saved: Path) -> None:
    card = saved / "README.md"
    card.write_bytes(b"\xff\xfe caf\xe9")
    with pytest.warns(UserWarning, match=r"README.md is not UTF-8 and stays as it is"):
        vidprune.prune(tiny_videomae(num_hidden_layers=3), SPEC).save_pretrained(saved)
    assert card.read_bytes() == b"\xff\xfe caf\xe9"
    assert vidprune.load(saved).reducer is not None


def test_the_card_says_what_it_is(saved: Path) -> None:
    card = (saved / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: video-classification\n")
    assert f"`{SPEC}`" in card
    assert 'vidprune.load("tiny")' in card
    taken = vidprune.costs(vidprune.load(saved))
    assert f"{taken.gmacs_per_view:.2f} billion" in card


def test_what_else_the_card_says_stays(saved: Path) -> None:
    card = saved / "README.md"
    card.write_text("---\nlicense: mit\n---\n\n# Mine\n\nWords.\n")
    for spec in (SPEC, "sta:r=2"):
        vidprune.prune(tiny_videomae(num_hidden_layers=3), spec).save_pretrained(saved)
    text = card.read_text()
    assert text.startswith("---\nlicense: mit\n---\n\n# Mine\n\nWords.\n\n")
    assert text.count("## Pruned without training") == 1
    assert "`sta:r=2`" in text
    assert SPEC not in text


# The command line.


def test_commands_prune_as_recorded_unless_they_are_told(saved: Path, tmp_path: Path) -> None:
    write_clips(tmp_path / "clips", per_class=1, seed=5)
    lines = (tmp_path / "clips" / "test.csv").read_text().splitlines()[:2]
    (tmp_path / "clips" / "two.csv").write_text("\n".join(lines) + "\n")
    words = ["evaluate", "--data", str(tmp_path / "clips" / "two.csv"), "--model", str(saved)]
    for name, more, wanted in (
        ("recorded", [], SPEC),
        ("told", ["--reducer", "random:r=4"], "random:r=4"),
        ("dense", ["--reducer", "none"], "none"),
    ):
        output = tmp_path / name
        assert main([*words, *more, "--workers", "0", "--output", str(output)]) == 0
        assert json.loads((output / "report.json").read_text())["reducer"] == wanted


def test_costs_are_those_of_what_is_recorded(
    saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, wanted in (([], SPEC), (["--reducer", "none"], "none")):
        assert main(["costs", "--model", str(saved), "--json", *words]) == 0
        assert json.loads(capsys.readouterr().out)["reducer"] == wanted


# A hub.


class Hub(BaseHTTPRequestHandler):
    """As much of a hub as pushing and loading a small model takes."""

    files: ClassVar[dict[str, bytes]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/repos/create"):
            self._say({"url": f"http://{self.headers['Host']}/someone/tiny", "id": "someone/tiny"})
        elif "/preupload/" in self.path:
            asked = [file["path"] for file in json.loads(body)["files"]]
            self._say(
                {
                    "files": [
                        {"path": name, "uploadMode": "regular", "shouldIgnore": False}
                        for name in asked
                    ]
                }
            )
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    self.files[value["path"]] = base64.b64decode(value["content"])
            commit = f"http://{self.headers['Host']}/someone/tiny/commit/1"
            self._say({"commitUrl": commit, "commitOid": "1" * 40})
        else:
            self._say({"ok": True})

    def do_HEAD(self) -> None:
        self._file(body=False)

    def do_GET(self) -> None:
        if "/api/" in self.path:
            names = [{"rfilename": name} for name in self.files]
            self._say({"id": "someone/tiny", "sha": "1" * 40, "siblings": names})
        else:
            self._file(body=True)

    def _file(self, *, body: bool) -> None:
        content = self.files.get(self.path.rpartition("/")[2])
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "EntryNotFound")
        else:
            self.send_header("ETag", f'"{hash(content)}"')
            self.send_header("X-Repo-Commit", "1" * 40)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content is not None:
            self.wfile.write(content)

    def _say(self, answer: Any) -> None:
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.files.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


PUSHED = """
import vidprune
vidprune.load({folder!r}).push_to_hub("someone/tiny", token="hf_none")
model = vidprune.load("someone/tiny")
print(vidprune.reducers.spec.describe(model.reducer))
"""


def test_it_is_pushed_and_comes_back_pruned(saved: Path, hub: str, tmp_path: Path) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    settings = {"HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    found = subprocess.run(
        [sys.executable, "-c", PUSHED.format(folder=str(saved))],
        env=clean | settings | {"NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.strip().splitlines()[-1] == SPEC
    card = Hub.files["README.md"].decode()
    assert 'vidprune.load("someone/tiny")' in card
    assert json.loads(Hub.files["config.json"])[RECORDED] == SPEC


def test_load_prunes_as_it_is_asked_whatever_the_checkpoint_records(tmp_path: Path) -> None:
    """By a text, an object or a recipe's file; and not at all by `none`."""
    vidprune.prune(tiny_videomae(), "sta:r=4").save_pretrained(tmp_path / "model")
    recipe = tmp_path / "recipe.json"
    recipe.write_text('{"reducer": "confidence:sta:r=6@0.5@none"}')
    for asked, wanted in (
        (None, "sta:r=4"),
        ("random:r=2", "random:r=2"),
        (vidprune.STA(r=2), "sta:r=2"),
        (str(recipe), "confidence:sta:r=6@0.5@none"),
        ("none", "none"),
    ):
        model = vidprune.load(tmp_path / "model", reducer=asked)
        assert describe(model.reducer) == wanted
        assert not hasattr(model.config, "vidprune_reducer")
    assert list(inspect.signature(vidprune.load).parameters)[:3] == ["source", "reducer", "arch"]
