"""The public functions and modules of each loss family, by the file that defines them.

`fusedloss.functional.<family>_losses`, and the files of the same names beside the modules and the
reference. A family without a file has none.
"""

from fusedloss import functional, modules

FAMILIES = ("elementwise", "class", "overlap", "compound")


def _defined(package, family):
    home = f"{package.__name__}.{family}_losses"
    return tuple(name for name in package.__all__ if getattr(package, name).__module__ == home)


FUNCTIONS = {family: _defined(functional, family) for family in FAMILIES}
MODULES = {family: _defined(modules, family) for family in FAMILIES}
ELEMENTWISE, CLASS, OVERLAP, COMPOUND = (FUNCTIONS[family] for family in FAMILIES)
