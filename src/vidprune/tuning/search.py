"""The search: settings are proposed by Optuna, tried on some of the videos, the better on more."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vidprune.macs import costs
from vidprune.reducers.spec import NONE
from vidprune.tuning.figures import Losses, Spent
from vidprune.tuning.space import METHODS, PUBLISHED, suggest
from vidprune.tuning.target import Target
from vidprune.tuning.trying import Bench

# Of the videos of the search: a setting is tried on a third of them first, and on the rest where it
# is still of use then.
_RUNGS = (3, 1)
# What is this many times beyond a limit on the first rung does not come back within it.
_HOPELESS = 2.0
_SHARES = (0.1, 0.95)
_FIRST_SHARES = (0.6, 0.4)
_OTHER_SHARES = (0.9, 0.75, 0.6, 0.45, 0.3, 0.2)
_TIMED = 3
# For each setting that is to be tried, since some do not fit and some are known.
_PROPOSALS = 4
# Settings that are drawn before any is proposed by what was seen.
_DRAWN = 12


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long a search goes on: so many settings (`trials`), or `seconds`, whichever is first."""

    trials: int = 60
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise ValueError(f"trials={self.trials} must be at least 1")
        if self.seconds is not None and not self.seconds > 0:
            raise ValueError(f"seconds={self.seconds:g} must be above 0")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """A setting that was tried on so many videos of the search; `whole`: on all of them."""

    reducer: str
    costs: Spent
    losses: Losses
    whole: bool


@dataclass(frozen=True, eq=False)
class Search:
    """A target, what may be chosen, and the videos (by number) that are tried on."""

    bench: Bench
    target: Target
    videos: tuple[int, ...]
    sources: Tensor | None = None
    methods: tuple[str, ...] = METHODS
    seed: int = 0
    # By reducer, how it was proposed.
    _proposed: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, budget: Budget) -> Iterator[Tried]:
        """Every setting that is tried, as soon as it has been; each text once.

        Raises RuntimeError without Optuna.
        """
        study, begun = _study(self.seed), time.monotonic()
        known: dict[str, Tried] = {}
        for share in self._first_shares():
            for method in self.methods:
                study.enqueue_trial({"method": method, "share": share, **PUBLISHED})
        for _ in range(_PROPOSALS * budget.trials):
            late = budget.seconds is not None and time.monotonic() - begun > budget.seconds
            if len(known) == budget.trials or (late and known):
                return
            trial = study.ask()
            reducer = suggest(trial, self.bench.model.config, self.methods, self._share(trial))
            if reducer is None or reducer == NONE or self._too_dear(reducer):
                study.tell(trial, state=_failed())
                continue
            if reducer not in known:
                known[reducer] = self.tried(reducer)
                self._proposed[reducer] = dict(trial.params)
                yield known[reducer]
            trial.set_constraint(self.target.kind, excess(self.target, known[reducer]))
            study.tell(trial, objective(self.target, known[reducer]))

    def at_other_costs(self, found: Tried) -> Iterator[Tried]:
        """The same method with its places at other shares of the dense cost: what another target
        would come to."""
        config = self.bench.model.config
        for share in _OTHER_SHARES:
            chooser = _as_proposed(self._proposed[found.reducer])
            reducer = suggest(chooser, config, self.methods, share)
            if reducer not in (None, NONE, found.reducer):
                assert reducer is not None, "it is none of these"
                yield self.whole(reducer)

    def tried(self, reducer: str) -> Tried:
        """One setting: what it costs, and loses on as many videos as it deserves."""
        spent = self.bench.spent(reducer, self.videos, repeats=self.repeats)
        found = None
        for rung in _RUNGS:
            videos = self.videos[: -(-len(self.videos) // rung)]
            found = self._losses(reducer, videos)
            if self._hopeless(spent, found):
                break
        assert found is not None, "there are rungs"
        return Tried(
            reducer=reducer,
            costs=spent,
            losses=found,
            whole=found.videos == len(self.videos),
        )

    def whole(self, reducer: str) -> Tried:
        """One setting on all videos."""
        return Tried(
            reducer=reducer,
            costs=self.bench.spent(reducer, self.videos, repeats=self.repeats),
            losses=self._losses(reducer, self.videos),
            whole=True,
        )

    @property
    def repeats(self) -> int:
        """How often a setting is timed."""
        return _TIMED if self.target.is_timed else 0

    def _losses(self, reducer: str, videos: tuple[int, ...]) -> Losses:
        sources = None if self.sources is None else self.sources[: len(videos)]
        return self.bench.losses(reducer, videos, sources)

    def _hopeless(self, spent: Spent, found: Losses) -> bool:
        """Whether more videos would tell nothing new: it is far beyond what is asked for."""
        if self.target.is_cost:
            return self.target.excess(spent.of(self.target)) > 0
        return self.target.excess(found.of(self.target)) > _HOPELESS

    def _too_dear(self, reducer: str) -> bool:
        """Whether it cannot be what is asked for, which is known before it is tried."""
        spent = costs(self.bench.model, reducer).gmacs_per_view
        return self.target.kind == "gmacs" and spent > self.target.value

    def _first_shares(self) -> tuple[float, ...]:
        """Of the dense cost, where the search begins."""
        if self.target.kind == "gmacs":
            return (self.target.value / costs(self.bench.model, NONE).gmacs_per_view,)
        return (1 / self.target.value,) if self.target.kind == "speedup" else _FIRST_SHARES

    def _share(self, trial: Any) -> float:
        """Of the dense arithmetic: what is asked for, or what is proposed."""
        if self.target.kind == "gmacs":
            return self._first_shares()[0]
        return float(trial.suggest_float("share", *_SHARES))


def objective(target: Target, found: Tried) -> float:
    """What is to be as small as can be: the KL where a cost is given, else the cost."""
    return found.losses.kl_nats.value if target.is_cost else found.costs.share


def excess(target: Target, found: Tried) -> float:
    """By how much a setting misses a target; of losses by their cautious figure."""
    if target.is_cost:
        return target.excess(found.costs.of(target, cautious=True))
    return target.excess(found.losses.of(target, cautious=True))


def best_of(target: Target, tried: Sequence[Tried]) -> Tried | None:
    """The setting that a search comes to: of those that reach the target on all videos, the nearest
    to the dense model where a cost is given, else the cheapest; None where none reaches it."""
    there = [each for each in tried if each.whole and excess(target, each) <= 0]
    return min(there, key=lambda each: objective(target, each), default=None)


def nearest_of(target: Target, tried: Sequence[Tried]) -> Tried | None:
    """The setting that misses a target by the least."""
    whole = [each for each in tried if each.whole] or tried
    return min(whole, key=lambda each: excess(target, each), default=None)


def _study(seed: int) -> Any:
    try:
        import optuna
    except ImportError as error:
        raise RuntimeError("tune needs Optuna; pip install 'vidprune[tune]'") from error
    # Its own lines about every trial would drown ours.
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_DRAWN)
    return optuna.create_study(direction="minimize", sampler=sampler)


def _as_proposed(params: dict[str, Any]) -> Any:
    import optuna

    return optuna.trial.FixedTrial(params)


def _failed() -> Any:
    import optuna

    return optuna.trial.TrialState.FAIL
