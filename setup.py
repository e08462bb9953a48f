"""Builds fusedloss/_C.abi3.so, the one library that holds the CPU and the CUDA kernels.

It uses the LibTorch stable ABI: what one torch >= 2.13 builds, every torch >= 2.13 loads, with or
without CUDA. Environment variables:

FUSEDLOSS_CUDA           auto (default: CUDA kernels where nvcc is found), 1 (required), 0 (none)
CUDA_HOME                the CUDA toolkit; unset: looked for, see find_toolkit
TORCH_CUDA_ARCH_LIST     GPU architectures, default "7.5;8.0;8.6;9.0;10.0;12.0+PTX"
FUSEDLOSS_PTXAS_VERBOSE  1: nvcc prints registers and spills of every kernel
MAX_JOBS, CXX            how many compilers at a time; which C++ compiler
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.dist_info import dist_info

ROOT = Path(__file__).resolve().parent
TORCH_MINIMUM = (2, 13)
PYTHON_ABI = "cp310"
CUDA_ARCHS = ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"]
USUAL_TOOLKIT = Path("/usr/local/cuda")
HEADERS = ("**/*.h", "**/*.cuh")
GET_NVCC = (
    'install the CUDA toolkit and set CUDA_HOME, or: pip install "cuda-toolkit[nvcc,cccl,cudart]"'
)


class Missing(Exception):
    """Something that the build needs is not there; the message says what, and how to get it."""


class Toolkit(NamedTuple):
    """A CUDA toolkit: its folder, and the release of its nvcc."""

    home: Path
    release: tuple[int, int]

    @property
    def version(self):
        return ".".join(map(str, self.release))


def import_torch():
    """torch >= 2.13 of this interpreter; Missing where there is none."""
    need = f"torch >= {'.'.join(map(str, TORCH_MINIMUM))}"
    try:
        import torch
    except ImportError as error:
        raise Missing(
            "fusedloss is built against the torch of your environment, and "
            f"{sys.executable} cannot import one ({error}). Install {need} first, then run: "
            "pip install --no-build-isolation ."
        ) from error
    found = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if found < TORCH_MINIMUM:
        raise Missing(
            f"fusedloss needs {need} and found {torch.__version__}: pip install --upgrade torch"
        )
    return torch


def find_compiler():
    """Settles on a C++ compiler. Python's headers are not needed: no source includes Python.h."""
    wanted = os.environ.get("CXX")
    candidates = [wanted] if wanted else ["c++", "g++", "clang++"]
    compiler = next((name for name in candidates if shutil.which(name.split()[0])), None)
    if compiler is None:
        raise Missing(
            f"no C++ compiler: {' or '.join(candidates)} is not on PATH. fusedloss needs one for "
            "C++20 (GCC >= 11 or clang >= 14): apt-get install g++, or set CXX"
        )
    os.environ["CXX"] = compiler


def find_toolkit():
    """(Toolkit, "") or (None, the reason), from CUDA_HOME alone if that is set.

    Else the usual folder, the toolkit that pip installs, and the place of the nvcc on PATH, which
    may also be a wrapper script outside of any toolkit.
    """
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        places = [Path(home)]
    else:
        places = [USUAL_TOOLKIT]
        places += [cuda for path in sys.path if path for cuda in Path(path).glob("nvidia/cu[0-9]*")]
        nvcc = shutil.which("nvcc")
        places += [Path(nvcc).resolve().parents[1]] if nvcc else []
    for place in places:
        nvcc = place / "bin" / "nvcc"
        if nvcc.exists() and (place / "include" / "cuda_runtime.h").exists():
            said = subprocess.run([nvcc, "--version"], capture_output=True, text=True).stdout
            release = re.search(r"release (\d+)\.(\d+)", said)
            if release:
                return Toolkit(place.resolve(), (int(release[1]), int(release[2]))), ""
    where = f"CUDA_HOME={home} holds" if home else "found"
    return None, f"{where} no CUDA toolkit (bin/nvcc, include/cuda_runtime.h)"


def choose_toolkit(torch):
    """The toolkit that FUSEDLOSS_CUDA asks for, or None; says on stdout which it is and why."""
    choice = os.environ.get("FUSEDLOSS_CUDA", "auto").strip().lower() or "auto"
    if choice not in ("0", "1", "auto"):
        raise Missing(f"FUSEDLOSS_CUDA={choice} is not understood: it takes 0, 1 or auto")
    if choice == "0":
        print("fusedloss: CPU kernels only (FUSEDLOSS_CUDA=0)", flush=True)
        return None
    toolkit, problem = find_toolkit()
    if (
        toolkit
        and torch.version.cuda
        and int(torch.version.cuda.split(".")[0]) < toolkit.release[0]
    ):
        problem = (
            f"nvcc {toolkit.version} of {toolkit.home} is newer than the CUDA "
            f"{torch.version.cuda} of this torch, whose driver may not run its kernels"
        )
    elif toolkit and toolkit.release < (12, 0):
        problem = f"nvcc {toolkit.version} of {toolkit.home} is too old for C++20 (12.0)"
    elif torch.version.hip:
        problem = "this torch is for ROCm"
    if not problem:
        print(
            f"fusedloss: CPU and CUDA kernels, nvcc {toolkit.version} of {toolkit.home}", flush=True
        )
        return toolkit
    if choice == "1":
        raise Missing(f"FUSEDLOSS_CUDA=1, but {problem}. To get nvcc: {GET_NVCC}")
    print(f"fusedloss: CPU kernels only: {problem}. To get nvcc: {GET_NVCC}", flush=True)
    return None


