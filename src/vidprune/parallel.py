"""Processes that share a job under torchrun: each takes every n-th item."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")


class ProcessLost(RuntimeError):
    """A process that shares the job is gone, or cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class Process:
    """This process among `count`, `local_count` of them on its machine; `rank` 0 reports."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def reports(self) -> bool:
        """Whether this is the process that gathers and reports."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """The items that are this process's to do; over all processes each item once."""
        return items[self.rank :: self.count]

    def gather(self, item: Item) -> list[Item]:
        """The items of all processes by rank, on each of them; waits for them all.

        Raises ProcessLost where one of them is gone.
        """
        if self.count == 1:
            return [item]
        items: list[Item] = [item] * self.count
        with self._meeting():
            dist.all_gather_object(items, item)
        return items

    def wait_for_all(self) -> None:
        """Return when every process has come this far. Raises ProcessLost where one is gone."""
        if self.count > 1:
            with self._meeting():
                dist.barrier()

    @contextmanager
    def _meeting(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = (str(error).splitlines() or [""])[0]
            raise ProcessLost(
                f"another of the {self.count} processes is gone, so process {self.rank} stops "
                f"({reason}); what all have done is kept, and the same command, with any number "
                "of processes, goes on from there"
            ) from error


def join() -> Process:
    """This process's place under torchrun, by the variables that it sets; alone without it.

    Processes only wait for each other, so gloo does, on any device.
    """
    process = Process(
        rank=int(os.environ.get("RANK", 0)),
        count=int(os.environ.get("WORLD_SIZE", 1)),
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        local_count=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
    )
    if process.count > 1 and not dist.is_initialized():
        # A share of the videos may take days longer than another.
        dist.init_process_group("gloo", timeout=timedelta(days=7))
    if process.count > 1 and torch.cuda.is_available():
        torch.cuda.set_device(process.local_rank % torch.cuda.device_count())
    return process


def leave() -> None:
    """End what `join` began."""
    if dist.is_initialized():
        dist.destroy_process_group()
