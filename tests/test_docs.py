"""What is public is complete, documented, and its examples run.

Signatures are compared in `test_reference.py`, `test_torch_dropin.py` and `test_modules.py`. Here
is what holds them together: every function is in every table, and every docstring is right.
"""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re

import pytest

import fusedloss as fl
from fusedloss import functional, modules, reference
from tests import (
    cases,
    class_cases,
    compound_cases,
    families,
    numpy_classes,
    overlap_cases,
    reference_cases,
    test_class_modules,
    test_modules,
    test_overlap_modules,
)

PUBLIC = [fl] + [
    importlib.import_module(name)
    for _, name, _ in pkgutil.walk_packages(fl.__path__, "fusedloss.")
    if not re.search(r"\.(_\w+|demo)(\.|$)", name)
]


COMMON = {"input", "target", "weight", "reduction", "mask", "normalizer", "return_stats"}
COMMON |= {"size_average", "reduce", "weight_map", "ignore_index"}


def name_of(module):
    return module.__name__.removeprefix("fusedloss.")


@pytest.mark.parametrize("module", PUBLIC, ids=name_of)
def test_examples_in_docstrings(module):
    failed, tried = doctest.testmod(module)
    assert not failed
    assert tried or ">>>" not in inspect.getsource(module)


@pytest.mark.parametrize("module", [m for m in PUBLIC if hasattr(m, "__all__")], ids=name_of)
def test_all_is_complete(module):
    """What is public and defined in the module, or imported by a package from its own modules."""
    is_package = hasattr(module, "__path__")
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing, "names that do not exist"
    for name, value in vars(module).items():
        if name.startswith("_") or not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        is_own = value.__module__ == module.__name__
        if is_own or (is_package and value.__module__.startswith("fusedloss.")):
            assert name in module.__all__


def test_the_package_holds_functions_and_modules():
    others = {"Region", "WeightSource", "Stats", "__version__", "functional", "reference"}
    others |= {"image", "center", "box", "boxes", "disk", "disks", "keypoints", "lengths"}
    others |= {"edges", "activation", "normalized", "boundary", "region_mask", "weight_map"}
    assert {*fl.__all__} == {*functional.__all__, *modules.__all__} | others
    assert all(getattr(fl, name) is getattr(functional, name) for name in functional.__all__)
    assert "target" not in fl.__all__ and fl.target is fl.quantities.target
    assert "input" not in fl.__all__ and fl.input is fl.quantities.input


# family: the names of functions in each of its tables
TABLES = {
    "elementwise": (
        [*reference.DEFAULT_NORMALIZERS],
        [loss.name for loss in cases.LOSSES],
        [*reference_cases.LOSSES],
        [function for function, *_ in test_modules.TABLE.values()],
    ),
    "class": (
        [*reference.CLASS_NORMALIZERS],
        [loss.name for loss in class_cases.LOSSES],
        [*numpy_classes.FORMULAS],
        [function for function, *_ in test_class_modules.TABLE.values()],
    ),
    "overlap": ([name for name, _ in overlap_cases.LOSSES],),
    "compound": ([name for name, *_ in compound_cases.LOSSES],),
}
# functions that take a normalizer: the one that None stands for
DEFAULT_NORMALIZERS = {**reference.DEFAULT_NORMALIZERS, **reference.CLASS_NORMALIZERS}
DEFAULT_NORMALIZERS |= compound_cases.DEFAULT_NORMALIZERS
# module: the function that it calls
CALLED = {
    name: row[0]
    for table in (test_modules, test_class_modules, test_overlap_modules)
    for name, row in table.TABLE.items()
}


def test_every_function_has_a_family():
    assert sorted(sum(families.FUNCTIONS.values(), ())) == sorted(functional.__all__)
    assert sorted(sum(families.MODULES.values(), ())) == sorted(modules.__all__)
    assert {*functional.__all__} < {*reference.__all__}


@pytest.mark.parametrize("family", [name for name, of in families.FUNCTIONS.items() if of])
def test_every_function_is_in_every_table(family):
    for table in TABLES[family]:
        assert {*table} == {*families.FUNCTIONS[family]}


@pytest.mark.parametrize("name", functional.__all__)
def test_docstring_of_a_function(name):
    """Formula first, then the default normalizer and an example; the same as the reference's."""
    text = inspect.getdoc(getattr(functional, name))
    theirs = inspect.getdoc(getattr(reference, name))
    assert theirs.replace("fl.reference.", "fl.") == text
    parameters = {*inspect.signature(getattr(functional, name)).parameters}
    if "normalizer" in parameters:
        found = re.search(r'Default normalizer ``"(\w+)"``', text)
        assert found[1] == DEFAULT_NORMALIZERS[name]
    for option in parameters - COMMON:
        assert f"`{option}`" in text, option
    assert f">>> fl.{name}(" in text


@pytest.mark.parametrize("name", modules.__all__)
def test_docstring_of_a_module(name):
    text = inspect.getdoc(getattr(modules, name))
    assert text.startswith(f"`fusedloss.functional.{CALLED[name]}` as a module")
    assert f"fl.{name}(" in text


def test_public_classes_and_functions_have_docstrings():
    for module in PUBLIC:
        tree = ast.parse(inspect.getsource(module))
        assert ast.get_docstring(tree), module.__name__
        for node in tree.body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name[0] != "_":
                assert ast.get_docstring(node), f"{module.__name__}.{node.name}"
