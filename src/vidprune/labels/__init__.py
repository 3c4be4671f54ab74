"""Label names of the data sets that public checkpoints were trained on, one file each.

The line number, counted from 0, is the label: `kinetics400.txt` (400 names, alphabetical, the
order of the VideoMAE and torchvision checkpoints) and `something_something_v2.txt` (174
templates in the order of the data set's own label file).
"""

from functools import cache
from importlib.resources import files

__all__ = ["LABEL_SETS", "label_names"]

LABEL_SETS = ("kinetics400", "something_something_v2")


@cache
def label_names(label_set: str) -> tuple[str, ...]:
    """Return the names of a label set; the name of label i is at position i.

    Raises ValueError where no such set ships with the package.
    """
    if label_set not in LABEL_SETS:
        known = ", ".join(LABEL_SETS)
        raise ValueError(
            f"label_set is {label_set!r}, but must be one of {known}; for other data sets, "
            f"take the names from the checkpoint's own configuration"
        )
    text = files(__name__).joinpath(f"{label_set}.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())
