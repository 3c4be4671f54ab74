"""Checkpoints that do not fit, refused with the names of what is wrong with them."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be loaded as asked; the message names what is wrong with it."""


def check_fits(source: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError unless names and shapes are the same, and floats are floats: others
    would be copied into them with no sign of it."""
    _check_floats(source, given, wanted)
    mismatched = [
        f"{name} {tuple(given[name].shape)} where the architecture has {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    missing, unexpected = wanted.keys() - given.keys(), given.keys() - wanted.keys()
    refuse(source, missing, unexpected, mismatched)


def _check_floats(source: str, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for a tensor of integers or complex numbers where floats belong."""
    other = [
        f"{name} {tensor.dtype}"
        for name, tensor in given.items()
        if name in wanted and wanted[name].is_floating_point() and not tensor.is_floating_point()
    ]
    if other:
        raise CheckpointError(
            f"{source} holds {len(other)} tensors that are not of floating-point numbers, as "
            f"weights are: {_some(other)}; give a checkpoint that is not quantised"
        )


def check_plain(source: str, state: Mapping[str, Tensor]) -> None:
    """Raise CheckpointError for a tensor whose values are not all there, one by one."""
    other = [
        f"{name} ({'meta' if tensor.is_meta else tensor.layout})"
        for name, tensor in state.items()
        if tensor.is_meta or tensor.layout is not torch.strided
    ]
    if other:
        raise CheckpointError(
            f"{source} holds {len(other)} tensors without plain values, being sparse or on the "
            f"meta device: {_some(other)}; save it with dense tensors on the CPU"
        )


def refuse(
    source: str, missing: Collection[str], unexpected: Collection[str], mismatched: Collection[str]
) -> None:
    """Raise CheckpointError that names what does not fit, if anything does not.

    Loading on with a fresh query or value bias, as some releases of transformers do, would give
    wrong predictions with no sign of it.
    """
    problems = [
        f"{len(names)} tensors {what}: {_some(names)}"
        for what, names in (
            ("are missing", missing),
            ("are not expected", unexpected),
            ("have another shape", mismatched),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{source} does not fit the architecture asked for: {'; '.join(problems)}; check arch "
            "or config, or the file"
        )


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:4]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "")
