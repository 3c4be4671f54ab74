"""A budget by content in jobs: every answer is its setting's own, and costs what it says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from transformers import AutoModelForVideoClassification
from transformers.utils import logging

import tiny_job
import vidprune
from tiny_job import CLASSES, write_checkpoint, write_list
from tiny_videomae import clips, tiny_videomae
from vidprune import cli
from vidprune.insight.watching import watch
from vidprune.macs import gmacs_per_view

SETTINGS = ("sta:r=8", "sta:r=4", "none")


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    logging.disable_progress_bar()
    with tiny_job.one_thread():
        yield
    logging.enable_progress_bar()


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`model`, `videos` 00.mp4 to 06.mp4 of which one is broken, and runs of each setting."""
    folder = tmp_path_factory.mktemp("job")
    write_checkpoint(folder / "model")
    write_list(folder / "videos", videos=7, broken=1)
    for setting in SETTINGS:
        assert evaluate(folder, setting, f"alone-{setting}") == 0
    return folder


def evaluate(job: Path, reducer: str, output: str, *words: str, batch: int = 3) -> int:
    return cli.main(
        [
            *("evaluate", "--model", f"{job}/model", "--data", f"{job}/videos"),
            *("--device", "cpu", "--workers", "0", "--batch-size", str(batch)),
            *("--reducer", reducer, "--output", f"{job}/{output}", *words),
        ]
    )


def rows(job: Path, run: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (job / run / "views.jsonl").read_text().splitlines()]


def confidences(found: list[dict[str, Any]]) -> list[float]:
    return [float(torch.tensor(row["logits"]).softmax(0).max()) for row in found]


def between(values: list[float], rank: int) -> float:
    """A limit with `rank` values below it."""
    values = sorted(values)
    return round((values[rank - 1] + values[rank]) / 2, 7)


