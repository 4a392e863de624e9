"""A step of SOAP on twelve 512 x 512 layers: against rotating the momentum out and back at every step, and against AdamW."""

import time

import torch

from ritz.optim import SOAP
from ritz.optim.soap import rotate
from ritz.studies import benchmark, compare

LAYERS, SIZE, FREQUENCY = 12, 512, 10


class RotatesAtEveryStep(SOAP):
    """The same steps with the first moment taken out of the eigenbasis and back at every step: 10 large products instead of 6."""

    def _update(self, parameters, group):
        super()._update(parameters, group)
        stack = self._stack(parameters)
        bases = [stack["basis_0"], stack["basis_1"]]
        outside = rotate(stack["exp_avg"], [Q.mT for Q in bases])
        stack["exp_avg"].copy_(rotate(outside, bases))


def _layers():
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Parameter(torch.randn(SIZE, SIZE, generator=generator)) for _ in range(LAYERS)]
    for layer in layers:
        layer.grad = torch.randn(SIZE, SIZE, generator=generator)
    return layers


def _period(optimizer):
    """One whole period, so that each timing holds the refresh once."""
    for _ in range(FREQUENCY):
        optimizer.step()


@benchmark
def against_rotating_at_every_step():
    """Ten steps each, the refresh of the basis among them."""
    ours, peer = SOAP(_layers(), precondition_frequency=FREQUENCY), RotatesAtEveryStep(_layers(), precondition_frequency=FREQUENCY)
    ours.step()
    peer.step()
    return compare(
        "ten steps, twelve 512 x 512 layers",
        lambda: _period(ours),
        lambda: _period(peer),
        peer_name="momentum rotated out and back at every step",
        target=1.3,
        pairs=3,
        extra={"of the time in QR": _share_of_qr(ours)},
    )


@benchmark
def against_adamw():
    """What a step costs beside AdamW's, which does no matrix product."""
    ours, peer = SOAP(_layers(), precondition_frequency=FREQUENCY), torch.optim.AdamW(_layers(), foreach=True)
    ours.step()
    return compare(
        "ten steps, twelve 512 x 512 layers", lambda: _period(ours), lambda: _period(peer), peer_name="torch.optim.AdamW(foreach=True)", pairs=3
    )


def _share_of_qr(optimizer):
    """The two factorizations of a period's refresh, timed by themselves, over the period."""
    stack = optimizer._stack(optimizer.param_groups[0]["params"])
    images = [stack[f"gram_{k}"] @ stack[f"basis_{k}"] for k in (0, 1)]
    return _seconds(lambda: [torch.linalg.qr(image) for image in images]) / _seconds(lambda: _period(optimizer))


def _seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start
