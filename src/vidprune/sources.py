"""Videos of one source, such as clips of one film, which say less than as many strangers.

# Note [clips of one source]
What a model gets right of one clip it tends to get right of the next one from the same film, and
clips that stand on several test lists are met several times. Who takes them all for independent has
intervals that are too narrow. Where it is known which belong together, spreads are taken over
sources: a figure's variance is that of the sums over sources (the design effect of Kish 1965 says
how much larger it is), resamples draw whole sources, and a change is tested by flipping the signs
of whole sources.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

FLIPS = 9999
_AT_ONCE = 2**22


def sources_of(names: Sequence[str], pattern: str) -> Tensor:
    """The number of each name's source, (V,) int64: names belong together in which `pattern`, a
    regular expression, finds the same (its group `source`, or else all groups, or else all that it
    matches). One in which it finds nothing is its own source.

    Raises ValueError for what is no regular expression, what finds nothing in any of several
    names, and what makes one source of all of them, whose spread nobody knows.
    """
    finder = source_pattern(pattern)
    if len(names) > 1 and not any(map(finder.search, names)):
        raise ValueError(
            f"source={pattern!r} finds nothing in any of the {len(names)} videos' names, such as "
            f"{names[0]!r}; give a pattern that does, or leave it out"
        )
    numbers: dict[str, int] = {}
    found = []
    for name in names:
        match = finder.search(name)
        key = name if match is None else _found_by(match)
        found.append(numbers.setdefault(key, len(numbers)))
    if len(names) > 1 and len(numbers) == 1:
        raise ValueError(
            f"source={pattern!r} makes one source of all {len(names)} videos, such as "
            f"{names[0]!r}, and of one nobody knows the spread; give a pattern that parts them"
        )
    return torch.tensor(found, dtype=torch.int64)


def _found_by(match: re.Match[str]) -> str:
    if "source" in match.re.groupindex:
        return match["source"] or ""
    return "\0".join(match.groups(default="") or (match[0],))


def source_pattern(pattern: str) -> re.Pattern[str]:
    """The regular expression. Raises ValueError where it is none."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"source={pattern!r} is no regular expression ({error}); give one that finds in a "
            "video's name what videos of one source have in common"
        ) from error


def design_effect(values: Tensor, sources: Tensor) -> float:
    """How many times larger the variance of the mean of `values` (V,) is than were all of them
    independent, at least 1. Where all are alike, as large as were sources all of one mind."""
    values = values.double()
    apart = values - values.mean()
    sizes = torch.bincount(sources).double()
    alone = apart.square().sum() / (len(values) - 1)
    if alone == 0 or len(sizes) < 2:
        return (sizes.square().sum() / sizes.sum()).item()
    together = _sums(apart, sources).square().sum() * len(sizes) / (len(sizes) - 1)
    return max(1.0, (together / (alone * len(values))).item())


def resampled_means(
    values: Tensor, sources: Tensor, resamples: int, generator: torch.Generator
) -> Tensor:
    """The mean of each resample (R,) of whole sources, of `values` (V,) float64."""
    sums, sizes = _sums(values, sources), torch.bincount(sources).double()
    rows = max(1, _AT_ONCE // len(sums))
    blocks = [min(rows, resamples - start) for start in range(0, resamples, rows)]
    drawn = (torch.randint(len(sums), (n, len(sums)), generator=generator) for n in blocks)
    return torch.cat([sums[each].sum(1) / sizes[each].sum(1) for each in drawn])


def sign_flip_p(differences: Tensor, sources: Tensor, *, seed: int = 0) -> float:
    """How likely it is that the signs of whole sources, tossed anew, make a sum of `differences`
    (V,) at least as far from zero; two-sided, by 9999 tosses."""
    sums = _sums(differences.double(), sources)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    generator = torch.Generator().manual_seed(seed)
    far, seen = 0, sums.sum().abs().item()
    rows = max(1, _AT_ONCE // len(sums))
    for start in range(0, FLIPS, rows):
        tossed = torch.randint(2, (min(rows, FLIPS - start), len(sums)), generator=generator)
        far += int((((2 * tossed - 1) * sums).sum(1).abs() >= seen - 1e-9).sum())
    return (1 + far) / (1 + FLIPS)


def _sums(values: Tensor, sources: Tensor) -> Tensor:
    size = int(sources.max()) + 1
    return torch.zeros(size, dtype=torch.float64).index_add_(0, sources, values.double())
