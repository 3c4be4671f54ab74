"""Freed memory kept for the next tensor.

# Note [freed memory]
The C library takes every large tensor from the system anew and hands it back when it is freed. The
system gives it page by page, at the first touch of each, filled with zeros, which takes longer than
an activation over the tensor does: a tenth of a forward over eight clips can go there. A
process that runs one forward after another asks for the same sizes again and again: kept, they cost
nothing. In exchange it goes on holding the most that it ever held.
"""

import ctypes
import os
import platform

# Of mallopt, from <malloc.h>: a parameter, and what it is set to.
_TRIM_THRESHOLD = -1, 2**31 - 1  # bytes free at the top of the heap before any go back
_TOP_PAD = -2, 2**28  # bytes taken beyond those that are needed
_MMAP_MAX = -4, 0  # how many stretches may be taken outside of the heap
# By these a user says how it is to be.
_CHOSEN = ("GLIBC_TUNABLES", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


def keep_freed_memory() -> bool:
    """Let this process keep what it frees, where its C library is glibc and the environment does
    not say how glibc is to do it; whether it does. See Note [freed memory]."""
    if platform.libc_ver()[0] != "glibc" or any(name in os.environ for name in _CHOSEN):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    done = [mallopt(*setting) for setting in (_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX)]
    return all(done)
