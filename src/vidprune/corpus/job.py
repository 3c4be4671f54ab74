"""A job over a corpus: which shards are missing, and what fills them."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from typing import Protocol as Interface

from vidprune.corpus.answers import Question, Row
from vidprune.corpus.items import Item, digest_lines
from vidprune.corpus.shards import Shards

__all__ = ["Engine", "Job", "Progress", "Summary", "run"]

# Videos with the number of their shard go in, their rows come out, in any order.
Numbered = tuple[int, Item]
Answered = tuple[int, Item, list[Row]]


class Engine(Interface):
    """Whatever asks a model about videos."""

    def __call__(self, items: Iterable[Numbered]) -> Iterator[Answered]:
        """The rows of every video once, in any order."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is asked about which videos; `told` (such as model and reducer) stands in every row,
    `settings` is whatever else decides what comes out."""

    items: tuple[Item, ...]
    question: Question
    told: dict[str, str]
    settings: dict[str, Any]
    shard_size: int = 256

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError(f"shard_size={self.shard_size} must be at least 1")

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-len(self.items) // self.shard_size)

    def shard(self, number: int) -> tuple[Item, ...]:
        """The videos of one."""
        return self.items[number * self.shard_size : (number + 1) * self.shard_size]

    def described(self) -> dict[str, Any]:
        """What the output folder is claimed with."""
        corpus = hashlib.sha256()
        for line in digest_lines(self.items):
            corpus.update(line)
        return {
            "corpus": corpus.hexdigest()[:16],
            "videos": len(self.items),
            "shard_size": self.shard_size,
            **asdict(self.question),
            **self.told,
            **self.settings,
        }


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is: videos `done` of `total`, of which `before` it was taken up; `errors` so
    far, of this session; `seconds` since it began."""

    done: int
    total: int
    before: int
    errors: int
    seconds: float

    @property
    def videos_per_second(self) -> float:
        """Of this session."""
        return (self.done - self.before) / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At this rate; None before there is one."""
        rate = self.videos_per_second
        return (self.total - self.done) / rate if rate else None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a finished job left: `videos`, of which so many have an error, in so many shards."""

    videos: int
    errors: int
    shards: int


def run(
    job: Job,
    output: Shards,
    engine: Engine,
    *,
    restart: bool = False,
    retry_errors: bool = False,
    observe: Callable[[Progress], object] = lambda progress: None,
) -> Summary:
    """Fill the shards that are missing, each as soon as its videos are answered.

    A shard is written once and whole, by this process alone: whatever is killed, every video ends
    in one shard. What is there is read whole: a shard that is damaged or of other videos is done
    again, and with `retry_errors` those that hold an error. `restart` discards what is there; one
    that was cut off goes on.

    Raises FileExistsError where the output belongs to another job, or another command is at work
    in it, OSError where it cannot be written to.
    """
    with output.held():
        settings = job.described()
        output.claim(settings, restart=restart)
        output.check_no_more_than(job.shards)
        summary = _run(job, output, engine, retry_errors, observe)
        output.finish(settings)
    return summary


def _run(
    job: Job,
    output: Shards,
    engine: Engine,
    retry_errors: bool,
    observe: Callable[[Progress], object],
) -> Summary:
    there = _sound(job, output)
    if retry_errors:
        there = {number: errors for number, errors in there.items() if not errors}
    missing = [number for number in range(job.shards) if number not in there]
    before = len(job.items) - sum(len(job.shard(number)) for number in missing)
    begun = Progress(done=before, total=len(job.items), before=before, errors=0, seconds=0.0)
    observe(course := begun)
    for course in _filled(job, output, engine, missing, begun):
        observe(course)
    errors = sum(there.values()) + course.errors
    return Summary(videos=len(job.items), errors=errors, shards=job.shards)


def _sound(job: Job, output: Shards) -> dict[int, int]:
    """The shards that are there as they were written, and how many rows of each have an error."""
    found: dict[int, int] = {}
    for number in sorted(output.done()):
        names = (item.name for item in job.shard(number))
        errors = output.errors(number, names, job.question.kind, job.told)
        if errors is not None:
            found[number] = errors
    return found


def _filled(
    job: Job, output: Shards, engine: Engine, missing: Sequence[int], course: Progress
) -> Iterator[Progress]:
    """Write shards as they fill, and tell of every video."""
    started = time.monotonic()
    filling: dict[int, dict[str, list[Row]]] = {}
    items = ((number, item) for number in missing for item in job.shard(number))
    for number, item, rows in engine(items):
        filled = filling.setdefault(number, {})
        assert item.name not in filled, "every video is answered once"
        filled[item.name] = rows
        wanted = job.shard(number)
        if len(filled) == len(wanted):
            ordered = [row for each in wanted for row in filled[each.name]]
            output.write(number, ordered, job.question.kind, job.told)
            del filling[number]
        course = replace(
            course,
            done=course.done + 1,
            errors=course.errors + (rows[0]["error"] is not None),
            seconds=time.monotonic() - started,
        )
        yield course
    assert not filling, "every video is answered"
