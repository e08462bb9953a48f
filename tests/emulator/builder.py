"""Compiles an emulated kernel module with g++, and remembers what it compiled.

A module is the runtime (never instrumented), the project's kernel sources (compiled once per
mode) and its pybind11 bindings. Objects are kept in ``build/emulator`` under the hash of the
command and of every file that was read, so a change of a header rebuilds what includes it and
nothing else. Several processes may build at once: each object has a lock, and appears by rename.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sysconfig
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CACHE = ROOT / "build" / "emulator"

# -fno-gnu-unique: else the shared memory of two loaded modules would be unified by the loader.
# -fno-strict-aliasing: kernels load numbers as words, which nvcc allows.
# -ffp-contract=off: the same arithmetic on every host; nvcc's contraction cannot be shown anyway.
COMMON = (
    "-std=c++20 -fPIC -fvisibility=hidden -fno-gnu-unique -fno-extern-tls-init "
    "-ffp-contract=off -fno-strict-aliasing -DFL_EMULATED -UNDEBUG -Wall -Wno-unknown-pragmas"
).split()
# Two barriers in two branches must stay two calls, or a divergent one would look like one place.
COMMON += ["-fno-tree-tail-merge", "-fno-crossjumping", "-fno-ipa-icf"]
# The runtime answers __tls_get_addr; other dialects would not call it.
if os.uname().machine == "aarch64":
    COMMON.append("-mtls-dialect=trad")

KERNEL_FLAGS = {
    "plain": ["-O2", "-g1"],
    # -fno-tree-sra keeps a 16-byte load one access.
    "traced": ["-O2", "-g1", "-fsanitize=thread", "-fno-tree-sra"],
    "sanitized": ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
}


@dataclasses.dataclass(frozen=True)
class Project:
    """What to build: ``module`` is the name in ``PYBIND11_MODULE``; paths are of source files.

    ``defines`` are for the kernels alone, as is ``kernel_include`` (a mutant's tree, searched
    instead of ``include``): so that all variants share one compilation of the slow bindings.
    """

    module: str
    kernels: tuple
    bindings: tuple
    include: tuple = ()
    defines: tuple = ()
    kernel_include: tuple = ()


class BuildError(RuntimeError):
    """The compiler refused; its own words are the message."""


@functools.cache
def toolkit_include():
    """The folder of the CUDA toolkit's headers."""
    candidates = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"]
    nvcc = shutil.which("nvcc")
    if nvcc:
        candidates.insert(0, pathlib.Path(nvcc).resolve().parent.parent)
    for candidate in filter(None, candidates):
        include = pathlib.Path(candidate) / "include"
        if (include / "cuda_fp16.h").is_file():
            return include
    raise BuildError(f"no CUDA toolkit headers (cuda_fp16.h) under any of {candidates}")


def available():
    """Whether this machine has what the emulator needs: a g++ and the toolkit's headers."""
    with contextlib.suppress(BuildError):
        return shutil.which(_compiler()) is not None and toolkit_include() is not None
    return False


def _compiler():
    return os.environ.get("CXX", "g++")


@functools.cache
def _compiler_version():
    return subprocess.run([_compiler(), "--version"], capture_output=True, text=True).stdout


def _digest(*parts):
    state = hashlib.sha256()
    for part in parts:
        state.update(part if isinstance(part, bytes) else str(part).encode())
        state.update(b"\0")
    return state.hexdigest()[:24]


@contextlib.contextmanager
def _locked(name):
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(map(str, command))}\n{done.stderr}")


def _content_key(command_key, files):
    return _digest(command_key, *(pathlib.Path(f).read_bytes() for f in files))


def _remembered(manifest, command_key):
    """The object that an earlier run made from exactly these files, if there is one."""
    if not manifest.exists():
        return None
    for files in json.loads(manifest.read_text()):
        if all(os.path.exists(f) for f in files):
            made = CACHE / f"{_content_key(command_key, files)}.o"
            if made.exists():
                return made
    return None


def _read_dependencies(path):
    words = path.read_text().replace("\\\n", " ").split()
    return [word for word in words[1:] if not word.endswith(":")]


