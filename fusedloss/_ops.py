"""Loads the compiled library and names its ops: the only module that knows `torch.ops.fusedloss`.

The schemas are in ``csrc/ops``; here stand the shapes that fake tensors (torch.compile, export,
meta tensors) need to know.
"""

import json
from pathlib import Path

import torch
from torch import Tensor

from ._labels import positions

_LIBRARY = Path(__file__).with_name("_C.abi3.so")


def _load() -> None:
    build = "build it with: python setup.py build_ext --inplace (or: pip install ."
    build += " --no-build-isolation)"
    if not _LIBRARY.exists():
        raise ImportError(
            f"fusedloss has no compiled kernels ({_LIBRARY.name} is missing); {build}"
        )
    try:
        torch.ops.load_library(str(_LIBRARY))
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise ImportError(
            f"fusedloss cannot load {_LIBRARY.name} under torch {torch.__version__} ({reason}); "
            f"{build}"
        ) from None


_load()

elementwise_forward = torch.ops.fusedloss.elementwise_forward.default
elementwise_backward = torch.ops.fusedloss.elementwise_backward.default
classwise_forward = torch.ops.fusedloss.classwise_forward.default
classwise_backward = torch.ops.fusedloss.classwise_backward.default
overlap_forward = torch.ops.fusedloss.overlap_forward.default
overlap_backward = torch.ops.fusedloss.overlap_backward.default
scale_gradient_ = torch.ops.fusedloss.scale_gradient_.default
release_result_memory = torch.ops.fusedloss.release_result_memory.default


def build_info() -> dict:
    """What the library was built with and what this machine would use of it."""
    return json.loads(torch.ops.fusedloss.build_info.default())


# Devices with kernels; "meta" runs the fakes below.
KERNEL_DEVICES = ("cpu", "meta", "cuda") if build_info()["cuda"] else ("cpu", "meta")


def sums_length(input: Tensor, reduction: str) -> int:
    """Length of the float64 `sums`: total, normalizer and scale per sample, and `selected`."""
    samples = input.shape[0] if reduction == "sample_mean" and input.ndim >= 2 else 1
    return 3 * samples + 1


def pool_count(words: list[str], input: Tensor) -> int:
    """How many pools an overlap loss has; `words` are those of csrc/core/overlap_problem.h."""
    samples, classes = input.shape[:2]
    classes = classes - 1 if "foreground" in words else classes
    if "batch" in words:
        return 1
    if "class" in words:
        return classes
    return samples * classes if "sample_class" in words else samples


# What the forward ops return, not yet written: loss, gradient (empty if not asked for) and sums.


def elementwise_results(call: str, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _results(call.split(), input, torch.empty_like(input))


def classwise_results(call: str, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return _results(call.split(), input, input.new_empty(positions(input.shape)))


def overlap_results(call: str, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    words = call.split()
    pools = pool_count(words, input)
    return _results(words, input, input.new_empty((pools,)), pools)


def _results(words, input: Tensor, losses: Tensor, pools: int = 0):
    """`losses`: of the shape and strides that the loss has under reduction "none"."""
    loss = losses if words[1] == "none" else input.new_empty(())
    if "float_result" in words:
        loss = torch.empty_like(loss, dtype=torch.float32)
    gradient = torch.empty_like(input) if "gradient" in words else input.new_empty((0,))
    length = sums_length(input, words[1]) + 5 * pools
    return loss, gradient, input.new_empty((length,), dtype=torch.float64)


@torch.library.register_fake("fusedloss::elementwise_forward")
def _(call, numbers, input, *_):
    return elementwise_results(call, input)


@torch.library.register_fake("fusedloss::classwise_forward")
def _(call, numbers, ignore_index, input, *_):
    return classwise_results(call, input)


@torch.library.register_fake("fusedloss::overlap_forward")
def _(call, numbers, ignore_index, input, *_):
    return overlap_results(call, input)


@torch.library.register_fake("fusedloss::elementwise_backward")
def _(call, numbers, input, *_):
    return torch.empty_like(input)


@torch.library.register_fake("fusedloss::classwise_backward")
@torch.library.register_fake("fusedloss::overlap_backward")
def _(call, numbers, ignore_index, input, *_):
    return torch.empty_like(input)


@torch.library.register_fake("fusedloss::scale_gradient_")
def _(gradient, grad_output):
    return None
