"""Whether a budget by content is nearer to the dense model than one setting for all clips that
costs as much: the record behind docs/content.md, from runs of `benchmarks/curves.sh`.

    python benchmarks/by_content.py generated --model demo --runs runs/curves/generated/runs/0 \
        --data runs/curves/clips-generated-1440
    python benchmarks/by_content.py jhmdb --model benchmarks/models/jhmdb/split{1,2,3} \
        --runs runs/curves/jhmdb/runs/{0,1,2} --data ../shared/jhmdb/split{1,2,3} --source REGEX

Videos are halved by source. On each half two settings of a method and the limit between them are
chosen as `vidprune tune` does it, to cost no more than the method's own setting and to stay as near
to the dense model as can be; what is chosen is judged on the other half. Beside confidence and
change there is a signal that tells nothing, drawn at random, and one that is not offered, how
unevenly STA's redundancy lies over a clip's tokens.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from records import RESULTS
from torch import Tensor

from vidprune.environment import environment
from vidprune.insight.watching import watch
from vidprune.intervals import METHOD, METHOD_OVER_SOURCES, difference_interval, mean_interval
from vidprune.macs import costs
from vidprune.metrics import divergence, mean_probabilities, same_class, top_class
from vidprune.prepare import ViewOptions, load_model, protocol_for, read_clip
from vidprune.pruned import prune
from vidprune.reducers.by_content import change
from vidprune.reducers.spec import file_name
from vidprune.sources import sources_of
from vidprune.tuning.limits import best_budget
from vidprune.tuning.search import Search
from vidprune.tuning.target import Target
from vidprune.tuning.trying import Bench, Video
from vidprune.video import Protocol, read_dataset, read_views

# Of each method the settings of `curves.sh`, from 90 % of the dense arithmetic down to 30 %.
LADDERS = {
    "generated": {
        "sta": [f"sta:r={r}" for r in (4, 10, 17, 21, 27, 33)],
        "random:fold=true": [f"random:r={r},fold=true" for r in (4, 10, 17, 22, 27, 33)],
        "tome": [f"tome:r={r}" for r in (10, 20, 32, 41, 53, 73)],
    },
    "jhmdb": {
        "sta": [f"sta:r={r}" for r in (11, 26, 44, 57, 71, 89)],
        "random:fold=true": [f"random:r={r},fold=true" for r in (10, 26, 44, 58, 73, 92)],
        "tome": [f"tome:r={r}" for r in (27, 56, 90, 116, 151, 213)],
    },
}
SIGNALS = ("confidence", "change", "redundancy", "drawn")


@dataclass(eq=False)
class Told(Bench):
    """Videos whose answers are known from runs; `amounts`: what stands for a video's change."""

    known: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    amounts: Sequence[Sequence[float]] = ()

    def changes(self, video: int) -> list[float]:
        """As told."""
        return list(self.amounts[video])

    def _logits(self, reducer: str, videos: Sequence[int]) -> list[Tensor]:
        return [self.known[reducer, each] for each in videos]


@dataclass(frozen=True, kw_only=True)
class Data:
    """All runs, pooled: videos by name, and per view what the settings say and the signals are."""

    names: list[str]
    labels: Tensor
    known: dict[tuple[str, int], Tensor]
    signals: dict[str, list[list[float]]]


