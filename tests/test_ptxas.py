"""What nvcc makes of the kernels: no spills, no stack, 16-byte accesses, no float atomics.

The kernels of region and weight programs (for the class losses, also those of probabilities and of
any strides) are the exception: they call functions, have values in local memory by design, and may
spill a little around the calls. The overlap kernels of any strides may call one for every element.

It needs nvcc and no GPU. `FUSEDLOSS_KERNEL_TABLE=1 pytest tests/test_ptxas.py -m slow -s` prints
registers and spilled bytes of every kernel.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
ARCHS = ("sm_80", "sm_90")
MOST_REGISTERS = 128  # two blocks of 256 threads on every multiprocessor
PROGRAMS = re.compile(
    r"elementwise_(vector|strided)INS0_5OneOf|class_strided|"
    r"class_(columns|staged|rows)I(\w|NS_\d+\w+?E)Lb0E|"
    r"overlap_kernelINS0_11(Planar|Staged)CellsI(\w|NS_\d+\w+?E)?Lb1E"
)
CALLS_BY_ELEMENT = re.compile("overlap_kernelINS0_12StridedCells")
WIDE = re.compile("elementwise_vector|class_staged|class_rows|overlap_kernelINS0_11PlanarCellsIf")
MOST_SPILLS = 640  # bytes stored and loaded by such a kernel

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc"),
]


def compile_kernels(source, arch, folder):
    """ptxas' words about every function, and the PTX that it was given."""
    command = ["nvcc", "-std=c++20", "-O3", f"-arch={arch}", "-I", ROOT / "csrc", "-Xptxas", "-v"]
    command += ["--keep", "--keep-dir", folder, "-cubin", source, "-o", folder / "kernels.cubin"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stderr, (folder / f"{source.stem}.ptx").read_text()


def functions(said):
    """(name, stack, spills, registers or None) of each function."""
    pattern = re.compile(
        r"Function properties for (\S+)\n\s*(\d+) bytes stack frame, (\d+) bytes spill stores, "
        r"(\d+) bytes spill loads(?:\nptxas info\s*: Used (\d+) registers)?"
    )
    for name, stack, stores, loads, registers in pattern.findall(said):
        yield name, int(stack), int(stores) + int(loads), int(registers) if registers else None


def bodies(ptx):
    """Name -> text of each kernel."""
    pieces = re.split(r"\.visible \.entry (\w+)\(", ptx)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
@pytest.mark.parametrize("arch", ARCHS)
def test_kernels(arch, source, tmp_path):
    said, ptx = compile_kernels(source, arch, tmp_path)
    kernels = bodies(ptx)
    seen = 0
    for name, stack, spills, registers in functions(said):
        if registers is None:
            continue  # a function; what it costs is counted in the kernels that call it
        if PROGRAMS.search(name):
            assert spills <= MOST_SPILLS, (name, spills)
        elif CALLS_BY_ELEMENT.search(name):
            assert spills <= 10 * MOST_SPILLS, (name, spills)
        else:
            # A device assert is a call, and its arguments are on the stack.
            asserts = name in kernels and "__assertfail" in kernels[name]
            assert spills == 0 and (stack == 0 or asserts), (name, stack, spills)
        assert registers <= MOST_REGISTERS, (name, registers)
        seen += 1
        if os.environ.get("FUSEDLOSS_KERNEL_TABLE"):
            print(arch, registers, spills, name)
    assert seen == len(kernels) > 0
    for name, body in kernels.items():
        assert not re.search(r"\b(atom|red)\.\S*f(16|32|64)", body), name
        if WIDE.search(name):
            assert "ld.global.nc.v4.u32" in body, name
            assert "st.global.cs.v4.u32" in body, name
