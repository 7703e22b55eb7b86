"""Which tensors of an answer may enter an average."""

import torch

from braincl_med.cortex.cortex import Tensors, Weights

MOST_BATCHES = 2**53
"""Batches that a network may say it has seen; more could not be counted up."""


def impossible_statistics(update: Tensors) -> str | None:
    """Why statistics of normalisation cannot be any network's, or None: a variance or a count below zero."""
    for name, tensor in update.items():
        if name.endswith("running_var") and bool((tensor < 0).any()):
            return f"'{name}' holds variances below zero"
        if not tensor.is_floating_point() and not bool(((tensor >= 0) & (tensor <= MOST_BATCHES)).all()):
            return f"'{name}' holds counts that are none"
    return None


def objection(update: Tensors, expected: Weights) -> str | None:
    """Why an update cannot be used, or None when it can.

    Args:
        update: of one hospital.
        expected: tensors of the names, shapes and types that it must have, no more and no fewer.
    """
    if not update:
        return "the update is empty"
    if lacking := sorted(expected.keys() - update.keys()):
        return f"the update lacks '{lacking[0]}'"
    for name, tensor in update.items():
        if name not in expected:
            return f"the update holds '{name[:80]}', which was not asked for"
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            return (
                f"'{name}' is {tensor.dtype} {tuple(tensor.shape)}, "
                f"expected {expected[name].dtype} {tuple(expected[name].shape)}"
            )
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            return f"'{name}' holds numbers that are not finite"
    return None
