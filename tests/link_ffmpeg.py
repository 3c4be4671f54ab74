"""PyAV's FFmpeg under the names by which torchcodec looks for it, so that the tests need no other.

    python tests/link_ffmpeg.py FOLDER

LD_LIBRARY_PATH has to name FOLDER then. Where PyAV brings no libraries of its own (macOS, or built
from source) nothing is linked.
"""

import re
import sys
from pathlib import Path

import av


def link(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for library in (Path(av.__file__).parent.parent / "av.libs").glob("lib*-*.so.*"):
        if found := re.fullmatch(r"(lib(?:av|sw)\w+)-\w+\.so\.(\d+)\..*", library.name):
            name = folder / f"{found[1]}.so.{found[2]}"
            name.unlink(missing_ok=True)
            name.symlink_to(library)


if __name__ == "__main__":
    link(Path(sys.argv[1]))
