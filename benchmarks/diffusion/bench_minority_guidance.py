"""Minority scores against as many bare calls of the denoiser, and a guided call against its parts."""

import torch

from ritz.diffusion import EDMDenoiser, MinorityClassifier, MinorityGuidance, VPLinear, minority_score
from ritz.studies import benchmark, compare
from ritz.studies.digit_diffusion import CLASSES, DigitNetwork

SCHEDULE, COUNT = VPLinear(), 1797


def _denoiser() -> EDMDenoiser:
    torch.manual_seed(0)
    network = DigitNetwork(128).eval().requires_grad_(False)
    return EDMDenoiser(lambda x, time: network(x, time, torch.full((len(x),), CLASSES)))


@benchmark
def scores():
    """1,797 samples of 64 numbers, five repeats: at most 1.2 times five calls of the denoiser."""
    denoiser, x0 = _denoiser(), torch.randn(COUNT, 64)
    level = SCHEDULE.rho(0.6)
    return compare(
        f"{COUNT} digits, 5 repeats",
        lambda: minority_score(denoiser, x0, SCHEDULE, generator=0),
        lambda: [denoiser(x0, level) for _ in range(5)],
        peer_name="5 denoiser calls",
        target=1 / 1.2,
    )


@benchmark
def guidance():
    """A guided call against the denoiser's and a forward and backward pass of the classifier."""
    denoiser, x = _denoiser(), torch.randn(256, 64)
    classifier = MinorityClassifier(64, 100).eval().requires_grad_(False)
    guided = MinorityGuidance(denoiser, classifier, SCHEDULE)

    def parts():
        denoiser(x, 0.5)
        moving = x.clone().requires_grad_()
        torch.log_softmax(classifier(moving, torch.full((len(x),), 0.5)), 1)[:, -1].sum().backward()

    return compare("a guided call, batch 256", lambda: guided(x, 0.5), parts, peer_name="denoiser, classifier forward and backward", target=1 / 1.2)
