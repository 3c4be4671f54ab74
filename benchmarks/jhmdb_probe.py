"""An original-format VideoMAE checkpoint with 21 classes, to run `vidprune evaluate` on J-HMDB.

A linear head on what the demo's model makes of the training clips of a split: the model has seen
nothing but generated clips, so this checks the path from file to accuracy, and is no model whose
accuracy says anything about pruning. The weights stay out of the repository.

    python benchmarks/jhmdb_probe.py --train ../shared/jhmdb/split1/train.csv --output probe.pth
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import vidprune
from vidprune.backbones.videomae_checkpoints import to_original
from vidprune.inference import Classifier
from vidprune.prepare import ViewOptions, protocol_for
from vidprune.reading import Request
from vidprune.video import Protocol, read_list

_SPREAD, _STEPS, _DECAY = ViewOptions(protocol="ssv2"), 200, 1e-2


def features(model: torch.nn.Module, protocol: Protocol, listing: Path) -> tuple[Tensor, Tensor]:
    """What enters the head for every view of the listed clips, (V, C), and its label."""
    samples = read_list(listing)
    labels = {sample.name: sample.label for sample in samples}
    views = tuple(range(len(protocol.views)))
    headless = Classifier(vidprune.prune(model, None), protocol, batch_size=16)
    outcomes = headless.classify([Request(s.name, s.path, views) for s in samples])
    rows = [(outcome.logits, labels[outcome.name]) for outcome in outcomes]
    return torch.stack([row for row, _ in rows]), torch.tensor([label for _, label in rows])


def fit(inputs: Tensor, labels: Tensor) -> torch.nn.Linear:
    """Multinomial logistic regression with weight decay, on standardised inputs folded back."""
    mean, std = inputs.mean(0), inputs.std(0) + 1e-6
    head = torch.nn.Linear(inputs.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = cross_entropy(head((inputs - mean) / std), labels)
        value = value + _DECAY * head.weight.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        head.weight /= std
        head.bias -= head.weight @ mean
    return head


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--model", default="demo", help="whose features; demo, or a folder")
    options = parser.parse_args()
    model = vidprune.load(options.model)
    protocol = protocol_for(model, _SPREAD)
    model.classifier = torch.nn.Identity()
    head = fit(*features(model, protocol, options.train))
    model.classifier = head
    options.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"module": to_original(model.state_dict())}, options.output)


if __name__ == "__main__":
    main()
