"""Seeded bugs: a kernel header with one change, built beside the real one.

The checks are only worth something if they catch such changes. A row names the change; the text
must be found exactly once, so that a row cannot outlive the code that it breaks:

    Mutant("no fence", "csrc/cuda/reduce.cuh", "__threadfence();", "", "global_race")
"""

import dataclasses
import pathlib

import pytest

from . import builder

_SOURCES = {".h", ".hpp", ".cuh", ".cu", ".cpp", ".inl"}


@dataclasses.dataclass(frozen=True)
class Mutant:
    """``file`` is relative to the repository; ``kind`` is the error that must be reported."""

    name: str
    file: str
    old: str
    new: str
    kind: str

    def __str__(self):
        return self.name

    def text(self):
        """The changed file."""
        original = (builder.ROOT / self.file).read_text()
        found = original.count(self.old)
        if not self.old or found != 1:
            raise ValueError(f"mutant {self.name!r}: {self.old!r} is {found} times in {self.file}")
        return original.replace(self.old, self.new)


def quick_and_slow(mutants):
    """Rows of a table: each is a build of its own, so every other one is left to the slow suite."""
    return [
        pytest.param(mutant, marks=pytest.mark.slow if row % 2 else (), id=str(mutant))
        for row, mutant in enumerate(mutants)
    ]


def _folders(project, mutant):
    """The folders whose files may include each other, with whether their subfolders count."""
    folders = {pathlib.Path(folder).resolve(): True for folder in project.include}
    for source in (*project.kernels, builder.ROOT / mutant.file):
        folders.setdefault(pathlib.Path(source).resolve().parent, False)
    return folders


def mutated(project, mutant):
    """``project`` with the mutant in place of its original; only the kernels are rebuilt.

    Includes are relative, so a changed header needs a tree of its own: the sources are copied.
    """
    text = mutant.text()
    slug = "".join(c if c.isalnum() else "_" for c in mutant.name)
    tree = builder.CACHE / "mutants" / f"{slug}_{builder._digest(mutant.file, text)}"

    def moved(path):
        return tree / pathlib.Path(path).resolve().relative_to(builder.ROOT)

    for folder, deep in _folders(project, mutant).items():
        for source in folder.rglob("*") if deep else folder.glob("*"):
            if source.suffix in _SOURCES and source.is_file():
                _write(moved(source), source.read_text())
    _write(tree / mutant.file, text)
    return dataclasses.replace(
        project,
        kernels=tuple(map(moved, project.kernels)),
        kernel_include=tuple(map(moved, project.include)),
    )


# What a caller reports of a mutant under which no error is found, but the result is wrong.
WRONG = "wrong"

# Options of `recorded` in the search for a mutant. Few blocks at once: every loaded module keeps
# the stacks of its threads mapped.
SEARCH = {"check": False, "preempt": 0.05, "traced": True, "resident": 2, "multiprocessors": 2}


def check_is_caught(mutant, project, findings):
    """``findings(project, seed)`` has the mutant's kind (any, if it has none) for some schedule."""
    broken = mutated(project, mutant)
    seen = set()
    for seed in range(4):
        seen |= findings(broken, seed)
        if mutant.kind in seen or (not mutant.kind and seen):
            return
    pytest.fail(f"{mutant}: found {seen}, wanted {mutant.kind or 'anything'}")


def _write(path, text):
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
