"""An evaluation's progress as TensorBoard scalars."""

from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vidprune.report import Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Scalars:
    """Writes accuracy so far, over the number of videos done, into `folder`."""

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard is not installed; install vidprune[tensorboard], or do without it"
            )
        self._folder = folder

    def __call__(self, progress: Progress) -> None:
        """Note where the evaluation is."""
        found = progress.accuracy
        for name, value in (("top1", found.top1), ("top5", found.top5)):
            if value is not None:
                self._writer.add_scalar(f"accuracy/{name}", value, progress.done)
        self._writer.add_scalar("unreadable", progress.unreadable, progress.done)

    @cached_property
    def _writer(self) -> "SummaryWriter":
        """Made when first used: until then the folder may turn out to be another run's."""
        from torch.utils.tensorboard import SummaryWriter

        return SummaryWriter(str(self._folder))

    def close(self) -> None:
        """Finish the file."""
        if "_writer" in self.__dict__:
            self._writer.close()
