"""setup.py: what it finds, what it says when something is missing, and what it builds."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fusedloss._ops import build_info
from fusedloss._version import __version__

ROOT = Path(__file__).resolve().parents[1]
KEPT = ("CUDA_HOME", "CUDA_PATH", "FUSEDLOSS_CUDA", "TORCH_CUDA_ARCH_LIST", "CXX", "PYTHONPATH")
TINY_OP = """\
#include <torch/csrc/stable/library.h>
#include "core/answer.h"
int64_t answer() { return ANSWER; }
STABLE_TORCH_LIBRARY(scratch, m) { m.def("answer() -> int"); }
STABLE_TORCH_LIBRARY_IMPL(scratch, CompositeExplicitAutograd, m) {
  m.impl("answer", TORCH_BOX(&answer));
}
"""
TINY_KERNEL = """\
#include "core/answer.h"
__global__ void twice(float* x) { x[threadIdx.x] *= ANSWER; }
"""


@pytest.fixture(scope="module")
def setup():
    """setup.py as a module."""
    spec = importlib.util.spec_from_file_location("fusedloss_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def scratch(tmp_path):
    """A copy of the project with one tiny operator and one tiny kernel for its sources."""
    for name in ("setup.py", "pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    package = tmp_path / "fusedloss"
    package.mkdir()
    shutil.copy(ROOT / "fusedloss/_version.py", package)
    (package / "__init__.py").touch()
    (tmp_path / "README.md").touch()
    for name, text in {
        "ops/answer.cpp": TINY_OP,
        "cuda/twice.cu": TINY_KERNEL,
        "core/answer.h": "#define ANSWER 41\n",
    }.items():
        path = tmp_path / "csrc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(folder, *command, **environment):
    """The finished command, started in `folder` with no setting of ours but `environment`."""
    kept = {name: value for name, value in os.environ.items() if name not in KEPT}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def build(folder, **environment):
    """Builds in place; the output, or a failed test."""
    done = run(folder, "setup.py", "build_ext", "--inplace", **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout


def fake_torch(folder, text):
    """A folder for PYTHONPATH whose torch is `text`."""
    (folder / "torch.py").write_text(text)
    return str(folder)


def toolkit_in(folder, release="13.0"):
    """A folder that looks like a CUDA toolkit of this release, which knows no GPU after 9.0."""
    (folder / "bin").mkdir(parents=True)
    (folder / "include").mkdir()
    (folder / "include" / "cuda_runtime.h").touch()
    nvcc = folder / "bin" / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        f"--version) echo 'Cuda compilation tools, release {release}, V{release}.1' ;;\n"
        "*) echo sm_75 sm_80 sm_86 sm_90 ;;\n"
        "esac\n"
    )
    nvcc.chmod(0o755)
    return folder


def missing_torch(tmp_path):
    return {"PYTHONPATH": fake_torch(tmp_path, "raise ImportError('none here')")}


def old_torch(tmp_path):
    return {"PYTHONPATH": fake_torch(tmp_path, "__version__ = '2.4.1'")}


def no_compiler(tmp_path):
    return {"PATH": str(tmp_path)}


REFUSED = [
    (
        missing_torch,
        r"cannot import one \(none here\).*Install torch >= 2\.13 .*no-build-isolation",
    ),
    (old_torch, r"needs torch >= 2\.13 and found 2\.4\.1: pip install"),
    (no_compiler, r"no C\+\+ compiler: c\+\+ or g\+\+ or clang\+\+ .*apt-get install g\+\+"),
    ({"CXX": "no-such-compiler"}, r"no C\+\+ compiler: no-such-compiler is not on PATH"),
    ({"FUSEDLOSS_CUDA": "yes"}, r"FUSEDLOSS_CUDA=yes .*takes 0, 1 or auto"),
    (
        {"FUSEDLOSS_CUDA": "1", "CUDA_HOME": "/nowhere"},
        r"FUSEDLOSS_CUDA=1, but CUDA_HOME=/nowhere holds no .*pip install .cuda-toolkit",
    ),
]


@pytest.mark.parametrize("environment, message", REFUSED)
def test_missing_tools_are_one_plain_message(scratch, tmp_path_factory, environment, message):
    if callable(environment):
        environment = environment(tmp_path_factory.mktemp("environment"))
    done = run(scratch, "setup.py", "build_ext", "--inplace", **environment)
    assert done.returncode != 0
    assert re.search(f"fusedloss cannot be built: .*{message}", done.stdout), done.stdout
    assert "Traceback" not in done.stdout


def test_a_missing_torch_is_found_before_pip_downloads_one(scratch, tmp_path_factory):
    environment = missing_torch(tmp_path_factory.mktemp("environment"))
    done = run(scratch, "setup.py", "dist_info", **environment)
    assert done.returncode != 0
    assert "fusedloss cannot be built" in done.stdout


def test_toolkit_of_cuda_home(setup, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(toolkit_in(tmp_path / "cuda")))
    toolkit, problem = setup.find_toolkit()
    assert (toolkit.home, toolkit.release, problem) == ((tmp_path / "cuda").resolve(), (13, 0), "")


def test_cuda_home_is_the_only_place_looked_at(setup, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    assert setup.find_toolkit() == (
        None,
        f"CUDA_HOME={tmp_path} holds no CUDA toolkit (bin/nvcc, include/cuda_runtime.h)",
    )


def test_toolkit_that_pip_installed(setup, tmp_path, monkeypatch):
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(setup, "USUAL_TOOLKIT", tmp_path / "none")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    toolkit_in(tmp_path / "nvidia" / "cu13")
    assert setup.find_toolkit()[0].home == (tmp_path / "nvidia" / "cu13").resolve()


def test_nvcc_on_path_may_be_a_wrapper_or_a_link(setup, tmp_path, monkeypatch):
    for name in ("CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(setup, "USUAL_TOOLKIT", tmp_path / "none")
    monkeypatch.setattr(sys, "path", [])
    nvcc = toolkit_in(tmp_path / "cuda") / "bin" / "nvcc"
    (tmp_path / "bin").mkdir()
    shutil.copy(nvcc, tmp_path / "bin" / "nvcc")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert setup.find_toolkit()[0] is None
    (tmp_path / "bin" / "nvcc").unlink()
    (tmp_path / "bin" / "nvcc").symlink_to(nvcc)
    assert setup.find_toolkit()[0].home == (tmp_path / "cuda").resolve()


class OtherTorch:
    """Stands for a torch that is built for another CUDA, or for ROCm."""

    def __init__(self, cuda=None, hip=None):
        self.version = self
        self.cuda, self.hip = cuda, hip


@pytest.mark.parametrize(
    "torch, release, said",
    [
        (OtherTorch(), "13.0", "CPU and CUDA kernels, nvcc 13.0"),
        (OtherTorch("13.0"), "13.1", "CPU and CUDA kernels, nvcc 13.1"),
        (
            OtherTorch("12.6"),
            "13.0",
            "CPU kernels only: nvcc 13.0 of .* is newer than the CUDA 12.6",
        ),
        (OtherTorch(), "11.8", "CPU kernels only: nvcc 11.8 of .* is too old"),
        (OtherTorch(hip="6.4"), "13.0", "CPU kernels only: this torch is for ROCm"),
    ],
)
def test_toolkits_that_do_not_fit(setup, tmp_path, monkeypatch, capsys, torch, release, said):
    monkeypatch.setenv("CUDA_HOME", str(toolkit_in(tmp_path / "cuda", release)))
    monkeypatch.delenv("FUSEDLOSS_CUDA", raising=False)
    chosen = setup.choose_toolkit(torch)
    assert (chosen is None) == ("only" in said)
    assert re.search(said, capsys.readouterr().out)


def test_architectures_are_those_that_nvcc_knows_or_that_are_asked_for(
    setup, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_HOME", str(toolkit_in(tmp_path / "cuda")))
    monkeypatch.delenv("TORCH_CUDA_ARCH_LIST", raising=False)
    toolkit, _ = setup.find_toolkit()
    assert setup.cuda_archs(toolkit) == "7.5;8.0;8.6;9.0+PTX"
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.9")
    assert setup.cuda_archs(toolkit) == "8.9"


def test_the_library_needs_no_cuda_no_python_and_no_openmp_library():
    if not shutil.which("readelf"):
        pytest.skip("readelf is not installed")
    library = ROOT / "fusedloss" / "_C.abi3.so"
    said = subprocess.run(["readelf", "-d", library], capture_output=True, text=True).stdout
    needed = set(re.findall(r"NEEDED.*\[(?:lib)?([\w+-]+)\.so", said))
    system = {"stdc++", "gcc_s", "c", "m", "dl", "rt", "pthread"}
    system |= {name for name in needed if name.startswith("ld-linux")}
    assert needed <= system | {"c10", "torch", "torch_cpu"}


def test_the_report_of_the_package():
    done = run(ROOT, "-m", "fusedloss")
    assert done.returncode == 0, done.stdout
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines()[:4])
    assert lines["fusedloss"].startswith(f"{__version__}, from ")
    assert lines["CPU kernels"].startswith("default")
    assert lines["CUDA kernels"].startswith("CUDA 1" if build_info()["cuda"] else "none: ")
    assert "this CPU uses" in done.stdout and "this GPU uses" in done.stdout
    assert "warning" not in done.stdout


def test_the_report_takes_no_arguments():
    command = [sys.executable, "-m", "fusedloss", "tree"]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert refused.returncode == 2 and "unrecognized arguments: tree" in refused.stderr


def test_make_help_names_every_target():
    shown = subprocess.run(["make", "help"], capture_output=True, text=True, cwd=ROOT).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
    for target in set(phony) - {"build", "check", "always"}:  # steps of the others
        assert f"make {target}" in shown


def test_the_version_stands_in_one_place():
    assert build_info()["version"] == __version__
    assert f'"{__version__}"' not in (ROOT / "pyproject.toml").read_text()
    assert f'"{__version__}"' not in (ROOT / "setup.py").read_text()


@pytest.mark.slow
def test_a_changed_header_rebuilds_what_includes_it(scratch):
    import torch

    first = build(scratch)
    assert "fusedloss: CPU" in first
    assert ("twice.cu" in first) == ("CPU and CUDA kernels" in first)
    assert "no work to do" in build(scratch)
    header = scratch / "csrc/core/answer.h"
    header.write_text("#define ANSWER 42\n")
    later = header.stat().st_mtime + 2
    os.utime(header, (later, later))
    again = build(scratch)
    assert "answer.cpp" in again
    assert ("twice.cu" in again) == ("twice.cu" in first)
    torch.ops.load_library(str(scratch / "fusedloss/_C.abi3.so"))
    assert torch.ops.scratch.answer.default() == 42


@pytest.mark.slow
def test_without_cuda_it_says_so_and_builds(scratch):
    assert "fusedloss: CPU kernels only (FUSEDLOSS_CUDA=0)" in build(scratch, FUSEDLOSS_CUDA="0")
    said = build(scratch, CUDA_HOME="/nowhere")
    assert "fusedloss: CPU kernels only: CUDA_HOME=/nowhere holds no CUDA toolkit" in said
    assert "nvcc -" not in said


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_one_library_for_every_python(scratch):
    shutil.copytree(ROOT / "fusedloss" / "demo", scratch / "fusedloss" / "demo")
    command = "-m pip wheel -q --no-deps --no-build-isolation -w dist .".split()
    done = run(scratch, *command, FUSEDLOSS_CUDA="0")
    assert done.returncode == 0, done.stdout
    (wheel,) = (scratch / "dist").glob(f"fusedloss-{__version__}-cp310-abi3-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"fusedloss/_C.abi3.so", "fusedloss/_version.py", "fusedloss/demo/stereo.py"} <= set(
        names
    )
    assert all(name.startswith("fusedloss") for name in names)