def cascade(job: Path) -> tuple[str, list[int]]:
    """A budget that stops a third of the views at each setting, and where each view stops, worked
    out from the settings' own runs."""
    first, second = (confidences(rows(job, f"alone-{each}")) for each in SETTINGS[:2])
    views = len(first)
    limit = between(first, 2 * views // 3)
    left = [second[view] for view in range(views) if first[view] < limit]
    other = between(left, len(left) // 2)
    wanted = [
        0 if first[view] >= limit else 1 if second[view] >= other else 2 for view in range(views)
    ]
    return f"confidence:{SETTINGS[0]}@{limit}@{SETTINGS[1]}@{other}@{SETTINGS[2]}", wanted


def test_every_view_is_answered_by_the_setting_that_is_sure_enough_and_by_nothing_else(job):
    reducer, wanted = cascade(job)
    assert {*wanted} == {0, 1, 2}
    assert evaluate(job, reducer, "mixed", "--parquet") == 0
    found, alone = rows(job, "mixed"), [rows(job, f"alone-{each}") for each in SETTINGS]
    assert [row["setting"] for row in found] == wanted
    for view, row in enumerate(found):
        assert row["logits"] == alone[row["setting"]][view]["logits"]
        assert row["video"] == alone[0][view]["video"]
    table = pyarrow.parquet.read_table(job / "mixed" / "views.parquet")
    assert table["setting"].to_pylist() == wanted


def test_the_report_tells_what_each_setting_answered_and_the_mean_cost(job):
    reducer, wanted = cascade(job)
    evaluate(job, reducer, "mixed")
    report = json.loads((job / "mixed" / "report.json").read_text())
    model = vidprune.load(job / "model")
    own = [gmacs_per_view(vidprune.prune(model, each)) for each in SETTINGS]
    spent = [own[0], own[0] + own[1], sum(own)]
    assert [each["reducer"] for each in report["settings"]] == list(SETTINGS)
    assert [each["views"] for each in report["settings"]] == [wanted.count(n) for n in range(3)]
    assert [each["gmacs_per_view"] for each in report["settings"]] == pytest.approx(spent)
    mean = sum(spent[number] for number in wanted) / len(wanted)
    assert report["gmacs_per_view"] == pytest.approx(mean)
    assert report["reducer"] == reducer


def test_a_run_that_was_cut_off_goes_on_where_it_stopped(job):
    reducer, _ = cascade(job)
    evaluate(job, reducer, "mixed")
    evaluate(job, reducer, "resumed")
    journal = job / "resumed" / "views.jsonl"
    whole = journal.read_text()
    journal.write_text("".join(whole.splitlines(keepends=True)[:9]))
    assert evaluate(job, reducer, "resumed") == 0
    assert journal.read_text() == whole
    ours, theirs = (
        json.loads((job / run / "report.json").read_text()) for run in ("resumed", "mixed")
    )
    assert ours["settings"] == theirs["settings"]
    assert ours["gmacs_per_view"] == theirs["gmacs_per_view"]


def test_other_settings_are_another_run(job, capsys):
    reducer, _ = cascade(job)
    evaluate(job, reducer, "mixed")
    assert evaluate(job, reducer.replace("none", "sta:r=1"), "mixed") == 2
    assert "belongs to another run" in capsys.readouterr().err


def test_agreement_tells_the_mean_cost(job, capsys):
    reducer, _ = cascade(job)
    names = [f"{job}/videos/{number:02d}.mp4" for number in (0, 2, 3, 4, 5, 6)]
    words = ["agreement", *names, "--model", f"{job}/model", "--device", "cpu", "--workers", "0"]
    assert cli.main([*words, "--reducer", reducer, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    evaluate(job, reducer, "mixed")
    report = json.loads((job / "mixed" / "report.json").read_text())
    assert found["rows"][1]["gmacs_per_view"] == pytest.approx(report["gmacs_per_view"])
    assert found["rows"][1]["settings"] == report["settings"]
    assert found["rows"][0]["settings"] == []


def test_a_corpus_gets_the_same_classes(job):
    reducer, _ = cascade(job)
    evaluate(job, reducer, "mixed")
    words = ["predict", f"{job}/videos", "--model", f"{job}/model", "--device", "cpu"]
    words += ["--workers", "0", "--batch-size", "3", "--each-view", "--shard-size", "3"]
    assert cli.main([*words, "--reducer", reducer, "--output", f"{job}/corpus"]) == 1
    found = [
        row for row in pyarrow.parquet.read_table(job / "corpus").to_pylist() if not row["error"]
    ]
    told = {(Path(row["video"]).name, row["view"]): row["labels"][0] for row in found}
    for row in rows(job, "mixed"):
        logits = torch.tensor(row["logits"])
        assert told[Path(row["video"]).name, row["view"]] == int(logits.argmax())


def test_a_pruned_model_answers_each_clip_by_its_setting() -> None:
    dense = tiny_videomae(num_labels=CLASSES)
    batch = clips(6, seed=3)
    parts = [vidprune.prune(dense, each)(batch).logits for each in SETTINGS]
    sure = [part.softmax(-1).amax(-1).tolist() for part in parts]
    reducer = f"confidence:{SETTINGS[0]}@{between(sure[0], 3)}@{SETTINGS[2]}"
    model = vidprune.prune(dense, reducer)
    out = model(batch, labels=torch.arange(6) % CLASSES)
    assert out.setting.tolist() == [int(each < between(sure[0], 3)) for each in sure[0]]
    for place, setting in enumerate(out.setting.tolist()):
        expected = parts[2 if setting else 0][place]
        torch.testing.assert_close(out.logits[place], expected, atol=1e-5, rtol=1e-5)
    wanted = torch.nn.functional.cross_entropy(out.logits, torch.arange(6) % CLASSES)
    torch.testing.assert_close(out.loss, wanted)
    assert vidprune.unprune(model) is dense
    model.train()
    assert all(each.training for each in model.settings)
    model.eval()
    assert not any(each.training for each in model.settings)


def test_what_hears_of_a_forward_hears_of_it_once() -> None:
    dense = tiny_videomae(num_labels=CLASSES)
    heard: list[str] = []
    dense.register_forward_hook(lambda module, given, found: heard.append("forward"))
    vidprune.prune(dense, "confidence:sta:r=8@1@none")(clips(2, seed=1))
    assert heard == ["forward"]


def test_a_trainer_sees_predictions_and_nothing_else() -> None:
    """It takes all items of an output but the loss for them."""
    out = vidprune.prune(tiny_videomae(), "confidence:sta:r=8@0.5@none")(clips(2, seed=1))
    assert list(out.keys()) == ["logits"]
    assert len(out.to_tuple()) == 1
    assert out.setting.shape == (2,)


def test_there_is_no_one_graph_of_it() -> None:
    model = vidprune.prune(tiny_videomae(), "confidence:sta:r=8@0.5@none")
    with pytest.raises(Exception, match="give one of its settings here"):
        torch.export.export(model, (clips(2, seed=1),))


def test_a_look_at_what_stays_asks_for_one_setting() -> None:
    model = vidprune.prune(tiny_videomae(), "confidence:sta:r=8@0.5@none")
    with pytest.raises(ValueError, match="give one of its settings here"):
        watch(model, clips(1, seed=0))


def test_change_is_judged_on_pixels_as_they_were_before_they_were_normalised() -> None:
    dense = tiny_videomae(num_labels=CLASSES)
    dense.config.image_mean, dense.config.image_std = [0.5] * 3, [0.1, 0.2, 0.4]
    seen = torch.rand(4, *clips(1, seed=0).shape[1:], generator=torch.Generator().manual_seed(1))
    seen = 0.5 + (seen - 0.5) * torch.tensor([0.1, 0.3, 0.6, 0.9]).view(-1, 1, 1, 1, 1)
    std = torch.tensor(dense.config.image_std).view(3, 1, 1)
    model = vidprune.prune(dense, "change:sta:r=8@0.15@none")
    expected = vidprune.ByContent(
        signal="change", settings=(vidprune.STA(r=8), None), limits=(0.15,)
    ).first(seen)
    assert {*expected} == {0, 1}
    assert model((seen - 0.5) / std).setting.tolist() == expected


def test_it_is_saved_and_found_again_and_its_card_says_what_a_clip_may_take(tmp_path) -> None:
    model = vidprune.prune(tiny_videomae(), "confidence:sta:r=8@0.5@none")
    model.save_pretrained(tmp_path)
    assert vidprune.load(tmp_path).reducer == model.reducer
    plain = AutoModelForVideoClassification.from_pretrained(tmp_path)
    assert type(plain).__name__ == type(model).__name__
    low, high = (
        gmacs_per_view(vidprune.prune(plain, "sta:r=8")),
        gmacs_per_view(vidprune.prune(plain, "sta:r=8"))
        + gmacs_per_view(vidprune.prune(plain, None)),
    )
    assert f"{low:.2f} to {high:.2f} billion" in (tmp_path / "README.md").read_text()


def test_what_takes_one_setting_says_so(tmp_path, job, capsys) -> None:
    budget = "confidence:sta:r=8@0.5@none"
    model = vidprune.prune(tiny_videomae(), budget)
    with pytest.raises(ValueError, match="return_trace=True is not offered by a budget by content"):
        model(clips(1, seed=0), return_trace=True)
    with pytest.raises(ValueError, match="give one of its settings here"):
        vidprune.costs(model)
    common = ["--model", f"{job}/model", "--reducer", budget]
    video = f"{job}/videos/00.mp4"
    for words in (
        ["export", *common, "--format", "torch", "--output", f"{tmp_path}/model.pt2"],
        ["visualize", video, *common, "--output", f"{tmp_path}/look"],
        ["benchmark", *common],
        ["embed", video, *common, "--output", f"{tmp_path}/vectors"],
        ["curves", *common, "--data", f"{job}/videos", "--at", "0.5", "--output", f"{tmp_path}/c"],
        ["train", *common, "--data", f"{job}/videos/test.csv", "--output", f"{tmp_path}/t"],
    ):
        assert cli.main(words) == 2, words
        assert "a budget by confidence" in capsys.readouterr().err, words
