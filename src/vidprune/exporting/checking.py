"""Whether an exported model does what the model does: the same tokens stay, the answers agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from vidprune.backbones.registry import has_head
from vidprune.exporting.following import CannotStay, Choice, Followed, followed
from vidprune.exporting.near_ties import departure, merging_departure, run_length_departure
from vidprune.exporting.program import Answering
from vidprune.exporting.record import Check
from vidprune.exporting.running import Exported
from vidprune.inference import clip_key
from vidprune.metrics import divergence, same_class
from vidprune.reducers.run_length import RunLength
from vidprune.reducers.sta import STA
from vidprune.reducers.tome import ToMe
from vidprune.reducers.ward import Ward

# Of answers in float32, over the largest of a clip's: what other kernels' sums may come to.
TOLERANCE = 1e-3


class ExportError(RuntimeError):
    """An exported model that does not do what the model does; it is not handed over."""


def compare(model: PreTrainedModel, exported: Exported, clips: Mapping[str, Tensor]) -> Check:
    """Run clips (T, 3, S, S), normalised, by the names of their videos, through both; through the
    exported model each alone, and once more with others in its batch.

    Where both compute in float32 they must agree: the same tokens stay, but for what the
    specification leaves open within rounding (see `near_ties`), and answers differ by no more than
    `TOLERANCE` of the largest. In less precision what comes is counted, not judged.

    Raises ExportError where that does not hold, or an answer is not finite.
    """
    pixels = torch.stack(list(clips.values())).to(model.device, model.dtype)
    keys = torch.tensor([clip_key(name, 0) for name in clips])
    alone = [_alone(exported, pixels[n : n + 1], keys[n : n + 1]) for n in range(len(clips))]
    together = _together(exported, pixels, keys)
    if not all(each.answer.isfinite().all() for each in (*alone, *together)):
        raise ExportError("the exported model's answers are not finite; export it in float32")
    exact = exported.record.dtype == "float32" and exported.record.quantized is None
    pairs = {}
    for number, name in enumerate(clips):
        asked = _asked(model, pixels[number : number + 1], keys[number : number + 1])
        pairs[name] = asked.beside(alone[number], judged=exact)
        if exact:
            _judge(name, pairs[name])
        if exact and together:
            _judge(name, asked.beside(together[number], judged=True), " beside others")
    check = _check(pairs, has_head(model), alone, together)
    if exact and not (check.difference_together or 0.0) <= TOLERANCE:
        raise ExportError(
            "the exported model's answer to a clip depends on the others of its batch, by "
            f"{check.difference_together:.2g} of the largest, more than {TOLERANCE:g}"
        )
    return check


@dataclass(frozen=True, eq=False)
class _Answer:
    """What is said of one clip, (N,) float32, and which tokens stayed at each stage, (1, K)."""

    answer: Tensor
    origins: list[Tensor]

    def keeps(self, other: "_Answer") -> bool:
        """The same tokens as another, in the same order."""
        return all(torch.equal(a, b) for a, b in zip(self.origins, other.origins, strict=True))

    def difference(self, wanted: Tensor) -> float:
        """From another answer, over the largest of that."""
        return ((self.answer - wanted).abs().max() / wanted.abs().max()).item()


@dataclass(frozen=True, eq=False)
class _Pair:
    """One clip's answer by the model, (N,), and by the exported one. `same`: whether the same
    tokens stayed; if not, and that is `judged`, `wrong` is what of the exported one's choice is not
    the specification's, if anything is (and if it is `ruled` by any), and `wanted` the model's
    answer with its tokens."""

    wanted: Tensor
    found: _Answer
    same: bool
    wrong: str | None
    judged: bool
    ruled: bool

    @property
    def difference(self) -> float:
        """Over the largest of the wanted."""
        return self.found.difference(self.wanted)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A clip, and what the model says of it."""

    model: PreTrainedModel
    pixels: Tensor
    keys: Tensor
    said: _Answer

    def beside(self, found: _Answer, *, judged: bool) -> _Pair:
        """This, and what the exported model says."""
        same = found.keeps(self.said)
        if same or not judged:
            return _Pair(self.said.answer, found, same, None, judged=False, ruled=False)
        reducer: Any = getattr(self.model, "reducer", None)
        wrong: str | None = f"of {type(reducer).__name__} no choice but the model's own is known"
        wanted, ruled = self.said.answer, _has_rule(self.model)
        if isinstance(reducer, Followed):
            try:
                answer, seen = followed(self.model, self.pixels, self.keys, found.origins)
            except CannotStay as error:
                wrong = str(error)
            else:
                wrong = _departs(reducer, seen) if ruled else None
                # Other tokens, as rightly chosen: judged by the model's own answer with these.
                wanted = answer[0].float()
        return _Pair(wanted, found, same, wrong, judged=True, ruled=ruled)


def _asked(model: PreTrainedModel, pixels: Tensor, keys: Tensor) -> _Asked:
    keys = keys.to(pixels.device)
    with torch.inference_mode():
        answer, *origins = (each.cpu() for each in Answering(model).eval()(pixels, keys))
    return _Asked(model, pixels, keys, _Answer(answer[0].float(), origins))


