"""How near pruned models are to the dense one, on videos that nobody has labelled."""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.utils import logging

import tiny_job
from test_metrics import softmax, spearman_by_loops
from tiny_job import write_checkpoint, write_list
from vidprune import cli, reading
from vidprune.backbones.checkpoints import load
from vidprune.inference import Classifier, clip_key
from vidprune.macs import gmacs_per_view
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.video import read_views

REDUCERS = ("sta:r=8", "random:r=8")
GOOD = ("00.mp4", "02.mp4", "03.mp4", "04.mp4", "05.mp4", "06.mp4")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """As the command line finds it in a process of its own: transformers not yet imported."""
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `model` and `videos` 00.mp4 to 06.mp4, of which 01.mp4 is broken."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder / "videos", videos=7, broken=1)
    return folder


def agreement(job: Path, *words: str, model: str = "model", reducers: Any = REDUCERS) -> int:
    common = ("--model", f"{job}/{model}", "--device", "cpu", "--workers", "0", "--batch-size", "5")
    return cli.main(["agreement", *words, *common, "--reducer", *reducers])


def videos(job: Path, *names: str) -> list[str]:
    return [f"{job}/videos/{name}" for name in names]


def record(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(capsys.readouterr().out, parse_constant=refuse)


def probabilities(job: Path, reducer: str) -> list[np.ndarray]:
    """Of the good videos, one view at a time through the model itself."""
    model = prune(load(job / "model"), reducer)
    protocol = protocol_for(model, ViewOptions())
    mean, std = (
        torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    found = []
    for path in videos(job, *GOOD):
        views = (read_views(path, protocol).pixels.float() / 255 - mean) / std
        keys = torch.tensor([clip_key(path, view) for view in range(len(views))])
        with torch.no_grad():
            found.append(softmax(model(views, clip_keys=keys).logits.double().numpy()).mean(0))
    return found


# --- the numbers --------------------------------------------------------------------------------


def test_every_figure_is_that_of_the_models_by_numpy(job, capsys):
    assert agreement(job, *videos(job, *GOOD), "--json") == 0
    dense_row, *rows = record(capsys)["rows"]
    dense = probabilities(job, "none")
    assert (dense_row["reducer"], dense_row["nearness"]) == ("none", None)
    assert [row["reducer"] for row in rows] == list(REDUCERS)
    for row in rows:
        pairs = list(zip(dense, probabilities(job, row["reducer"]), strict=True))
        found = {name: value["value"] for name, value in row["nearness"].items() if value}
        assert found == {
            "agreement": pytest.approx(100 * np.mean([a.argmax() == b.argmax() for a, b in pairs])),
            "kl_nats": pytest.approx(
                np.mean([(a * np.log(a / b)).sum() for a, b in pairs]), rel=1e-3
            ),
            "rank_correlation": pytest.approx(
                np.mean([spearman_by_loops(a.tolist(), b.tolist()) for a, b in pairs])
            ),
        }
    values = [row["nearness"]["agreement"]["value"] for row in rows]
    assert any(0 < value < 100 for value in values), "an agreement that can be wrong"


def test_the_record_says_what_was_done(job, capsys):
    agreement(job, f"{job}/videos", "--json", "--segments", "1")
    found = record(capsys)
    assert (found["num_videos"], found["views_per_video"]) == (len(GOOD), 2)
    assert found["protocol"]["segments"] == 1
    assert (found["checkpoint"], found["dtype"]) == (f"{job}/model", "float32")
    assert found["batch_size"] == 5
    assert found["command"].startswith(f"vidprune agreement {job}/videos --json")
    assert found["environment"]["torch"] == torch.__version__
    dense = load(job / "model")
    for row in found["rows"]:
        assert row["gmacs_per_view"] == gmacs_per_view(prune(dense, row["reducer"]))
    assert found["rows"][1]["gmacs_per_view"] < found["rows"][0]["gmacs_per_view"]


def test_a_reducer_that_drops_nothing_is_the_dense_model(job, capsys):
    agreement(job, *videos(job, *GOOD), "--json", reducers=["sta:r=0", "none"])
    for row in record(capsys)["rows"][1:]:
        near = row["nearness"]
        assert near["agreement"]["value"] == 100
        assert near["kl_nats"] == {"value": 0, "low": 0, "high": 0}


def test_each_video_is_decoded_once_and_all_models_get_the_same_batches(job, capsys, monkeypatch):
    decoded: list[str] = []
    batches: dict[int, list[Tensor]] = {}
    decode, start = reading.read_views, Classifier.start

    def see_decode(path: Path, *rest: Any, **how: Any) -> Any:
        decoded.append(path.name)
        return decode(path, *rest, **how)

    def see_batch(self: Classifier, clips: Sequence[Tensor], keys: Sequence[int]) -> Tensor:
        batches.setdefault(id(self), []).append(torch.stack(list(clips)))
        return start(self, clips, keys)

    monkeypatch.setattr(reading, "read_views", see_decode)
    monkeypatch.setattr(Classifier, "start", see_batch)
    agreement(job, *videos(job, *GOOD))
    assert Counter(decoded) == Counter(GOOD)
    dense, *others = batches.values()
    assert len(others) == len(REDUCERS)
    assert [len(clips) for clips in dense] == [5, 5, 5, 5, 4]
    for other in others:
        assert all(map(torch.equal, dense, other))
        assert len(other) == len(dense)


def test_a_video_named_twice_counts_once(job, capsys):
    agreement(job, *videos(job, "00.mp4", "00.mp4", "02.mp4"), f"{job}/videos/0*.mp4", "--json")
    assert record(capsys)["num_videos"] == len(GOOD)


# --- what goes wrong ----------------------------------------------------------------------------


def test_videos_that_cannot_be_read_are_named_and_the_others_go_on(job, capsys):
    names = ("00.mp4", "01.mp4", "gone.mp4", "02.mp4")
    assert agreement(job, *videos(job, *names), "--json") == 1
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["num_videos"] == 2
    assert [video["path"] for video in found["unreadable"]] == videos(job, "01.mp4", "gone.mp4")
    assert "gone.mp4: there is no such file" in shown.err
    agreement(job, *videos(job, "00.mp4", "02.mp4"), "--json")
    assert record(capsys)["rows"] == found["rows"]


def test_where_no_video_can_be_read_there_is_nothing_to_say(job, capsys):
    assert agreement(job, *videos(job, "01.mp4"), "--json") == 1
    found = record(capsys)
    assert found["num_videos"] == 0
    assert all(row["nearness"] is None for row in found["rows"])
    assert agreement(job, *videos(job, "01.mp4")) == 1
    assert "0 videos" in capsys.readouterr().out


def test_one_video_has_no_interval(job, capsys):
    agreement(job, *videos(job, "00.mp4"), "--json")
    near = record(capsys)["rows"][1]["nearness"]
    assert near["kl_nats"]["value"] > 0
    assert (near["kl_nats"]["low"], near["kl_nats"]["high"]) == (None, None)


def test_models_that_overflow_do_not_agree(job, tmp_path, capsys):
    write_checkpoint(tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    weights["classifier.bias"] = torch.full_like(weights["classifier.bias"], torch.nan)
    save_file(weights, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    assert agreement(tmp_path, *videos(job, "00.mp4", "02.mp4"), "--json") == 0
    shown = capsys.readouterr()
    near = json.loads(shown.out)["rows"][1]["nearness"]
    assert (near["not_finite"], near["agreement"]["value"], near["kl_nats"]) == (2, 0, None)
    assert "2 videos do not agree under sta:r=8 because logits are not finite" in shown.err


def test_a_table_for_people(job, capsys):
    assert agreement(job, *videos(job, *GOOD)) == 0
    shown = capsys.readouterr()
    assert "6 videos, 4 views of each" in shown.out
    assert all(reducer in shown.out for reducer in ("none", *REDUCERS))
    assert shown.err == ""


@pytest.mark.parametrize(
    ("reducers", "says"),
    [
        (["sta:r=4", "best:r=4"], ("reducer 'best' is not known", "none, sta")),
        (["sta:r=4", "sta:r=16"], ("cannot drop 16", "smaller r")),
        ([], ("--reducer", "expected at least one argument")),
    ],
)
def test_reducers_that_do_not_work_are_refused_before_anything_is_decoded(
    job, capsys, monkeypatch, reducers, says
):
    monkeypatch.setattr(reading, "read_views", None)
    try:
        status = agreement(job, *videos(job, *GOOD), reducers=reducers)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert len(shown.err.splitlines()) == 1
    for words in says:
        assert words in shown.err
