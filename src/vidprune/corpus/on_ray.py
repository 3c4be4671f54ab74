"""The job on Ray Data: decoders and models as actors of their own number, on one machine or many.

Ray holds decoded videos in its own memory, lets decoders wait where models fall behind, and starts
what died again, with what it was at. Rows come back to this process, which alone writes.
"""

import logging
import os
import pickle
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch

from vidprune.assembly import Assembly
from vidprune.corpus.answers import Question, answers
from vidprune.corpus.items import Item
from vidprune.corpus.job import Answered, Numbered
from vidprune.corpus.reading import Decoded, decode
from vidprune.environment import usable_cores
from vidprune.shortage import OutOfMemory
from vidprune.video import Protocol
from vidprune.video.guarded import GuardedReader, Limits

__all__ = ["OnRay"]

# Videos that one task decodes, one after the other (more of a large corpus, since Ray keeps account
# of every task), and bytes of pixels that a model takes at once.
_VIDEOS_OF_A_TASK, _MOST_TASKS = 8, 20_000
_BYTES_AT_ONCE = 2**29
_BATCHES_BY_CONTENT = 16
_ANSWERS_WITHIN_SECONDS = 5.0
_MOST_OBJECTS, _LEAST_OBJECTS = 4 * 2**30, 2**28


