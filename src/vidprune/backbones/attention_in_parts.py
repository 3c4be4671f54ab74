"""Attention for CPUs: the heads' maps written down a few at a time.

# Note [attention on a CPU]
torch's fused attention on a CPU multiplies bfloat16 no faster than float32 and spends most of its
time on exponentials in float32. Where a processor has instructions for bfloat16, plain products
and a plain softmax over a map that fits its caches take less time. What comes out
is what transformers' `eager` gives, whose maps are bfloat16, too. In float32 the same gains where
oneDNN takes the products (Note [oneDNN]); that is another implementation, which one asks for.
Everywhere else, and wherever gradients, programs that are taken away, or masks of truth values are
concerned, this is `sdpa` itself.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vidprune.backbones.onednn import HAS_ONEDNN, can_multiply, product
from vidprune.backbones.parts import stretches

# By which transformers know it: `model.set_attn_implementation("vidprune")`.
IN_PARTS = "vidprune"
# The same, and float32 in parts as well.
BY_ONEDNN = "vidprune-onednn"
_SDPA = "sdpa"
# Whether the processor multiplies bfloat16, and need not make float32 of it first. Asked once: a
# compiler could not look into the question.
_BFLOAT16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    implementation: str,
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers call attention: heads (B, H, N, d), to (B, N, H, d)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # What else is asked for, such as causal attention, is for sdpa to know.
    plain = all(asked is None or asked is False for asked in others.values())
    causal = others.get("is_causal") is None and getattr(module, "is_causal", False)
    gains = _gains(query, key, value, attention_mask, implementation)
    if plain and not causal and not dropout and gains:
        return attend_in_parts(query, key, value, attention_mask, scale), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )


for _name in (IN_PARTS, BY_ONEDNN):
    AttentionInterface.register(_name, partial(_attention_forward, implementation=_name))


def set_attention(model: PreTrainedModel, name: str | None, *, own: str = IN_PARTS) -> None:
    """Let a model attend by an implementation that transformers know by this name; None: by `own`,
    one of this file's, where the model would take sdpa.

    Raises ValueError where the model, or this machine, does not have it.
    """
    if name is None:
        if model.config._attn_implementation == _SDPA and model._can_set_attn_implementation():
            model.set_attn_implementation(own)
        return
    try:
        model.set_attn_implementation(name)
    except (ValueError, ImportError) as error:
        raise ValueError(f"attn_implementation={name!r} cannot be had: {error}") from error
    if model.config._attn_implementation != name:
        raise ValueError(
            f"attn_implementation={name!r} cannot be had: a {type(model).__name__} has its own "
            f"({model.config._attn_implementation}); leave it out"
        )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    scale: float,
    dropout: float,
    implementation: str | None,
) -> Tensor:
    """Attention of heads (B, H, N, d), `mask` added to its logits, (B, N, H, d): in parts where
    that is the `implementation` and gains anything, else sdpa."""
    if not dropout and _gains(query, key, value, mask, implementation):
        return attend_in_parts(query, key, value, mask, scale)
    mixed = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
    )
    return mixed.transpose(1, 2)


def attention_of(model: PreTrainedModel) -> str | None:
    """What a model attends by, where that is not what its family takes of itself; else None."""
    if not isinstance(model, PreTrainedModel):
        # Exported, with whatever it was exported with.
        return None
    name = model.config._attn_implementation
    if name in (IN_PARTS, BY_ONEDNN):
        name = _in_effect(name, model.dtype) if model.device.type == "cpu" else _SDPA
    return None if name == (_SDPA if model._supports_sdpa else "eager") else name


def _in_effect(implementation: str | None, dtype: torch.dtype) -> str:
    """What an implementation of this file comes to for a type on a CPU."""
    if dtype == torch.bfloat16 and _BFLOAT16:
        return IN_PARTS
    onednn = HAS_ONEDNN and implementation == BY_ONEDNN
    return BY_ONEDNN if onednn and dtype == torch.float32 else _SDPA


def _gains(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, implementation: str | None
) -> bool:
    """Whether parts are asked for, and are faster than sdpa for heads (B, H, N, d), and as good."""
    taken = [query, key, value] if mask is None else [query, key, value, mask]
    return (
        implementation in (IN_PARTS, BY_ONEDNN)
        and _in_effect(implementation, query.dtype) != _SDPA
        and can_multiply(*taken, dtype=query.dtype)
        and key.shape[:2] == query.shape[:2]
    )


@torch.library.custom_op("vidprune::attend_in_parts", mutates_args=())
def attend_in_parts(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Attention of heads (B, H, N, d) to (B, N, H, d); `mask`, of any shape that grows to
    (B, H, N, M), is added to its logits. One operation to a compiler, which would unroll it."""
    clips, heads, tokens, _ = query.shape
    query, key, values = (each.flatten(0, 1) for each in (query * scale, key, value))
    if mask is not None:
        mask = mask.expand(clips, heads, -1, -1).flatten(0, 1)
    mixed = query.new_empty(clips * heads, tokens, values.shape[-1])
    attend = _one_by_one if query.dtype == torch.float32 else _some_at_once
    attend(query, key, values, mask, mixed)
    return mixed.unflatten(0, (clips, heads)).transpose(1, 2).contiguous()


@attend_in_parts.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    clips, heads, tokens, _ = query.shape
    return query.new_empty(clips, tokens, heads, value.shape[-1])


def _some_at_once(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, mixed: Tensor
) -> None:
    """Queries (P, N, d) with keys and values (P, M, d) into `mixed`: as many of the P heads as fit,
    or some rows of one."""
    keys = key.mT
    row = keys.shape[-1] * query.element_size()
    for own in stretches(len(query), query.shape[1] * row):
        for rows in stretches(query.shape[1], row):
            logits = query[own, rows] @ keys[own]
            if mask is not None:
                logits += _of_rows(mask[own], rows)
            mixed[own, rows] = logits.softmax(-1) @ value[own]


def _one_by_one(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, mixed: Tensor
) -> None:
    """As `_some_at_once`, some rows of one head by oneDNN, which takes one product at a time."""
    # A quarter of what is a part elsewhere: logits and weights then lie beside each other.
    row = 4 * key.shape[1] * query.element_size()
    for head in range(len(query)):
        keys, values = key[head].contiguous(), value[head].mT.contiguous()
        for rows in stretches(query.shape[1], row):
            logits = product(query[head, rows], keys)
            if mask is not None:
                logits += _of_rows(mask[head], rows)
            mixed[head, rows] = product(logits.softmax(-1), values)


def _of_rows(mask: Tensor, rows: slice) -> Tensor:
    """A mask (..., N or 1, M) of some queries."""
    return mask if mask.shape[-2] == 1 else mask[..., rows, :]