def answers(run: Path) -> dict[str, tuple[int, Tensor]]:
    """The label of every video and the logits of its views (V, classes)."""
    found: dict[str, tuple[int, list[Tensor]]] = {}
    for line in (run / "views.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found.setdefault(row["video"], (row["label"], []))[1].append(torch.tensor(row["logits"]))
    return {name: (label, torch.stack(logits)) for name, (label, logits) in found.items()}


def signals_of(path: Path, protocol: Protocol, pruned: Any, options: ViewOptions) -> dict[str, Any]:
    """Of each view of a video: how much it changes, and how unevenly redundancy lies."""
    views = read_views(path, protocol).pixels
    seen = watch(pruned, read_clip(path, pruned, options=options))
    relative = seen.choices[0].scores["redundancy"]
    uneven = (relative - 1).abs().nan_to_num().mean(-1) / 2
    return {"change": change(views.float() / 255).tolist(), "redundancy": uneven.tolist()}


def gathered(
    models: Sequence[str], runs: Sequence[Path], data: Sequence[Path], ladders: list[str]
) -> Data:
    """What the runs of `vidprune curves` say, and the signals of their videos."""
    names: list[str] = []
    labels: list[int] = []
    known: dict[tuple[str, int], Tensor] = {}
    signals: dict[str, list[list[float]]] = {name: [] for name in ("change", "redundancy", "drawn")}
    generator = torch.Generator().manual_seed(0)
    for checkpoint, run, folder in zip(models, runs, data, strict=True):
        recorded = json.loads((run / "none" / "run.json").read_text(encoding="utf-8"))["protocol"]
        options = ViewOptions(
            **{each: recorded[each] for each in ("sampling", "segments", "crops", "stride")}
        )
        model = load_model(checkpoint, options=options)
        pruned = prune(model, next(each for each in ladders if each.startswith("sta")))
        said = {each: answers(run / file_name(each)) for each in ["none", *ladders]}
        paths = {sample.name: sample.path for sample in read_dataset(folder)}
        for name, (label, dense) in said["none"].items():
            for reducer, answer in said.items():
                known[reducer, len(names)] = answer[name][1]
            found = signals_of(paths[name], protocol_for(model, options), pruned, options)
            found["drawn"] = torch.rand(len(dense), generator=generator).tolist()
            for each, values in signals.items():
                values.append(found[each])
            names.append(name)
            labels.append(label)
        print(f"{checkpoint}: {len(names)} videos", file=sys.stderr)
    return Data(names=names, labels=torch.tensor(labels), known=known, signals=signals)


def halves(sources: Tensor) -> tuple[Tensor, Tensor]:
    """Videos by number, no source in both."""
    order = torch.randperm(int(sources.max()) + 1, generator=torch.Generator().manual_seed(0))
    first = torch.isin(sources, order[: len(order) // 2])
    return first.nonzero().flatten(), (~first).nonzero().flatten()


def judged(
    model: Any, data: Data, sources: Tensor, ladder: list[str], fixed: str, signal: str, out: bool
) -> dict[str, Any]:
    """A budget at the cost of one setting of a method, chosen on each half and judged on the
    other, and paired with that setting."""
    videos = [
        Video(name, torch.empty(len(data.signals["drawn"][number]), 0), int(label))
        for number, (name, label) in enumerate(zip(data.names, data.labels, strict=True))
    ]
    bench = Told(
        model,
        protocol_for(model, ViewOptions()),
        videos,
        8,
        torch.device("cpu"),
        known=data.known,
        amounts=data.signals["change" if signal == "confidence" else signal],
    )
    gmacs = costs(model, fixed).gmacs_per_view
    probabilities: list[Tensor] = [torch.empty(0)] * len(videos)
    texts, spent = [], 0.0
    parts = halves(sources)
    for seen, unseen in (parts, parts[::-1]):
        search = Search(bench, Target(kind="gmacs", value=gmacs), tuple(seen.tolist()))
        kind = "confidence" if signal == "confidence" else "change"
        found = best_budget(search, [search.whole(each) for each in ladder], (kind,), None)
        if found is None:
            return {"signal": signal, "fixed": fixed, "budgets": [], "gmacs": None}
        texts.append(found.reducer)
        spent += len(unseen) * bench.spent(found.reducer, unseen.tolist()).gmacs
        answered = bench.probabilities(found.reducer, unseen.tolist())
        for video, probability in zip(unseen.tolist(), answered, strict=True):
            probabilities[video] = probability
    dense, alike = (
        torch.stack([mean_probabilities(data.known[each, video]) for video in range(len(videos))])
        for each in ("none", fixed)
    )
    budget = torch.stack(probabilities)
    return {
        "signal": signal,
        "fixed": fixed,
        "budgets": texts,
        "gmacs": spent / len(videos),
        "gmacs_fixed": gmacs,
        **differences(dense, alike, budget, data.labels, sources if out else None),
    }


def differences(
    dense: Tensor, alike: Tensor, budget: Tensor, labels: Tensor, sources: Tensor | None
) -> dict[str, Any]:
    """What one setting and a budget lose, and the budget against the setting, pair by pair."""
    strayed = [divergence(dense, each) for each in (alike, budget)]
    same = [same_class(dense, each) for each in (alike, budget)]
    right = [top_class(each) == labels for each in (alike, budget)]
    moved = {
        "kl_nats": mean_interval(strayed[1] - strayed[0], sources),
        "agreement": difference_interval(same[0], same[1], sources),
        "top1": difference_interval(right[0], right[1], sources),
    }
    return {
        "kl_nats": [each.mean().item() for each in strayed],
        "agreement": [100 * each.double().mean().item() for each in same],
        "top1": [100 * each.double().mean().item() for each in right],
        "against_fixed": {name: found and asdict(found) for name, found in moved.items()},
    }


def main() -> None:
    """Write the record."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("name", choices=LADDERS)
    for each in ("model", "runs", "data"):
        parser.add_argument(f"--{each}", nargs="+", required=True)
    parser.add_argument("--source")
    asked = parser.parse_args()
    ladders = LADDERS[asked.name]
    every = [reducer for ladder in ladders.values() for reducer in ladder]
    data = gathered(asked.model, [*map(Path, asked.runs)], [*map(Path, asked.data)], every)
    sources = torch.arange(len(data.names))
    if asked.source is not None:
        sources = sources_of(data.names, asked.source)
    model = load_model(asked.model[0], options=ViewOptions())
    rows = [
        {"method": method}
        | judged(model, data, sources, ladder, fixed, signal, asked.source is not None)
        for method, ladder in ladders.items()
        for fixed in ladder[:-1]
        for signal in SIGNALS
    ]
    report = json.loads((Path(asked.runs[0]) / "none" / "report.json").read_text("utf-8"))
    record = {
        "rows": rows,
        "gmacs_dense": costs(model, "none").gmacs_per_view,
        "videos": len(data.names),
        "sources": int(sources.max()) + 1,
        "intervals": METHOD if asked.source is None else METHOD_OVER_SOURCES,
        "runs": {name: report[name] for name in ("dtype", "batch_size", "environment", "command")},
        "environment": environment(torch.device("cpu")),
        "command": f"python benchmarks/by_content.py {asked.name}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder = RESULTS / "by-content"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{asked.name}.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
