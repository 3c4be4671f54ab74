"""Whose a recipe's folder is, and which files it learns from."""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from vidprune.parallel import Process
from vidprune.runs import RunFolder
from vidprune.video import Sample

VIDEOS = "videos.txt"


def claim(output: Path, settings: Mapping[str, Any], samples: Sequence[Sample]) -> None:
    """Make a folder this run's, before anything is learned, and write into its `videos.txt` which
    files it learns from.

    Raises FileExistsError where it is that of a run with other settings or other videos.
    """
    listed = "\n".join(f"{sample.path.resolve()} {sample.label}" for sample in samples)
    digest = sha256(listed.encode(errors="surrogatepass")).hexdigest()[:16]
    RunFolder(output, Process()).claim({**settings, "videos": digest}, restart=False)
    paths = "".join(f"{sample.path.resolve()}\n" for sample in samples)
    (output / VIDEOS).write_text(paths, encoding="utf-8", errors="surrogatepass")
