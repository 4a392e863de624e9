"""S4D: the blocked Vandermonde kernel against the plain sum over modes, in time and peak memory, and FFT against dense convolution."""

import json
import subprocess
import sys
from pathlib import Path

import torch

from ritz.sequence import vandermonde_kernel
from ritz.sequence.convolution import causal_convolution
from ritz.studies import Comparison, benchmark, compare

CHANNELS, D_STATE, LENGTH = 256, 64, 16384


def modes() -> tuple[torch.Tensor, torch.Tensor]:
    """C and dtA of S4D-Lin at its usual steps, complex64 (channels, d_state / 2)."""
    generator = torch.Generator().manual_seed(0)
    C = torch.randn(CHANNELS, D_STATE // 2, dtype=torch.complex64, generator=generator)
    dt = 10 ** (-3 + 2 * torch.rand(CHANNELS, 1, generator=generator))
    return C.requires_grad_(), (dt * torch.complex(torch.tensor(-0.5), torch.pi * torch.arange(D_STATE // 2.0))).requires_grad_()


def plain_kernel(C: torch.Tensor, dtA: torch.Tensor, L: int) -> torch.Tensor:
    """All powers of all modes at once, then one contraction."""
    return 2 * torch.einsum("hn,hnl->hl", C, torch.exp(dtA.unsqueeze(-1) * torch.arange(L))).real


KERNELS = {"blocked": vandermonde_kernel, "plain": plain_kernel}


def evaluate(kernel: str) -> None:
    """The kernel alone, as at inference."""
    with torch.no_grad():
        KERNELS[kernel](*modes(), LENGTH)


def differentiate(kernel: str) -> None:
    """The kernel and its gradients, as in training."""
    KERNELS[kernel](*modes(), LENGTH).square().sum().backward()


@benchmark
def kernel_time_and_memory() -> list[Comparison]:
    """Time in this process; peak memory in a fresh process each, over what that process held before."""
    return [
        compare(
            f"{task.__name__} kernel, {CHANNELS} channels, N={D_STATE}, L={LENGTH}",
            lambda task=task: task("blocked"),
            lambda task=task: task("plain"),
            peer_name="exp and einsum over (N, L)",
            target=1.0,
            pairs=3,
            extra=peak_memory(task.__name__),
        )
        for task in (evaluate, differentiate)
    ]


@benchmark
def convolution_time() -> Comparison:
    """Causal depthwise convolution of full length at L = 4096."""
    length, channels, batch = 4096, 16, 2
    generator = torch.Generator().manual_seed(0)
    signal, kernel = (torch.randn(*shape, generator=generator) for shape in ((batch, channels, length), (channels, length)))
    weight = kernel.flip(-1).unsqueeze(1)

    def dense() -> torch.Tensor:
        return torch.nn.functional.conv1d(torch.nn.functional.pad(signal, (length - 1, 0)), weight, groups=channels)

    error = (dense() - causal_convolution(signal, kernel)).abs().max() / dense().abs().max()
    return compare(
        f"causal convolution, batch {batch}, {channels} channels, L={length}",
        lambda: causal_convolution(signal, kernel),
        dense,
        peer_name="torch conv1d, depthwise",
        target=20.0,
        pairs=3,
        extra={"relative difference": float(error)},
    )


def peak_memory(task: str) -> dict[str, float]:
    """MiB that a task adds to the peak resident memory of a fresh process, ours and the plain form's, and their ratio (1/4 is the target)."""
    ours, plain = (_peak_of_fresh_process(task, kernel) for kernel in KERNELS)
    return {"peak MiB": ours, "peer peak MiB": plain, "memory ratio (target 0.25)": ours / plain}


def _peak_of_fresh_process(task: str, kernel: str) -> float:
    """Run this file as a script, which reports how far its high-water mark rose."""
    finished = subprocess.run([sys.executable, __file__, task, kernel], capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


def _report_growth(task: str, kernel: str) -> None:
    torch.set_num_threads(1)
    KERNELS[kernel](*(mode[:1, :1] for mode in modes()), 4).sum().backward()
    before = _high_water_mark()
    {"evaluate": evaluate, "differentiate": differentiate}[task](kernel)
    print(json.dumps(_high_water_mark() - before))


def _high_water_mark() -> float:
    """Peak resident memory of this process in MiB; `getrusage` would count that of the process which started it, too."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    _report_growth(*sys.argv[1:])