@dataclass(frozen=True, kw_only=True)
class OnRay:
    """So many `decoders` and `models` (None: what the machine has room for), on the cluster at
    `address`, or one that is started for the job alone and ends with it. Models are on GPUs where
    there are any, unless `on_cpu`. `limits` to decoding a video, `fetch` to fetching it.

    Raises ValueError for fewer than one of them, and for an address where nobody answers.
    """

    assembly: Assembly
    protocol: Protocol
    question: Question
    limits: Limits
    fetch: Limits
    decoders: int | None = None
    models: int | None = None
    address: str | None = None
    on_cpu: bool = False

    def __post_init__(self) -> None:
        for name in ("decoders", "models"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1, or left out")
        if self.address is not None:
            _check_reached(self.address)

    def __call__(self, items: Iterable[Numbered]) -> Iterator[Answered]:
        """The rows of every video, as they come.

        Raises OutOfMemory where a model's batch does not fit.
        """
        numbered = list(items)
        if not numbered:
            return
        with _cluster(self.address) as ray:
            for batch in self._dataset(ray, [item for _, item in numbered]).iter_batches(
                batch_size=None, prefetch_batches=0
            ):
                for index, rows in zip(batch["index"], batch["rows"], strict=True):
                    shard, item = numbered[int(index)]
                    found = pickle.loads(rows)
                    if isinstance(found, OutOfMemory):
                        raise found
                    yield shard, item, found

    def _dataset(self, ray: Any, items: list[Item]) -> Any:
        """Videos to pixels, and pixels to rows."""
        machine = ray.cluster_resources()
        gpus = 0 if self.on_cpu else int(machine.get("GPU", 0))
        cores = int(machine["CPU"])
        models = self.models or max(1, gpus)
        decoders = self.decoders or max(1, cores - models if gpus else cores // 2)
        if models + 1 > cores:
            raise ValueError(
                f"models={models} leave no core for a decoder: there are {cores}; ask for fewer"
            )
        # What one node has: an actor does not reach over two.
        node = min(int(each["Resources"].get("CPU", 1)) for each in ray.nodes() if each["Alive"])
        own = 1 if gpus else max(1, min(node - 1, (cores - decoders) // models))
        named = ray.data.from_items(
            # Addresses need not be text, which columns of strings have to be.
            [{"index": index, "item": pickle.dumps(item)} for index, item in enumerate(items)],
            override_num_blocks=min(-(-len(items) // _VIDEOS_OF_A_TASK), _MOST_TASKS),
        )
        pixels = named.map(
            _Decoder,
            fn_constructor_args=(self.protocol, self.limits, self.fetch),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=decoders),
            num_cpus=1,
        )
        return pixels.map_batches(
            _Model,
            fn_constructor_args=(self.assembly, self.question, own, gpus > 0),
            batch_size=self._videos_at_once(),
            compute=ray.data.ActorPoolStrategy(size=models),
            num_cpus=own,
            num_gpus=1 if gpus else 0,
        )

    def _videos_at_once(self) -> int:
        """As many as fill a model's batches, if memory allows."""
        protocol, batch = self.protocol, self.assembly.batch_size
        views = len(protocol.views)
        filling = batch // gcd(views, batch) * self._batches()
        room = _BYTES_AT_ONCE // (views * protocol.frames * 3 * protocol.size**2)
        return max(1, min(filling, room))

    def _batches(self) -> int:
        """How many a model is given at once: one, but where each setting of a budget by content has
        its own, of which the last is filled up every time."""
        return _BATCHES_BY_CONTENT if self.assembly.by_content else 1


class _Decoder:
    """An actor that turns videos into their pixels."""

    def __init__(self, protocol: Protocol, limits: Limits, fetch: Limits) -> None:
        self._fetch = fetch
        self._reader = GuardedReader(protocol, limits)
        size = protocol.size
        self._nothing = np.zeros((len(protocol.views), protocol.frames, 3, size, size), np.uint8)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        found = decode(pickle.loads(row["item"]), self._reader, self._fetch)
        pixels = self._nothing if found.pixels is None else found.pixels.numpy()
        return row | {"pixels": pixels, "error": found.error or ""}


class _Model:
    """An actor that answers for videos whose pixels it is given."""

    def __init__(self, assembly: Assembly, question: Question, threads: int, on_gpu: bool) -> None:
        self._question = question
        # Ray lets each process have one; what is computed must not depend on where it is.
        torch.set_num_threads(threads)
        self._model = assembly.make(None if on_gpu else torch.device("cpu"))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        columns = (batch["item"], batch["pixels"], batch["error"])
        videos = [
            Decoded(
                pickle.loads(item),
                None if error else torch.from_numpy(np.array(pixels)),
                error or None,
            )
            for item, pixels, error in zip(*columns, strict=True)
        ]
        try:
            rows = [pickle.dumps(rows) for _, rows in answers(self._model, self._question, videos)]
        except OutOfMemory as error:
            # Told and not raised: Ray would put pages of its own around it.
            rows = [pickle.dumps(error)] * len(videos)
        return {"index": batch["index"], "rows": np.array(rows, dtype=object)}


def _check_reached(address: str) -> None:
    """Raise ValueError where a HOST:PORT does not answer, of which Ray would say so much later."""
    found = re.fullmatch(r"(?:ray://)?([^:/]+):([0-9]{1,5})", address)
    if found is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), _ANSWERS_WITHIN_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"address={address!r} does not answer ({error}); give the HOST:PORT that `ray start` "
            "printed on the head of the cluster"
        ) from error


@contextmanager
def _cluster(address: str | None) -> Iterator[Any]:
    """Ray, joined or started."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise RuntimeError(
            "ray is not installed: pip install 'vidprune[corpus]', or leave --ray out"
        ) from error
    quiet: dict[str, Any] = {"logging_level": "error", "log_to_driver": False}
    if address is None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 5
        quiet |= {
            "num_cpus": max(2, usable_cores()),
            "object_store_memory": min(_MOST_OBJECTS, max(_LEAST_OBJECTS, memory)),
            "include_dashboard": False,
        }
    with _without_its_level():
        # Told where, or RAY_ADDRESS and what other commands left in /tmp would say so.
        ray.init(address=address or "local", **quiet)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def _without_its_level() -> Iterator[None]:
    """Without what Ray's own code says on standard error to tell that its log level was set, to
    where it says nothing (`RAY_BACKEND_LOG_LEVEL`, which the command line sets)."""
    if os.environ.get("RAY_BACKEND_LOG_LEVEL") != "fatal":
        yield
        return
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        for each in (kept, nowhere):
            os.close(each)
