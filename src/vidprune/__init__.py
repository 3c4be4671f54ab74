"""vidprune: video transformers made cheaper to run, without training.

>>> model = vidprune.prune(vidprune.load("demo"), vidprune.STA(r=16))
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vidprune.backbones.refusals import CheckpointError
    from vidprune.exporting.running import load_exported
    from vidprune.layout import Layout, TokenGrid
    from vidprune.loading import load
    from vidprune.macs import costs, gmacs_per_view
    from vidprune.model import Trace
    from vidprune.outputs import PrunedFeatures, PrunedOutput
    from vidprune.prepare import ViewOptions, read_clip
    from vidprune.pruned import prune, unprune
    from vidprune.reducers.base import Reducer, Reduction, Signals
    from vidprune.reducers.baselines import Random
    from vidprune.reducers.by_content import ByContent
    from vidprune.reducers.grid import Grid
    from vidprune.reducers.run_length import RunLength
    from vidprune.reducers.schedule import Place, Stage
    from vidprune.reducers.spec import parse as parse_reducer
    from vidprune.reducers.sta import STA
    from vidprune.reducers.tome import ToMe
    from vidprune.reducers.vid_tldr import VidTLDR
    from vidprune.reducers.ward import Ward
    from vidprune.video import UnreadableVideo

# Loaded when first used: `import vidprune` costs nothing, and `vidprune --help` answers at once.
_WHERE = {
    "ByContent": "reducers.by_content",
    "CheckpointError": "backbones.refusals",
    "Grid": "reducers.grid",
    "Layout": "layout",
    "Place": "reducers.schedule",
    "PrunedFeatures": "outputs",
    "PrunedOutput": "outputs",
    "Random": "reducers.baselines",
    "Reducer": "reducers.base",
    "Reduction": "reducers.base",
    "RunLength": "reducers.run_length",
    "STA": "reducers.sta",
    "Signals": "reducers.base",
    "Stage": "reducers.schedule",
    "ToMe": "reducers.tome",
    "TokenGrid": "layout",
    "Trace": "model",
    "costs": "macs",
    "gmacs_per_view": "macs",
    "load": "loading",
    "load_exported": "exporting.running",
    "VidTLDR": "reducers.vid_tldr",
    "Ward": "reducers.ward",
    "ViewOptions": "prepare",
    "UnreadableVideo": "video",
    "parse_reducer": "reducers.spec:parse",
    "prune": "pruned",
    "read_clip": "prepare",
    "unprune": "pruned",
}

__all__ = [
    "STA",
    "ByContent",
    "CheckpointError",
    "Grid",
    "Layout",
    "Place",
    "PrunedFeatures",
    "PrunedOutput",
    "Random",
    "Reducer",
    "Reduction",
    "RunLength",
    "Signals",
    "Stage",
    "ToMe",
    "TokenGrid",
    "Trace",
    "UnreadableVideo",
    "VidTLDR",
    "ViewOptions",
    "Ward",
    "costs",
    "gmacs_per_view",
    "load",
    "load_exported",
    "parse_reducer",
    "prune",
    "read_clip",
    "unprune",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'vidprune' has no attribute {name!r}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(import_module(f"vidprune.{module}"), attribute or name)


def __dir__() -> list[str]:
    return __all__
