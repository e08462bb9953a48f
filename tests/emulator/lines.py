"""Source lines of a built module's code addresses."""

import functools
import os
import pathlib
import subprocess

from .builder import CACHE, HERE, ROOT

_SHADOW = str(HERE / "include")
_MUTANTS = CACHE / "mutants"


@functools.cache
def _frames(library, addresses):
    """For each address its (function, file:line) frames, the innermost first."""
    command = ["addr2line", "-e", str(library), "-a", "-i", "-f", "-C"]
    text = subprocess.run(
        command, input="\n".join(map(hex, addresses)), capture_output=True, text=True, check=True
    ).stdout
    frames, pending = [], None
    for line in text.splitlines():
        if line.startswith("0x"):
            frames.append([])
            pending = None
        elif pending is None:
            pending = line
        else:
            frames[-1].append((pending, line))
            pending = None
    return frames


def _short(place):
    path, _, number = place.partition(" ")[0].rpartition(":")
    if path in ("", "??"):
        return "?"
    path = pathlib.Path(os.path.normpath(path))
    if path.is_relative_to(_MUTANTS):  # as if it lay where its original does
        path = ROOT.joinpath(*path.relative_to(_MUTANTS).parts[1:])
    return f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name}:{number}"


def _describe(frames):
    # A wrapper of the emulator is not where a reader wants to look.
    own = [place for _, place in frames if not place.startswith(_SHADOW)] or [frames[0][1]]
    chain = list(dict.fromkeys(map(_short, own)))
    return chain[0] if len(chain) == 1 else f"{chain[0]} (in {', '.join(chain[1:])})"


def resolve(library, addresses, functions=False):
    """Readable places (or the names of the functions) of offsets into ``library``.

    A place is a return address, so the call before it is looked up; a function is its own address.
    """
    if not addresses:
        return []
    wanted = tuple(a if functions else a - 1 for a in addresses)
    frames = _frames(library, wanted)
    return [f[-1][0] if functions else _describe(f) for f in frames]
