"""Focal loss with weights by the effective number of examples, for classes of very different size."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ritz.core import real


def class_balanced_focal_loss(
    logits: torch.Tensor, y: torch.Tensor, class_counts: torch.Tensor, beta: float = 0.999, gamma: float = 1.5
) -> torch.Tensor:
    """Return the class-balanced focal loss: binary cross-entropies of one-hot targets, easy ones damped, summed over classes, averaged over samples.

    A sample of class c weighs in proportion to (1 - beta) / (1 - beta^n_c), n_c the size of its class, weights scaled to add up to the number of
    classes (Cui et al., CVPR 2019); a probability p of the truth damps by (1 - p)^gamma (Lin et al., ICCV 2017).

    Parameters
    ----------
    logits : Tensor (B, C)
        One for each class.
    y : LongTensor (B,)
        Classes.
    class_counts : Tensor (C,)
        Sizes of the classes in training; a class of size 0 weighs nothing.
    beta : float
        From 0 (equal weights) to below 1.
    gamma : float
        At least 0 (no damping).

    Raises
    ------
    ValueError
        If shapes disagree or a number is out of range.

    Examples
    --------
    >>> class_balanced_focal_loss(torch.zeros(2, 2), torch.tensor([0, 1]), torch.tensor([9, 1]), beta=0.0, gamma=0.0)
    tensor(1.3863)
    """
    beta, gamma = real(beta, "beta", at_least=0, below=1), real(gamma, "gamma", at_least=0)
    if logits.dim() != 2:
        raise ValueError(f"logits must have shape (samples, classes), got {tuple(logits.shape)}")
    if y.shape != logits.shape[:1]:
        raise ValueError(f"y must have shape ({len(logits)},), got {tuple(y.shape)}")
    if class_counts.shape != logits.shape[1:]:
        raise ValueError(f"class_counts must have shape ({logits.shape[1]},), got {tuple(class_counts.shape)}")
    weights = torch.where(class_counts > 0, (1 - beta) / (1 - beta ** class_counts.to(logits.dtype)).clamp(min=torch.finfo(logits.dtype).tiny), 0)
    weights = weights * len(weights) / weights.sum()
    targets = F.one_hot(y, logits.shape[1]).to(logits.dtype)
    damping = torch.exp(-gamma * (targets * logits + F.softplus(-logits)))
    losses = damping * F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return (weights[y][:, None] * losses).sum() / len(logits)
