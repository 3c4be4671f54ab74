"""Whether a budget by content is nearer to the dense model than one setting for all clips that
costs as much: the record behind docs/content.md, from runs of `benchmarks/curves.sh`.

    python benchmarks/by_content.py generated --model demo --runs runs/curves/generated/runs/0 \
        --data runs/curves/clips-generated-1440
    python benchmarks/by_content.py jhmdb --model benchmarks/models/jhmdb/split{1,2,3} \
        --runs runs/curves/jhmdb/runs/{0,1,2} --data ../shared/jhmdb/split{1,2,3} --source REGEX

Videos are halved by source. On each half two settings of a method and the limit between them are
chosen as `vidprune tune` does it, to cost no more than the method's own setting and to stay as near
to the dense model as can be; what is chosen is judged on the other half. A budget has to be chosen,
even where `tune` would stay with the one setting: on how many halves it would take one is said.
Beside confidence and change there is a signal that tells nothing, drawn at random, and one that is
not offered, how unevenly STA's redundancy lies over a clip's tokens.
"""

import argparse
import json
import shlex
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
from vidprune.metrics import divergence, same_class, top_class
from vidprune.prepare import ViewOptions, load_model, protocol_for, read_clip
from vidprune.pruned import prune
from vidprune.reducers.by_content import Signal, change
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

    def logits(self, reducer: str, videos: Sequence[int]) -> list[Tensor]:
        """As told."""
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
    return {"change": change(views).tolist(), "redundancy": uneven.tolist()}


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


@dataclass(frozen=True, eq=False)
class Trial:
    """The videos of a data set, on which budgets of one signal are chosen and judged."""

    bench: Bench
    labels: Tensor
    sources: Tensor
    signal: str

    @classmethod
    def of(cls, model: Any, data: Data, sources: Tensor, signal: str) -> "Trial":
        """With what the runs say in the place of the model's answers."""
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
        return cls(bench, data.labels, sources, signal)

    def chosen(self, ladder: list[str], fixed: str, seen: Tensor) -> tuple[str | None, bool]:
        """On one half the best budget that costs no more than a setting, and whether `tune` would
        take one in the place of the setting."""
        gmacs = costs(self.bench.model, fixed).gmacs_per_view
        search = Search(self.bench, Target(kind="gmacs", value=gmacs), tuple(seen.tolist()))
        kind: Signal = "confidence" if self.signal == "confidence" else "change"
        tried = [search.whole(each) for each in ladder]
        found = best_budget(search, tried, (kind,), None)
        alike = tried[ladder.index(fixed)]
        taken = best_budget(search, tried, (kind,), alike) is not None
        return found and found.reducer, taken

    def row(self, ladder: list[str], fixed: str) -> dict[str, Any]:
        """Budgets in the place of one setting, each judged on the half that did not choose it."""
        parts = halves(self.sources)
        found = [self.chosen(ladder, fixed, half) for half in parts]
        texts = [text for text, _ in found if text is not None]
        row = {
            "signal": self.signal,
            "fixed": fixed,
            "gmacs_fixed": costs(self.bench.model, fixed).gmacs_per_view,
            "taken": sum(taken for _, taken in found),
            # The other signals have no text of their own.
            "budgets": texts if self.signal in ("confidence", "change") else [],
        }
        if len(texts) < len(parts):
            return row
        dense, alike = (self.probabilities(each) for each in ("none", fixed))
        budget, spent = torch.empty_like(dense), 0.0
        for text, unseen in zip(texts, parts[::-1], strict=True):
            budget[unseen] = self.bench.probabilities(text, unseen.tolist())
            spent += len(unseen) * self.bench.spent(text, unseen.tolist()).gmacs
        gmacs = spent / len(self.sources)
        return row | {"gmacs": gmacs} | self.differences(dense, alike, budget)

    def probabilities(self, reducer: str) -> Tensor:
        """Of all videos, (V, classes)."""
        return self.bench.probabilities(reducer, range(len(self.sources)))

    def differences(self, dense: Tensor, alike: Tensor, budget: Tensor) -> dict[str, Any]:
        """What one setting and a budget lose, and the budget against the setting, pair by pair."""
        sources = self.sources if len(self.sources.unique()) < len(self.sources) else None
        strayed = [divergence(dense, each) for each in (alike, budget)]
        same = [same_class(dense, each) for each in (alike, budget)]
        right = [top_class(each) == self.labels for each in (alike, budget)]
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
            "least_sure_tenth": least_sure_tenth(alike, same[0], strayed[0]),
        }


def least_sure_tenth(alike: Tensor, same: Tensor, strayed: Tensor) -> dict[str, float]:
    """Which share of a setting's disagreements with the dense model, and of its KL, lie in the
    tenth of the videos of whose answers it is least sure, in per cent."""
    unsure = alike.amax(-1).argsort()[: len(alike) // 10]
    return {
        "disagreements": 100 * float((~same)[unsure].sum() / (~same).sum().clamp_min(1)),
        "kl_nats": 100 * float(strayed[unsure].sum() / strayed.sum()),
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
    trials = [Trial.of(model, data, sources, signal) for signal in SIGNALS]
    rows = [
        {"method": method} | trial.row(ladder, fixed)
        for method, ladder in ladders.items()
        for fixed in ladder[:-1]
        for trial in trials
    ]
    report = json.loads((Path(asked.runs[0]) / "none" / "report.json").read_text("utf-8"))
    record = {
        "rows": rows,
        "gmacs_dense": costs(model, "none").gmacs_per_view,
        "videos": len(data.names),
        "distinct": len(set(data.names)),
        "sources": int(sources.max()) + 1,
        "intervals": METHOD if asked.source is None else METHOD_OVER_SOURCES,
        "runs": {name: report[name] for name in ("dtype", "batch_size", "environment", "command")},
        "environment": environment(torch.device("cpu")),
        "command": f"python {shlex.join(sys.argv)}",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    folder = RESULTS / "by-content"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{asked.name}.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
