"""Whether an exported model does what the model does: the same tokens stay, the answers agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.registry import has_head
from vidprune.exporting.near_ties import departure
from vidprune.exporting.program import Answering
from vidprune.exporting.record import Check
from vidprune.exporting.running import Exported
from vidprune.inference import clip_key
from vidprune.layout import Layout
from vidprune.metrics import divergence, same_class
from vidprune.pruned import prune
from vidprune.reducers.base import Signals
from vidprune.reducers.schedule import Stage
from vidprune.reducers.sta import STA

# Of answers in float32, over the largest of a clip's: what other kernels' sums may come to.
TOLERANCE = 1e-3


class ExportError(RuntimeError):
    """An exported model that does not do what the model does; it is not handed over."""


def compare(model: PreTrainedModel, exported: Exported, clips: Mapping[str, Tensor]) -> Check:
    """Run clips (T, 3, S, S), normalised, by the names of their videos, through both.

    Where both compute in float32 they must agree: the same tokens stay, but for what the
    specification leaves open within rounding (see `near_ties`), and answers differ by no more than
    `TOLERANCE` of the largest. In less precision what comes is counted, not judged.

    Raises ExportError where that does not hold, or an answer is not finite.
    """
    pairs = {}
    for name, clip in clips.items():
        pixels = clip[None].to(model.device, model.dtype)
        keys = torch.tensor([clip_key(name, 0)])
        pairs[name] = _pair(model, exported, pixels, keys)
    exact = exported.record.dtype == "float32" and exported.record.quantized is None
    check = _check(pairs, has_head(model))
    if not all(pair.found.isfinite().all() for pair in pairs.values()):
        raise ExportError("the exported model's answers are not finite; export it in float32")
    if exact:
        _judge(check, pairs)
    return check


@dataclass(frozen=True, eq=False)
class _Pair:
    """One clip's answer by the model and by the exported one, (N,) each; whether the same tokens
    stayed, and if not, what of the exported one's choice is not the specification's, if anything
    is."""

    wanted: Tensor
    found: Tensor
    same: bool
    wrong: str | None

    @property
    def difference(self) -> float:
        """Over the largest of the wanted."""
        return ((self.found - self.wanted).abs().max() / self.wanted.abs().max()).item()


def _pair(model: PreTrainedModel, exported: Exported, pixels: Tensor, keys: Tensor) -> _Pair:
    answering = Answering(model).eval()
    with torch.inference_mode():
        wanted, *origins = (each.cpu() for each in answering(pixels, keys.to(pixels.device)))
        answer, *found = _repeated(exported, pixels, keys)
    same = all(torch.equal(a, b) for a, b in zip(origins, found, strict=True))
    wrong = None if same else _departs(model, pixels, found)
    if wrong is None and not same:
        # Other tokens, as rightly chosen: the answer is then judged by the model's own on these.
        wanted = _followed(model, pixels, found)[0]
    return _Pair(wanted[0].float(), answer[0].float(), same, wrong)


def _repeated(exported: Exported, pixels: Tensor, keys: Tensor) -> list[Tensor]:
    """What comes of one clip, given as often as the exported model takes clips."""
    batch = exported.record.batch or 1
    given = pixels.expand(batch, -1, -1, -1, -1).contiguous().to(exported.device, exported.dtype)
    output = exported(given, keys.expand(batch).contiguous().to(exported.device), return_trace=True)
    answer = getattr(output, exported.record.outputs[0])
    assert output.trace is not None, "it was asked for"
    return [each[:1].cpu() for each in (answer, *output.trace.origin)]


def _departs(model: PreTrainedModel, pixels: Tensor, origins: Sequence[Tensor]) -> str | None:
    """Where the choice of these tokens departs from the specification's; None where it does not."""
    reducer: Any = getattr(model, "reducer", None)
    judged = isinstance(reducer, STA) and reducer.first_group == "bipartite"
    if not judged or any(stage.quotas for stage in model.stages):
        return "other tokens stay than with the model, and only STA's near ties are judged"
    _, seen = _followed(model, pixels, origins)
    for choice in seen:
        wrong = departure(
            choice.kept,
            choice.tokens,
            choice.similar,
            groups=choice.stage.groups,
            drop=choice.stage.drop,
            backward=reducer._backward(choice.stage),
            score=reducer.score,
        )
        if wrong is not None:
            return f"stage {choice.stage.index + 1}: {wrong}"
    return None


@dataclass(frozen=True, eq=False)
class _Choice:
    """What a stage saw, and what is to stay."""

    stage: Stage
    tokens: Tensor
    similar: Tensor
    kept: Tensor


def _followed(
    model: PreTrainedModel, pixels: Tensor, origins: Sequence[Tensor]
) -> tuple[Tensor, list[_Choice]]:
    """The model's answer where just these tokens stay, and what every stage saw."""
    seen: list[_Choice] = []
    places = list(origins)

    class Following(type(model.reducer)):  # type: ignore[misc]
        """The reducer, told what to choose."""

        def choose(self, tokens: Tensor, signals: Signals, layout: Layout, stage: Stage) -> Tensor:
            wanted = places[stage.index].to(tokens.device)
            kept = (layout.origin[:, None] == wanted[..., None]).int().argmax(-1)
            similar = self._similar(tokens, signals)
            seen.append(_Choice(stage, tokens.cpu(), similar.cpu(), kept.cpu()))
            return kept

    told: dict[str, Any] = {f.name: getattr(model.reducer, f.name) for f in fields(model.reducer)}
    with torch.inference_mode():
        answer, *_ = Answering(prune(model, Following(**told))).eval()(pixels)
    return answer.cpu(), seen


def _check(named: Mapping[str, _Pair], head: bool) -> Check:
    pairs = list(named.values())
    wanted, found = (
        torch.stack([getattr(pair, name) for pair in pairs]).double()
        for name in ("wanted", "found")
    )
    wanted, found = (each.softmax(-1) if head else each for each in (wanted, found))
    return Check(
        videos=tuple(named),
        same_kept=sum(pair.same for pair in pairs),
        near_ties=sum(not pair.same and pair.wrong is None for pair in pairs),
        largest_difference=max(pair.difference for pair in pairs),
        same_class=int(same_class(wanted, found).sum()) if head else None,
        kl_nats=divergence(wanted, found).max().item() if head else None,
    )


def _judge(check: Check, pairs: Mapping[str, _Pair]) -> None:
    for name, pair in pairs.items():
        if not pair.same and pair.wrong is not None:
            raise ExportError(f"the exported model chooses other tokens of {name}: {pair.wrong}")
    if not check.largest_difference <= TOLERANCE:
        raise ExportError(
            f"the exported model's answers differ from the model's by "
            f"{check.largest_difference:.2g} of the largest, more than {TOLERANCE:g}"
        )
