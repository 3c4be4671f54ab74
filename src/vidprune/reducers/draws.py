"""Random numbers that depend on a clip, a stage and a place, and on nothing else.

A generator would tie a clip's draws to its neighbours in the batch; a hash does not, and it
compiles to a handful of integer operations without state.
"""

from torch import Tensor

_WORD = 0xFFFFFFFF


def _mix(words: Tensor) -> Tensor:
    """Scramble 32-bit words held in int64: xor-shift and multiply, twice (after C. Wellons'
    lowbias32 search). Products wrap in int64, which leaves the low 32 bits exact."""
    words = (words ^ (words >> 16)) * 0x7FEB352D & _WORD
    words = (words ^ (words >> 15)) * 0x846CA68B & _WORD
    return words ^ (words >> 16)


def check_seed(seed: object) -> None:
    """Raise ValueError where a seed is not a whole number."""
    if type(seed) is not int:
        raise ValueError(f"seed={seed!r} must be a whole number, such as seed=0")


def draw(clip_keys: Tensor, places: Tensor, *, seed: int, stage: int) -> Tensor:
    """A word in [0, 2^32) for every clip and place, as int64.

    `clip_keys` (B,) int64: which clip; `places` (B, N) int64: which token. The same four
    numbers always give the same word.
    """
    clip = _mix((clip_keys & _WORD) ^ _mix((clip_keys >> 32) & _WORD))
    start = _mix(clip ^ ((seed * 0x9E3779B1 + stage * 0x85EBCA77 + 0x165667B1) & _WORD))
    return _mix(_mix(places & _WORD) ^ start[:, None])
