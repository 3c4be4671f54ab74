"""The page offers what a model carries, and r as far as it goes."""

import pytest

from matrix import FAMILIES
from tiny_models import tiny
from vidprune import prune
from vidprune.app.choices import REDUCERS, fitting, largest_r
from vidprune.backbones.registry import adapt
from vidprune.reducers.spec import with_r


@pytest.mark.parametrize("family", FAMILIES)
def test_all_that_is_offered_can_be_pruned_by_and_no_more_can(family: str) -> None:
    model = tiny(family, FAMILIES[family].grids.usual)
    shape = adapt(model)
    offered = fitting(shape)
    assert offered
    assert set(offered.items()) <= set(REDUCERS.items())
    for spec in offered.values():
        most = largest_r(shape, spec)
        fewest = prune(model, with_r(spec, most)).stages[0].kept
        assert fewest < prune(model, with_r(spec, 1)).stages[0].entering
        try:
            beyond = prune(model, with_r(spec, most + 1)).stages[0].kept
        except ValueError:
            continue
        # Some methods cut an r down to what they can take.
        assert beyond == fewest
    for name in REDUCERS.keys() - offered.keys():
        with pytest.raises(ValueError, match="r="):
            prune(model, with_r(REDUCERS[name], 1))
