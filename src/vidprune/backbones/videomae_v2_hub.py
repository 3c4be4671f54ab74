"""VideoMAE V2 (Wang et al., CVPR 2023) as OpenGVLab has it on the hub, read without its code.

`OpenGVLab/VideoMAEv2-Base` and its larger siblings come with Python code of their own, which
vidprune does not run. Their config.json has `model_type` VideoMAEv2_..., and the shape under
`model_config`; their weights are a `model.safetensors` with the names of the original code under
`model.`, and no head: features are the mean of the tokens, normed by `fc_norm`. That is
transformers' VideoMAE with no labels, whose "logits" are then those features. Asked for without a
head it is the bare encoder, and `fc_norm`, which transformers has in the classifier, is left out.

config.json of Base is known word for word. It is assumed, and not tried on the published files,
that those of its siblings differ in numbers only, and that weights have the names that the authors'
code for fine-tuning gives them. Where they have others, they are refused by name.
"""

import math
from collections.abc import Mapping
from typing import Any

from transformers import VideoMAEConfig

from vidprune.backbones.refusals import CheckpointError
from vidprune.backbones.videomae_checkpoints import ORIGINAL_EPSILON

WEIGHTS = "model.safetensors"

# Variants of the code that transformers' VideoMAE does not have, and no published model uses.
_UNKNOWN = ("cos_attn", "init_values", "use_learnable_pos_emb")


def is_videomae_v2(record: Mapping[str, Any]) -> bool:
    """Whether the content of a config.json is that of VideoMAE V2's own hub layout."""
    named = str(record.get("model_type", "")).lower().startswith("videomaev2")
    return named and isinstance(record.get("model_config"), Mapping)


def to_videomae(record: Mapping[str, Any], source: str) -> VideoMAEConfig:
    """The content of such a config.json as a configuration of transformers' VideoMAE.

    Raises CheckpointError where it asks for what that model does not have, or lacks an entry.
    """
    shape = record["model_config"]
    if unknown := [name for name in _UNKNOWN if shape.get(name)]:
        raise _variant(source, shape, unknown[0])
    needed = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")
    if missing := [name for name in needed if name not in shape]:
        raise CheckpointError(
            f"{source} is of VideoMAE V2's layout, but its model_config lacks {missing[0]}; give "
            "the config.json that was published with the weights"
        )
    if not _is_scaled_by_width(shape):
        raise _variant(source, shape, "qk_scale")
    return VideoMAEConfig(
        image_size=shape["img_size"],
        patch_size=shape["patch_size"],
        num_channels=shape.get("in_chans", 3),
        num_frames=shape.get("num_frames", 16),
        tubelet_size=shape.get("tubelet_size", 2),
        hidden_size=shape["embed_dim"],
        num_hidden_layers=shape["depth"],
        num_attention_heads=shape["num_heads"],
        # Rounded, since JSON cannot write ViT-g's ratio of 48/11.
        intermediate_size=round(shape["embed_dim"] * shape["mlp_ratio"]),
        qkv_bias=shape.get("qkv_bias", True),
        layer_norm_eps=shape.get("layer_norm_eps", ORIGINAL_EPSILON),
        use_mean_pooling=shape.get("use_mean_pooling", True),
        num_labels=shape.get("num_classes", 0),
    )


def _variant(source: str, shape: Mapping[str, Any], name: str) -> CheckpointError:
    return CheckpointError(
        f"{source} has {name}={shape[name]!r}, a variant of VideoMAE V2 that cannot be loaded; "
        "give a checkpoint without it"
    )


def _is_scaled_by_width(shape: Mapping[str, Any]) -> bool:
    """Whether attention's logits are scaled as transformers does: by the root of a head's width,
    which the original code does for a `qk_scale` of None or 0 as well."""
    scale = shape.get("qk_scale")
    if not scale:
        return True
    width = shape["embed_dim"] // shape["num_heads"]
    return isinstance(scale, int | float) and math.isclose(scale, width**-0.5, rel_tol=1e-5)
