"""`python -m fusedloss`: what this installation was built with, and what this machine would use."""

import argparse

import torch

import fusedloss
from fusedloss._ops import build_info
from fusedloss._version import __version__


def describe() -> str:
    """The report as text, one `name  value` line per fact."""
    built = build_info()
    rows = [
        ("fusedloss", f"{__version__}, from {fusedloss.__path__[0]}"),
        ("torch", torch.__version__),
        ("CPU kernels", f"{', '.join(built['simd'])} (compiler {built['compiler']})"),
        ("CUDA kernels", _cuda_kernels(built)),
        ("this CPU uses", f"{built['simd_in_use']}, {_count(torch.get_num_threads(), 'thread')}"),
        ("this GPU uses", _gpu(built)),
    ]
    if built["version"] != __version__:
        rows.append(("warning", f"the library is of version {built['version']}: build it again"))
    return "\n".join(f"{name:<14} {value}" for name, value in rows)


def _cuda_kernels(built):
    if not built["cuda"]:
        return "none: built without nvcc, or with FUSEDLOSS_CUDA=0"
    return f"CUDA {built['cuda_version']} for {built['archs'].replace(';', ', ')}"


def _gpu(built):
    if torch.version.cuda is None:
        return "nothing: this torch is built without CUDA"
    if not torch.cuda.is_available():
        return "nothing: torch finds no GPU"
    cuda = torch.cuda
    devices = ", ".join(
        "{} (sm_{}{})".format(cuda.get_device_name(index), *cuda.get_device_capability(index))
        for index in range(cuda.device_count())
    )
    return f"{'CUDA kernels' if built['cuda'] else 'the reference path'} on {devices}"


def _count(number, noun):
    return f"{number} {noun}{'' if number == 1 else 's'}"


def main(arguments: list[str] | None = None) -> None:
    """Prints the report; there are no arguments but --help."""
    argparse.ArgumentParser("python -m fusedloss", description=__doc__).parse_args(arguments)
    print(describe())


if __name__ == "__main__":
    main()
