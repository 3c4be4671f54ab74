"""The section of a model card that says how a model is pruned."""

import re
import warnings
from pathlib import Path

from transformers import PreTrainedModel

from vidprune.backbones.registry import has_head
from vidprune.macs import costs
from vidprune.reducers.spec import describe

_BEGIN, _END = "<!-- vidprune -->", "<!-- end of vidprune -->"
_SECTION = re.compile(f"{_BEGIN}.*?{_END}\n?", re.DOTALL)
_NEW = """\
---
library_name: transformers
{task}tags:
- vidprune
- token-pruning
---

"""
_CLASSIFIES = "pipeline_tag: video-classification\n"


def section(model: PreTrainedModel, name: str) -> str:
    """What a card says of a pruned model that is called `name`."""
    taken = costs(model)
    reducer = describe(model.reducer)
    saved = 1 - taken.gmacs_per_view / taken.gmacs_dense
    return f"""\
{_BEGIN}
## Pruned without training

The weights are those of the dense model. Loaded by vidprune (`pip install vidprune`), tokens are
dropped between its blocks by `{reducer}`: a clip takes {taken.gmacs_per_view:.2f} billion
multiply-accumulates where the dense model takes {taken.gmacs_dense:.2f} ({saved:.0%} less). Loaded
by transformers alone it is the dense model.

```python
import vidprune

model = vidprune.load("{name}")  # pruned; vidprune.unprune(model) is the dense one
```
{_END}
"""


def write_section(model: PreTrainedModel, folder: Path, name: str | None = None) -> None:
    """Put the section into the README.md of a saved model, in the place of an older one or at the
    end; what else the card says stays. Of a model that is not pruned there is none.

    Warns, and leaves it as it is, where the card is not UTF-8.
    """
    card = folder / "README.md"
    try:
        said = card.read_text(encoding="utf-8") if card.is_file() else ""
    except UnicodeDecodeError:
        warnings.warn(
            f"{card} is not UTF-8 and stays as it is; it does not say how the model is pruned",
            stacklevel=2,
        )
        return
    text = _SECTION.sub("", said).rstrip("\n")
    if model.reducer is None:
        if text != said.rstrip("\n"):
            card.write_text(f"{text}\n", encoding="utf-8")
        return
    text = text or _new(model).rstrip("\n")
    card.write_text(f"{text}\n\n{section(model, name or folder.name)}", encoding="utf-8")


def _new(model: PreTrainedModel) -> str:
    return _NEW.format(task=_CLASSIFIES if has_head(model) else "")
