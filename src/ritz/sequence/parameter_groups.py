"""Optimizer groups of networks with state-space layers: poles, steps and input weights learn slowly and are never decayed."""

from __future__ import annotations

from torch import nn

from ritz.core import real


def parameter_groups(module: nn.Module, weight_decay: float, ssm_lr: float) -> list[dict[str, object]]:
    """Split the parameters of `module` for a torch optimizer.

    Whatever a submodule's method `ssm_parameters()` names gets the learning rate `ssm_lr` and no decay; the others get `weight_decay` and
    the optimizer's own learning rate. Both are refused unless finite and not negative.
    """
    weight_decay, ssm_lr = real(weight_decay, "weight_decay", at_least=0), real(ssm_lr, "ssm_lr", at_least=0)
    slow = [p for submodule in module.modules() if hasattr(submodule, "ssm_parameters") for p in submodule.ssm_parameters()]
    slow_ids = set(map(id, slow))
    others = [p for p in module.parameters() if id(p) not in slow_ids]
    return [{"params": others, "weight_decay": weight_decay}, {"params": slow, "lr": ssm_lr, "weight_decay": 0.0}]
