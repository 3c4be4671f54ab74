"""One epoch of `train` on next to nothing."""

from pathlib import Path

_SHORT = ("--epochs", "1", "--warmup-epochs", "0", "--workers", "0", "--repeats", "1")
_PLAIN = ("--operations", "0", "--erasing", "0", "--batch-size", "2")


def words(data: Path, model: Path, output: Path, *options: str) -> list[str]:
    """The command, with `options` behind it."""
    start = ["train", "--data", str(data), "--model", str(model), "--output", str(output)]
    return [*start, "--device", "cpu", *_SHORT, *_PLAIN, *options]