def files(*patterns):
    """The files of csrc that match, as paths from the root, in the same order everywhere."""
    found = [path for pattern in patterns for path in ROOT.glob(f"csrc/{pattern}")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def cuda_archs(toolkit):
    """TORCH_CUDA_ARCH_LIST, or those of the default list that this nvcc knows, the last + PTX."""
    if os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return os.environ["TORCH_CUDA_ARCH_LIST"]
    nvcc = toolkit.home / "bin" / "nvcc"
    listed = subprocess.run(
        [nvcc, "--list-gpu-code"], capture_output=True, text=True
    ).stdout.split()
    known = [arch for arch in CUDA_ARCHS if f"sm_{arch.replace('.', '')}" in listed]
    return ";".join(known) + "+PTX"


def cuda_options(toolkit):
    """The keyword arguments of the extension that only a build with CUDA kernels has."""
    archs = os.environ["TORCH_CUDA_ARCH_LIST"] = cuda_archs(toolkit)
    nvcc = ["-O3", "-DFL_WITH_CUDA", "-Xcompiler=-fvisibility=hidden", "-Xfatbin=-compress-all"]
    if toolkit.release >= (12, 4):
        nvcc.append("--compress-mode=size")
    if os.environ.get("FUSEDLOSS_PTXAS_VERBOSE") == "1":
        nvcc.append("-Xptxas=-v")
    folders = [toolkit.home / name for name in ("lib64", "lib")]
    return {
        "sources": files("cuda/*.cu"),
        "include_dirs": [str(toolkit.home / "include")],
        "library_dirs": [str(path) for path in folders if path.exists()],
        # The static runtime lets one library load in every torch, with and without CUDA.
        "libraries": ["cudart_static", "dl", "rt", "pthread"],
        "cxx": [
            "-DFL_WITH_CUDA",
            f'-DFL_CUDA_ARCHS="{archs}"',
            f'-DFL_CUDA_VERSION="{toolkit.version}"',
        ],
        "nvcc": nvcc,
    }


def extension(toolkit):
    """The description of the library: its sources and every flag."""
    from torch.utils.cpp_extension import CppExtension

    cuda = cuda_options(toolkit) if toolkit else {}
    version = re.search(r'"(.+)"', (ROOT / "fusedloss/_version.py").read_text().split("=")[1])[1]
    common = ["-DTORCH_TARGET_VERSION=0x020d000000000000"]
    # The interpreter's own flags bring -g and -fwrapv, which cost size and speed.
    cxx = ["-std=c++20", "-O3", "-g0", "-fno-wrapv", "-fno-math-errno", "-fno-trapping-math"]
    cxx += ["-fopenmp-simd"]  # simd loops without an OpenMP run time: torch has its own
    cxx += ["-fvisibility=hidden", f'-DFL_VERSION="{version}"']
    return CppExtension(
        "fusedloss._C",
        files("ops/*.cpp", "cpu/*.cpp") + cuda.get("sources", []),
        depends=files(*HEADERS),
        include_dirs=[str(ROOT / "csrc")] + cuda.get("include_dirs", []),
        library_dirs=cuda.get("library_dirs", []),
        libraries=cuda.get("libraries", []),
        extra_compile_args={
            "cxx": common + cxx + cuda.get("cxx", []),
            "nvcc": common + ["-std=c++20"] + cuda.get("nvcc", []),
        },
        py_limited_api=True,
    )


def plan():
    """(extension, build command) for this environment; raises Missing."""
    torch = import_torch()
    from torch.utils import cpp_extension

    # An interpreter that is called by its path has its own bin, and so pip's ninja, not on PATH.
    os.environ["PATH"] = os.pathsep.join(
        [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    )
    find_compiler()
    toolkit = choose_toolkit(torch)
    # A CPU torch leaves CUDA_HOME unset whatever the environment says, and compiles .cu files
    # without listing their headers, so that a changed header would rebuild none of them.
    cpp_extension.CUDA_HOME = str(toolkit.home) if toolkit else None
    if toolkit and not torch.version.cuda:
        torch.version.cuda = toolkit.version
    return extension(toolkit), cpp_extension.BuildExtension


def refuse(command, missing):
    """`command`, which ends with what is missing instead of starting."""

    class Refuse(command):
        def run(self):
            raise SystemExit(f"\nfusedloss cannot be built: {missing}\n")

    return Refuse


def builds():
    """Whether the commands of this run compile anything, or prepare for it."""
    return not {"sdist", "egg_info", "clean", "--version", "--help"} & set(sys.argv)


def main():
    """Sets the package up; a build without its tools ends in one message, before any download."""
    everything = files("**/*.cpp", "**/*.cu", *HEADERS)
    modules, commands = [Extension("fusedloss._C", [], depends=everything)], {}
    if builds():
        try:
            module, commands["build_ext"] = plan()
            modules = [module]
        except Missing as missing:
            commands = {c.__name__: refuse(c, missing) for c in (build_ext, dist_info)}
    setup(
        ext_modules=modules,
        cmdclass=commands,
        options={"bdist_wheel": {"py_limited_api": PYTHON_ABI}},
    )


if __name__ == "__main__":
    main()