def _alone(exported: Exported, pixels: Tensor, keys: Tensor) -> _Answer:
    """What comes of one clip, given as often as the exported model takes clips."""
    batch = exported.record.batch or 1
    return _answers(exported, pixels.expand(batch, -1, -1, -1, -1), keys.expand(batch))[0]


# Clips at once, where any number is taken.
_MOST_TOGETHER = 8


def _together(exported: Exported, pixels: Tensor, keys: Tensor) -> list[_Answer]:
    """What comes of each clip in a batch of several; where clips are missing, their own played
    backwards stand beside them. Nothing where only one clip is taken at once."""
    fixed = exported.record.batch
    if fixed == 1:
        return []
    found: list[_Answer] = []
    for some in torch.arange(len(pixels)).split(fixed or _MOST_TOGETHER):
        missing = (fixed or max(2, len(some))) - len(some)
        others = torch.arange(missing) % len(pixels)
        given = torch.cat([pixels[some], pixels[others].flip(1)])
        found += _answers(exported, given, torch.cat([keys[some], keys[others]]))[: len(some)]
    return found


def _answers(exported: Exported, pixels: Tensor, keys: Tensor) -> list[_Answer]:
    given = pixels.contiguous().to(exported.device, exported.dtype)
    output = exported(given, keys.contiguous().to(exported.device), return_trace=True)
    answer = getattr(output, exported.record.outputs[0]).float().cpu()
    assert output.trace is not None, "it was asked for"
    origins = [each.cpu() for each in output.trace.origin]
    return [_Answer(row, [each[n : n + 1] for each in origins]) for n, row in enumerate(answer)]


def _has_rule(model: PreTrainedModel) -> bool:
    """Whether there is a specification of which tokens stay that knows of rounding."""
    reducer = getattr(model, "reducer", None)
    if isinstance(reducer, STA):
        return reducer.first_group == "bipartite" and not any(s.quotas for s in model.stages)
    # Ward's rounds each build on the one before, of which nothing is told.
    return not isinstance(reducer, Ward)


def _departs(reducer: Followed, seen: Sequence[Choice]) -> str | None:
    """Where the choice of these tokens departs from the specification's; None where it does not."""
    for number, choice in enumerate(seen, start=1):
        if isinstance(reducer, STA):
            wrong = departure(
                choice.kept,
                choice.tokens,
                choice.similar,
                groups=choice.stage.groups,
                drop=choice.stage.drop,
                backward=reducer._backward(choice.stage),
                score=reducer.score,
            )
        elif isinstance(reducer, RunLength):
            wrong = run_length_departure(
                choice.kept,
                choice.similar,
                first=choice.tokens.shape[1] - choice.similar.shape[1],
            )
        else:
            ranked = isinstance(reducer, ToMe)
            wrong = merging_departure(choice.kept, choice.similar, ranked=ranked)
        if wrong is not None:
            return f"stage {number}: {wrong}"
    return None


def _check(
    named: Mapping[str, _Pair],
    head: bool,
    alone: Sequence[_Answer],
    together: Sequence[_Answer],
) -> Check:
    pairs = list(named.values())
    wanted = torch.stack([pair.wanted for pair in pairs]).double()
    found = torch.stack([pair.found.answer for pair in pairs]).double()
    wanted, found = (each.softmax(-1) if head else each for each in (wanted, found))
    beside = [(b, a, b.keeps(a)) for a, b in zip(alone, together, strict=bool(together))]
    # Where rounding let other tokens stay, the answer was judged by the model's with those.
    apart = [b.difference(a.answer) for b, a, same in beside if same]
    others = [pair for pair in pairs if not pair.same]
    return Check(
        videos=tuple(named),
        same_kept=len(pairs) - len(others),
        near_ties=sum(pair.ruled for pair in others),
        unjudged=sum(pair.judged and not pair.ruled for pair in others),
        largest_difference=max(pair.difference for pair in pairs),
        same_class=int(same_class(wanted, found).sum()) if head else None,
        kl_nats=divergence(wanted, found).max().item() if head else None,
        same_kept_together=sum(same for *_, same in beside) if together else None,
        difference_together=max(apart, default=0.0) if together else None,
    )


def _judge(name: str, pair: _Pair, where: str = "") -> None:
    if pair.wrong is not None:
        raise ExportError(f"the exported model chooses other tokens of {name}{where}: {pair.wrong}")
    if not pair.difference <= TOLERANCE:
        raise ExportError(
            f"the exported model's answers differ from the model's by {pair.difference:.2g} of the "
            f"largest{where}, more than {TOLERANCE:g}" + ("" if pair.same else _TIES)
        )


# What is said of answers that were judged with other tokens than the model chose.
_TIES = (
    "; other tokens stay than with the model, within rounding: clips with textures everywhere "
    "(--video) have no such ties, and torch computes as the model does (--format torch)"
)
