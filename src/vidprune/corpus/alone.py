"""The job in this process, which needs nothing else."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vidprune.corpus.answers import Question, answers
from vidprune.corpus.items import Item
from vidprune.corpus.job import Answered, Numbered
from vidprune.corpus.reading import decoded
from vidprune.environment import usable_cores
from vidprune.inference import ViewModel
from vidprune.reading import default_workers
from vidprune.video.guarded import Limits

__all__ = ["Alone"]


@dataclass(frozen=True)
class Alone:
    """Decodes in `workers` processes, or threads where a GPU decodes (None: see `default_workers`),
    and asks one model; `limits` to
    decoding a video, `fetch` to fetching it."""

    model: ViewModel
    question: Question
    limits: Limits
    fetch: Limits
    workers: int | None = None

    def __call__(self, items: Iterable[Numbered]) -> Iterator[Answered]:
        """The rows of every video, in order."""
        shards: list[int] = []

        def noted() -> Iterator[Item]:
            for shard, item in items:
                shards.append(shard)
                yield item

        workers = self.workers
        if workers is None:
            workers = default_workers(self.model.device, usable_cores(), self.model.decoder)
        videos = decoded(
            noted(),
            self.model.protocol,
            limits=self.limits,
            fetch=self.fetch,
            workers=workers,
            decoder=self.model.decoder,
            device=self.model.device,
        )
        for item, rows in answers(self.model, self.question, videos):
            yield shards.pop(0), item, rows
