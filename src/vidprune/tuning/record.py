"""What a search found, as a record, and the recipe that commands and Python take."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from vidprune.intervals import METHOD, Interval
from vidprune.report import read_fields
from vidprune.tuning.figures import Losses, Spent
from vidprune.tuning.search import Tried
from vidprune.tuning.target import Target

RECIPE = 1


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """A search and its outcome.

    `reached`: whether the target is, on videos that the search did not see (`check`) or by the
    costs that were measured once more. `found`: the setting as the search knew it; `reducer` is
    none where nothing that was tried reaches the target. `published`: the paper's STA at the cost
    that was found, on the same unseen videos. `tried`: all settings, each once; `others`: the
    method and places that were found at other costs, on the videos of the search. `fixed`: where a
    budget by content was found, the best setting for all clips alike, on the unseen videos.
    """

    target: Target
    reducer: str
    reached: bool
    found: Tried | None
    check: Losses | None
    costs: Spent | None
    published: Tried | None
    tried: tuple[Tried, ...]
    others: tuple[Tried, ...]
    methods: tuple[str, ...]
    seed: int
    seconds: float
    checkpoint: str
    model: str
    dtype: str
    batch_size: int
    protocol: dict[str, Any]
    views_per_video: int
    searched: int
    unreadable: tuple[dict[str, str], ...]
    environment: dict[str, Any]
    command: str
    date: str
    intervals: str = METHOD
    fixed: Tried | None = None

    def to_json(self) -> str:
        """The record as indented JSON, ended by a line break."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Tuning":
        """The record that `to_json` wrote."""
        found = read_fields(text)
        return cls(
            **found
            | {
                "target": Target(**found["target"]),
                "found": _tried(found["found"]),
                "published": _tried(found["published"]),
                "fixed": _tried(found.get("fixed")),
                "check": _losses(found["check"]),
                "costs": None if found["costs"] is None else Spent(**found["costs"]),
                **{
                    name: tuple(_tried(each) for each in found[name])
                    for name in ("tried", "others")
                },
            }
        )

    def recipe(self) -> str:
        """The reducer as a file that `--reducer` and `prune` take, with where it came from."""
        said = {
            "recipe": RECIPE,
            "reducer": self.reducer,
            "target": str(self.target),
            "reached": self.reached,
            "checkpoint": self.checkpoint,
            "model": self.model,
            "costs": None if self.costs is None else asdict(self.costs),
            "check": None if self.check is None else asdict(self.check),
            "environment": self.environment,
            "command": self.command,
            "date": self.date,
        }
        return json.dumps(said, indent=2) + "\n"


def _tried(found: dict[str, Any] | None) -> Tried | None:
    if found is None:
        return None
    spent, lost = Spent(**found["costs"]), _losses(found["losses"])
    assert lost is not None, "what was tried lost something"
    return Tried(**{**found, "costs": spent, "losses": lost})


def _losses(found: dict[str, Any] | None) -> Losses | None:
    if found is None:
        return None
    intervals = {
        name: None if found[name] is None else Interval(**found[name])
        for name in ("agreement", "kl_nats", "change_points")
    }
    return Losses(**{**found, **intervals})
