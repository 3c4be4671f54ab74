"""Attention for CPUs that multiply bfloat16: the heads' maps written down a few at a time.

# Note [attention on a CPU]
torch's fused attention on a CPU multiplies bfloat16 no faster than float32 and spends most of its
time on exponentials in float32. Where a processor has instructions for bfloat16, plain products
and a plain softmax over a map that fits its caches take less time. What comes out
is what transformers' `eager` gives, whose maps are bfloat16, too. Everywhere else, and wherever
gradients, programs that are taken away, or masks of truth values are concerned, this is `sdpa`
itself.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vidprune.backbones.parts import stretches

# By which transformers know it: `model.set_attn_implementation("vidprune")`.
IN_PARTS = "vidprune"
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
    **others: Any,
) -> tuple[Tensor, None]:
    """As transformers call attention: heads (B, H, N, d), to (B, N, H, d)."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    # What else is asked for, such as causal attention, is for sdpa to know.
    plain = all(asked is None or asked is False for asked in others.values())
    causal = others.get("is_causal") is None and getattr(module, "is_causal", False)
    if plain and not causal and not dropout and _gains(query, key, value, attention_mask):
        return attend_in_parts(query, key, value, attention_mask, scale), None
    return sdpa_attention_forward(
        module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
    )


AttentionInterface.register(IN_PARTS, _attention_forward)


def set_attention(model: PreTrainedModel, name: str | None) -> None:
    """Let a model attend by an implementation that transformers know by this name; None: by the
    one of this file, where the model would take sdpa.

    Raises ValueError where the model, or this machine, does not have it.
    """
    if name is None:
        if model.config._attn_implementation == _SDPA and model._can_set_attn_implementation():
            model.set_attn_implementation(IN_PARTS)
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
    if implementation == IN_PARTS and not dropout and _gains(query, key, value, mask):
        return attend_in_parts(query, key, value, mask, scale)
    mixed = scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, scale=scale
    )
    return mixed.transpose(1, 2)


def attention_of(model: PreTrainedModel) -> str | None:
    """What a model attends by, where that is not what its family takes of itself; else None."""
    name = model.config._attn_implementation
    if name == IN_PARTS and not (
        _BFLOAT16 and model.device.type == "cpu" and model.dtype == torch.bfloat16
    ):
        name = _SDPA
    return None if name == (_SDPA if model._supports_sdpa else "eager") else name


def _gains(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether parts are faster than sdpa for these heads (B, H, N, d), and as good."""
    taken = [query, key, value] if mask is None else [query, key, value, mask]
    return (
        not torch.compiler.is_exporting()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and query.device.type == "cpu"
        and query.dtype == key.dtype == value.dtype == torch.bfloat16
        and key.shape[:2] == query.shape[:2]
        and (mask is None or mask.dtype == torch.bfloat16)
        and not (torch.is_grad_enabled() and any(each.requires_grad for each in taken))
        and _BFLOAT16
    )


@torch.library.custom_op("vidprune::attend_in_parts", mutates_args=())
def attend_in_parts(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
) -> Tensor:
    """Attention of heads (B, H, N, d) to (B, N, H, d); `mask`, of any shape that grows to
    (B, H, N, M), is added to its logits. One operation to a compiler, which would unroll it."""
    clips, heads, tokens, _ = query.shape
    query, values = (query * scale).flatten(0, 1), value.flatten(0, 1)
    keys = key.flatten(0, 1).mT
    if mask is not None:
        mask = mask.expand(clips, heads, -1, -1).flatten(0, 1)
    row = keys.shape[-1] * query.element_size()
    mixed = query.new_empty(clips * heads, tokens, values.shape[-1])
    for own in stretches(clips * heads, tokens * row):
        bias = None if mask is None else mask[own]
        for rows in stretches(tokens, row):
            mixed[own, rows] = _mixed(query[own, rows], keys[own], values[own], bias, rows)
    return mixed.unflatten(0, (clips, heads)).transpose(1, 2).contiguous()


@attend_in_parts.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float) -> Tensor:
    clips, heads, tokens, _ = query.shape
    return query.new_empty(clips, tokens, heads, value.shape[-1])


def _mixed(query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None, rows: slice) -> Tensor:
    """Some heads' `rows` of queries (P, n, d) with all keys (P, d, M) and values (P, M, d)."""
    logits = query @ keys
    if bias is not None:
        logits += bias if bias.shape[1] == 1 else bias[:, rows]
    return logits.softmax(-1) @ values
