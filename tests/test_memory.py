"""Memory that is freed and taken again costs no pages, in a process of its own."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed"
)

PROGRAM = """
import resource, torch
from vidprune.memory import keep_freed_memory
kept = keep_freed_memory() if {keep} else None
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(2**24).add_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(kept, min([pages() for _ in range(20)][10:]))
"""


def run(*, keep: bool, **environment: str) -> tuple[str, int]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_"))}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(keep=keep)],
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    kept, pages = done.stdout.split()
    return kept, int(pages)


def test_a_tensor_taken_again_costs_no_pages() -> None:
    # 64 MiB are 16384 pages of 4 KiB, or 32 of 2 MiB.
    kept, pages = run(keep=True)
    assert kept == "True"
    assert pages < 16
    assert run(keep=False)[1] >= 32


def test_who_has_told_the_c_library_is_not_overruled() -> None:
    assert run(keep=True, MALLOC_TOP_PAD_="131072")[0] == "False"
