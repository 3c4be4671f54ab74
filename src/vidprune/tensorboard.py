"""An evaluation's progress as TensorBoard scalars."""

from importlib.util import find_spec
from pathlib import Path

from vidprune.commands.evaluate import Progress


class Scalars:
    """Writes accuracy so far, over the number of videos done, into `folder`."""

    def __init__(self, folder: Path) -> None:
        if find_spec("tensorboard") is None:
            raise ValueError(
                "tensorboard is not installed; install vidprune[tensorboard], or do without it"
            )
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def __call__(self, progress: Progress) -> None:
        """Note where the evaluation is."""
        found = progress.accuracy
        for name, value in (("top1", found.top1), ("top5", found.top5)):
            if value is not None:
                self._writer.add_scalar(f"accuracy/{name}", value, progress.done)
        self._writer.add_scalar("unreadable", progress.unreadable, progress.done)

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()