def compile_object(source, flags):
    """The object file of ``source``, from the cache if nothing that it reads has changed."""
    command = [_compiler(), *COMMON, *flags, "-c", str(source)]
    command_key = _digest(_compiler_version(), *command)
    manifest = CACHE / f"{command_key}.json"
    with _locked(command_key):
        made = _remembered(manifest, command_key)
        if made is not None:
            return made
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            new, dependencies = pathlib.Path(folder, "new.o"), pathlib.Path(folder, "new.d")
            _run([*command, "-o", str(new), "-MMD", "-MF", str(dependencies)])
            files = _read_dependencies(dependencies)
            made = CACHE / f"{_content_key(command_key, files)}.o"
            os.replace(new, made)
        known = json.loads(manifest.read_text()) if manifest.exists() else []
        manifest.write_text(json.dumps(([files] + [k for k in known if k != files])[:8]))
        return made


def _include(folders):
    return [word for folder in folders for word in ("-I", str(folder))]


@functools.cache
def build(project, mode="plain"):
    """Builds the module of ``project`` in ``mode``, a key of KERNEL_FLAGS; the path of the file."""
    import pybind11

    toolkit = toolkit_include()
    # The shadow comes first, so that <cuda_runtime.h> is the emulator's.
    device = ["-I", str(HERE / "include")]
    system = ["-isystem", str(toolkit), "-isystem", str(toolkit / "cccl")]
    own = _include(project.include)
    of_kernels = _include(project.kernel_include or project.include)
    of_kernels += [f"-D{define}" for define in project.defines]
    python = ["-isystem", pybind11.get_include(), "-isystem", sysconfig.get_paths()["include"]]

    runtime = sorted((HERE / "runtime").glob("*.cpp"))
    objects = [
        compile_object(source, ["-O2", "-g1", *device, *system])
        for source in runtime
        if source.name != "bind.cpp"
    ]
    # Bindings run once a call; what counts is how long pybind11 takes to compile.
    objects.append(
        compile_object(HERE / "runtime" / "bind.cpp", ["-O0", *device, *system, *python])
    )
    for source in project.bindings:
        objects.append(compile_object(source, ["-O0", *own, *device, *system, *python]))
    # As nvcc does it: .cu is C++, and the runtime's header is there without being asked for.
    like_nvcc = ["-include", "cuda_runtime.h", "-x", "c++"]
    for source in project.kernels:
        objects.append(
            compile_object(source, [*KERNEL_FLAGS[mode], *of_kernels, *device, *system, *like_nvcc])
        )

    # -Bsymbolic: a CUDA runtime that torch has loaded must not answer for the emulated one.
    link = ["-shared", "-Wl,-Bsymbolic", "-ldl"]
    if mode == "sanitized":
        link.append("-fsanitize=address,undefined")
    key = _digest(_compiler_version(), project.module, *link, *(o.name for o in objects))
    with _locked(key):
        made = CACHE / key / f"{project.module}{sysconfig.get_config_var('EXT_SUFFIX')}"
        if not made.exists():
            made.parent.mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(dir=CACHE) as folder:
                new = pathlib.Path(folder, made.name)
                _run([_compiler(), *map(str, objects), *link, "-o", str(new)])
                os.replace(new, made)
    return made


def sanitizer_environment():
    """The environment in which a Python process can load a "sanitized" module."""
    libraries = [
        subprocess.run([_compiler(), f"-print-file-name={name}"], capture_output=True, text=True)
        for name in ("libasan.so", "libubsan.so")
    ]
    preload = " ".join(done.stdout.strip() for done in libraries)
    options = "detect_leaks=0:detect_stack_use_after_return=0"
    return {**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}


@functools.cache
def load(project, mode="plain"):
    """Builds and imports the module; the same object for the same project and mode."""
    path = build(project, mode)
    # Python and pybind11 remember modules by name: builds of one module must differ in it.
    name = f"{path.parent.name}.{project.module}"
    loader = importlib.machinery.ExtensionFileLoader(name, str(path))
    spec = importlib.util.spec_from_file_location(name, str(path), loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
