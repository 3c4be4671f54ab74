"""What is said of videos is what the model says of them, whatever batches they came in."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import vidprune
from tiny_videomae import clips, tiny_videomae
from vidprune.corpus.answers import Question, answers
from vidprune.corpus.items import Item
from vidprune.corpus.reading import Decoded
from vidprune.inference import Classifier, ViewModel, clip_key
from vidprune.metrics import mean_probabilities
from vidprune.video import Protocol

PROTOCOL = Protocol(sampling="segment", segments=3, crops=1, frames=16, size=64)


def pixels(seed: int) -> Tensor:
    return (clips(3, seed=seed) * 40 + 128).clamp(0, 255).to(torch.uint8)


def videos() -> Iterator[Decoded]:
    for number in range(5):
        item = Item(f"{number}.mp4", f"{number}.mp4")
        if number in (1, 4):
            yield Decoded(item, None, "broken")
        else:
            yield Decoded(item, pixels(number))


def classifier(batch_size: int = 4) -> Classifier:
    pruned = vidprune.prune(tiny_videomae(), "random:r=5")
    return Classifier(pruned, PROTOCOL, batch_size=batch_size, device=torch.device("cpu"))


def test_rows_are_those_of_each_video_alone() -> None:
    model = classifier()
    found = dict(answers(model, Question(kind="classes", top_k=3), videos()))
    assert [item.name for item in found] == [f"{number}.mp4" for number in range(5)]
    for item, rows in found.items():
        (row,) = rows
        assert row["video"] == item.name
        if row["error"] is not None:
            assert row == {"video": item.name, "view": None, "error": "broken"}
            continue
        keys = torch.tensor([clip_key(item.name, view) for view in range(3)])
        logits = model(pixels(int(item.name[0])), keys)
        best = mean_probabilities(logits).sort(descending=True, stable=True)
        assert row["labels"].tolist() == best.indices[:3].tolist()
        assert row["probabilities"].tolist() == best.values[:3].float().tolist()


def test_each_view_may_have_its_row() -> None:
    model = classifier()
    question = Question(kind="classes", top_k=1, each_view=True)
    found = [row for _, rows in answers(model, question, videos()) for row in rows]
    assert [row["view"] for row in found] == [0, 1, 2, None, 0, 1, 2, 0, 1, 2, None]
    assert [row["video"][0] for row in found] == list("00012223334")


@pytest.mark.parametrize("views_at_once", [1, 2, 7])
def test_batches_decide_nothing(views_at_once: int) -> None:
    model, question = classifier(views_at_once), Question(kind="classes")
    together = [rows for _, rows in answers(model, question, videos())]
    alone = [rows for video in videos() for _, rows in answers(model, question, [video])]
    for one, other in zip(together, alone, strict=True):
        assert [repr(row) for row in one] == [repr(row) for row in other]


def test_an_embedding_is_the_encoder_s_vector(tmp_path: Path) -> None:
    tiny_videomae().save_pretrained(tmp_path)
    encoder = vidprune.prune(vidprune.load(tmp_path, head=False), "sta:r=5")
    model = ViewModel(encoder, PROTOCOL, batch_size=4, device=torch.device("cpu"))
    found = dict(answers(model, Question(kind="embedding"), videos()))
    (row,) = found[Item("2.mp4", "2.mp4")]
    vectors = model(pixels(2), torch.zeros(3, dtype=torch.int64))
    assert vectors.shape == (3, encoder.config.hidden_size)
    torch.testing.assert_close(torch.from_numpy(row["embedding"]), vectors.mean(0))


def test_what_is_no_number_is_an_error() -> None:
    question = Question(kind="classes")
    outputs = torch.tensor([[1.0, 2.0], [math.nan, 0.0]])
    (row,) = question.rows("x.mp4", outputs)
    assert row["error"] == "the model's output is not finite; try --dtype bf16 or fp32"


def test_a_question_asks_for_something() -> None:
    with pytest.raises(ValueError, match="top_k=0 must be at least 1"):
        Question(kind="classes", top_k=0)
