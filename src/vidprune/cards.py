"""The section of a model card that says how a model is pruned."""

import re
import warnings
from pathlib import Path

from transformers import PreTrainedModel

from vidprune.backbones.registry import has_head
from vidprune.macs import costs, gmacs_by_setting, gmacs_per_view
from vidprune.reducers.by_content import ByContent
from vidprune.reducers.spec import NONE, describe

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
    reducer = describe(model.reducer)
    return f"""\
{_BEGIN}
## Pruned without training

The weights are those of the dense model. Loaded by vidprune (`pip install vidprune`), tokens are
dropped between its blocks by `{reducer}`: a clip takes {_taken(model)}. Loaded by transformers
alone it is the dense model.

```python
import vidprune

model = vidprune.load("{name}")  # pruned; vidprune.unprune(model) is the dense one
```
{_END}
"""


def _taken(model: PreTrainedModel) -> str:
    """What a clip costs, beside the dense model."""
    dense = costs(model, NONE).gmacs_dense
    beside = f"billion\nmultiply-accumulates where the dense model takes {dense:.2f}"
    if isinstance(model.reducer, ByContent):
        spent = gmacs_by_setting(model)
        return f"{min(spent):.2f} to {max(spent):.2f} {beside}, as its content asks"
    taken = gmacs_per_view(model)
    return f"{taken:.2f} {beside} ({1 - taken / dense:.0%} less)"


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
