"""STA at work end to end, without a download: generated clips, the shipped model, one table."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from vidprune.backbones.checkpoints import DEMO, load
from vidprune.commands.benchmark import Plan, Subject, subjects
from vidprune.commands.evaluate import evaluate
from vidprune.demo.clips import write_clips
from vidprune.drawing.sheet import sheet
from vidprune.inference import Classifier, clip_key
from vidprune.insight.look import look
from vidprune.metrics import divergence, mean_probabilities, same_class
from vidprune.parallel import Process
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.pruned import prune
from vidprune.report import Demo, DemoRow, Report
from vidprune.runs import RunFolder, write_atomically
from vidprune.video import Sample, read_list, read_views

# Each beside rivals, and beside the dense model on fewer frames and fewer pixels, of equal cost.
REDUCERS = ("sta:r=16", "sta:r=32")
RIVALS = ("random", "random:fold=true", "tome", "ward")
PICTURE = "kept-tokens.png"

_PICTURED = ("sta:r=32", "random:r=32")

# Far from the seeds of training, so that the model has seen none of these clips.
CLIP_SEED = 900_000_000
_BATCH_SIZE = 16
_TIMED_BATCHES = 14


def demo(output: Path, *, per_class: int, tell: Callable[[str], object]) -> Demo:
    """Write clips, evaluate, time and draw; `tell` hears what is going on.

    `output` gets the `clips`, a run folder for each setting, `demo.json` (what is returned) and
    `kept-tokens.png` (which tokens stayed). Raises ValueError where `per_class` is below 1.
    """
    if per_class < 1:
        raise ValueError(f"per_class={per_class} must be at least 1")
    tell("writing clips")
    samples = read_list(write_clips(output / "clips", per_class=per_class, seed=CLIP_SEED))
    settings = subjects(Plan(models=(DEMO,), reducers=REDUCERS, against=RIVALS), DEMO)
    classifiers = [_classifier(setting) for setting in settings]
    reports, predictions = [], []
    for setting, classifier in zip(settings, classifiers, strict=True):
        name = f"{setting.reducer.replace(':', '-')}-{setting.frames}x{setting.size}"
        tell(f"evaluating {name} on {len(samples)} clips")
        folder = output / "runs" / name
        reports.append(_evaluate(classifier, samples, folder))
        predictions.append(_probabilities(folder))
    tell("timing")
    rates = clips_per_second(classifiers, samples)
    found = Demo(
        rows=tuple(
            _demo_row(setting, report, predicted, predictions[0], rate)
            for setting, report, predicted, rate in zip(
                settings, reports, predictions, rates, strict=True
            )
        ),
        num_clips=len(samples),
        dtype=reports[0].dtype,
        batch_size=_BATCH_SIZE,
        command=f"vidprune demo --per-class {per_class}",
        environment=reports[0].environment,
        date=reports[0].date,
    )
    _draw(classifiers, samples[per_class], output / PICTURE)
    write_atomically(output / "demo.json", found.to_json())
    return found


def _probabilities(folder: Path) -> Tensor:
    """What a run predicted of each clip, (clips, classes); the demo takes one view of each."""
    rows = RunFolder(folder, Process()).rows()
    return torch.stack([mean_probabilities(torch.tensor([row["logits"]])) for row in rows])


def _demo_row(
    setting: Subject, report: Report, predicted: Tensor, dense: Tensor, rate: float
) -> DemoRow:
    assert report.top1 is not None, "the demo's clips can be read"
    moved = divergence(dense, predicted)
    return DemoRow(
        reducer=report.reducer,
        frames=setting.frames,
        size=setting.size,
        top1=report.top1,
        agreement=100 * same_class(dense, predicted).double().mean().item(),
        kl_to_dense=moved.mean().item(),
        kl_standard_error=moved.std().item() / len(moved) ** 0.5,
        gmacs_per_view=report.gmacs_per_view,
        clips_per_second=rate,
    )


def _classifier(setting: Subject) -> Classifier:
    model = load(DEMO, frames=setting.frames, size=setting.size)
    protocol = protocol_for(model, ViewOptions())
    return Classifier(prune(model, setting.reducer), protocol, batch_size=_BATCH_SIZE)


def _evaluate(classifier: Classifier, samples: Sequence[Sample], output: Path) -> Report:
    report = evaluate(
        classifier, samples, output=output, checkpoint=DEMO, data="generated clips", restart=True
    )
    assert report is not None, "a process alone reports"
    return report


def clips_per_second(classifiers: Sequence[Classifier], samples: Sequence[Sample]) -> list[float]:
    """Clips that each takes per second, preprocessing included and decoding not.

    They run in turn on batches of the same clips, each in every place of the turn, so that what
    else the machine does falls on all alike; the median over the batches counts.
    """
    seconds: list[list[float]] = [[] for _ in classifiers]
    for number, batch in enumerate(_timed_samples(samples)):
        # Of one protocol all are given the very same batch.
        read = {c.protocol: _batch(batch, c) for c in classifiers}
        for place in range(len(classifiers)):
            turn = (number + place) % len(classifiers)
            clips, keys = read[classifiers[turn].protocol]
            started = time.perf_counter()
            classifiers[turn](clips, keys)
            seconds[turn].append(time.perf_counter() - started)
    # The first batch warms up.
    return [_BATCH_SIZE / median(taken[1:]) for taken in seconds]


def _timed_samples(samples: Sequence[Sample]) -> list[Sequence[Sample]]:
    """Batches from all over the samples."""
    step = max(len(samples) // _BATCH_SIZE, 1)
    starts = [number % len(samples) for number in range(_TIMED_BATCHES + 1)]
    return [samples[start::step][:_BATCH_SIZE] for start in starts]


def _batch(samples: Sequence[Sample], classifier: Classifier) -> tuple[Tensor, Tensor]:
    clips = [read_views(sample.path, classifier.protocol).pixels[0] for sample in samples]
    return torch.stack(clips), torch.tensor([clip_key(sample.name, 0) for sample in samples])


def _draw(classifiers: Sequence[Classifier], sample: Sample, path: Path) -> None:
    """The clip, and under it what the pictured reducers leave of it after every stage."""
    dense = classifiers[0]
    models = [dense.model, *(prune(dense.model, reducer) for reducer in _PICTURED)]
    clips, keys = _batch([sample], dense)
    found = look(models, clips[0], video=sample.path.name, clip_key=int(keys[0]))
    sheet(found).save(path)
