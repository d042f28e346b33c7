"""Pointwise errors d(r, r_hat), from logits; every result has the shape of its inputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

ErrorKind = Literal["cross-entropy", "squared"]

LARGEST = 1.0 - 1e-6  # NOTE log(1 - x) at float32 resolution; a probability nearer to 1 has no finite loss


def cross_entropy(logit: Tensor, r: Tensor) -> Tensor:
    """-r log sigma(l) - (1 - r) log(1 - sigma(l)); r may be a soft label in [0, 1]. Gradients flow to both."""
    if r.requires_grad:
        return (1 - r) * logit - logsigmoid(logit)
    return binary_cross_entropy_with_logits(logit, r, reduction="none")


def squared(logit: Tensor, r: Tensor) -> Tensor:
    """(sigma(l) - r)^2: the Brier error, in [0, 1]."""
    return (torch.sigmoid(logit) - r) ** 2


def error(kind: ErrorKind, logit: Tensor, r: Tensor) -> Tensor:
    """The error of that kind."""
    return cross_entropy(logit, r) if kind == "cross-entropy" else squared(logit, r)


def product_cross_entropy(logit_p: Tensor, logit_r: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of sigma(logit_p) * sigma(logit_r) with a label: the CTCVR loss (paper 2, section 3.1).

    log(p r) as a sum of log-sigmoids; log(1 - p r) clamped at p r <= 1 - 1e-6.
    """
    log_joint = logsigmoid(logit_p) + logsigmoid(logit_r)
    log_rest = torch.log1p(-log_joint.exp().clamp(max=LARGEST))
    return -(label * log_joint + (1 - label) * log_rest)


def product_error(kind: ErrorKind, logit_p: Tensor, logit_r: Tensor, label: Tensor) -> Tensor:
    """Error of the joint probability sigma(logit_p) * sigma(logit_r)."""
    if kind == "cross-entropy":
        return product_cross_entropy(logit_p, logit_r, label)
    return (torch.sigmoid(logit_p) * torch.sigmoid(logit_r) - label) ** 2
