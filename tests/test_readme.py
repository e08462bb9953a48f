"""The README: its Python runs and prints what it shows, and what it names is there.

A ```python block with prompts is a doctest, one without is run; the blocks of a section share a
namespace. In ```bash blocks every command has to be one that the project has.
"""

import doctest
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import pytest

import fusedloss as fl
from fusedloss import _kernel_arguments, _program, functional
from tests import families, test_examples
from tests.test_docs import DEFAULT_NORMALIZERS

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
COMMON = {"input", "target", "weight", "reduction", "mask", "normalizer", "return_stats"}
OF_OVERLAP = {"activation", "smooth", "per", "weight_map", "ignore_index"}
OF_OVERLAP |= {"include_background", "skip_absent"}
LEGACY = {"size_average", "reduce"}


def blocks(language):
    """(section, first line, text) of every block in this language."""
    section, start, lines = "top", None, []
    for number, line in enumerate(TEXT.splitlines(), 1):
        if start is None and line.startswith("## "):
            section = line[3:]
        elif start is None and line == f"```{language}":
            start, lines = number + 1, []
        elif start is not None and line == "```":
            yield section, start, "\n".join(lines) + "\n"
            start = None
        elif start is not None:
            lines.append(line)


def sections():
    found = {}
    for section, start, text in blocks("python"):
        found.setdefault(section, []).append((start, text))
    return found


def table(section, header):
    """The cells of the rows of the table under this header."""
    _, _, rest = TEXT.partition(f"## {section}\n")[2].partition(header)
    assert rest, f"no table {header!r} under {section!r}"
    rows = rest.partition("\n\n")[0].strip().splitlines()[1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def code(cell):
    """The words of a cell that stand in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("section", sections())
def test_python_blocks_run_and_print_what_they_show(section):
    names = {}
    for start, text in sections()[section]:
        if ">>>" not in text:
            exec(compile("\n" * (start - 1) + text, "README.md", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(text, names, section, "README.md", start - 1)
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        assert runner.run(test, clear_globs=False).failed == 0
        names = test.globs


def test_there_is_something_to_run():
    assert len(sections()) >= 4 and len([*blocks("bash")]) >= 2
    assert TEXT.count("```") == 2 * len([*blocks("python"), *blocks("bash")])


COMMANDS = [line for _, _, text in blocks("bash") for line in text.splitlines()]
INLINE = [
    name for name in re.findall(r"`([^`\n]+)`", TEXT) if re.match(r"(make|python|pip) ", name)
]


def is_program(name: str) -> bool:
    """Whether ``python -m name`` runs something."""
    module = importlib.util.find_spec(name)
    if module.submodule_search_locations is not None:
        return importlib.util.find_spec(f"{name}.__main__") is not None
    return 'if __name__ == "__main__":' in Path(module.origin).read_text()


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS + INLINE))
def test_commands_exist(command):
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.M)[1].split()
        assert words[0] in targets
        assert {word.partition("=")[0] for word in words[1:]} <= {"ARGS", "PYTHON", "TORCH"}
    elif program == "python":
        assert words[0] == "-m" and is_program(words[1])
    else:
        assert program == "pip" and words[0] == "install"
        extra = re.search(r"\[(\w+)\]", words[-1])
        assert not extra or f"\n{extra[1]} = [" in (ROOT / "pyproject.toml").read_text()


def test_files_that_are_named_exist():
    names = {name for name in re.findall(r"`([\w./]+)`", TEXT) if "/" in name}
    assert len(names) > 8
    written = {"demo-output/", "bench-output/"}
    assert [name for name in names - written if not (ROOT / name).exists()] == []


def test_environment_variables_are_those_of_setup():
    described = inspect.cleandoc((ROOT / "setup.py").read_text().split('"""')[1])
    for cell, _ in table("Installation", "| environment variable | |\n"):
        for name in code(cell):
            assert name in described
    archs = re.search(r'default "(.+?)"', described)[1]
    assert f"`{archs}`" in TEXT


# family: (header of its table, arguments that are not the loss's own)
COLUMNS = "own arguments | normalizer | module |\n"
TABLES = {
    "elementwise": (f"| function | ℓ(x, t) | {COLUMNS}", COMMON),
    "class": (
        f"| function | ℓ at a position of class y | {COLUMNS}",
        COMMON | {"weight_map", "ignore_index"},
    ),
    "overlap": ("| function | loss of a pool | own arguments | module |\n", COMMON | OF_OVERLAP),
    "compound": (
        f"| function | beside Dice | {COLUMNS}",
        COMMON | OF_OVERLAP | {"squared", "dice_weight", "dice_class_weight"},
    ),
}
LOSSES = {family: table("Losses", header) for family, (header, _) in TABLES.items()}
ROWS = [(family, row) for family, rows in LOSSES.items() for row in rows]


@pytest.mark.parametrize("family", [name for name, of in families.FUNCTIONS.items() if of])
def test_the_table_of_losses_is_complete(family):
    rows = LOSSES[family]
    assert sorted(code(row[0])[0] for row in rows) == sorted(families.FUNCTIONS[family])
    assert {code(row[-1])[0] for row in rows} == {*families.MODULES[family]}


@pytest.mark.parametrize("family, row", ROWS, ids=[code(row[0])[0] for _, row in ROWS])
def test_the_table_of_losses_is_right(family, row):
    (function,), (module,) = code(row[0]), code(row[-1])
    parameters = inspect.signature(getattr(functional, function)).parameters
    if "normalizer" in parameters:
        assert code(row[3])[0] == f'"{DEFAULT_NORMALIZERS[function]}"'
    common = TABLES[family][1] | LEGACY
    own = [f"{p.name}={p.default}" for p in parameters.values() if p.name not in common]
    assert code(row[2]) == own
    assert f"functional.{function}`" in getattr(fl, module).__doc__


def test_common_arguments_are_all_named():
    rows = table("Losses", "| argument | |\n")
    assert {name for row in rows for name in code(row[0])} == COMMON


def test_common_arguments_of_overlap_losses_are_all_named():
    rows = table("Losses", "| of overlap losses | |\n")
    assert {code(row[0])[0] for row in rows} == OF_OVERLAP | {"target", "weight"}


EXPRESSIONS = {
    "Masks and regions": ("| expression | takes part where |\n", "Region"),
    "Weights": ("| expression | weight of a position | applies to |\n", "WeightSource"),
}


@pytest.mark.parametrize("section", EXPRESSIONS)
def test_the_tables_of_expressions_are_complete(section):
    header, kind = EXPRESSIONS[section]
    cells = [text for row in table(section, header) for text in code(row[0])]
    functions = {name: getattr(fl, name) for name in fl.__all__ if name in vars(fl)}
    makers = {
        name: [f"{p.name}={p.default}" for p in inspect.signature(value).parameters.values()]
        for name, value in functions.items()
        if inspect.isfunction(value) and value.__annotations__.get("return") is getattr(fl, kind)
    }
    others = {"target", "input", "image"} if kind == "Region" else set()
    assert {*re.findall(r"\bfl\.(\w+)", " ".join(cells))} == {*makers} | others
    for name in ("center", "boundary"):
        if name in makers:
            assert f"fl.{name}({', '.join(makers[name])})" in cells


EXAMPLES = table("Examples", "| wanted | call | test |\n")


@pytest.mark.parametrize("row", EXAMPLES, ids=[code(row[-1])[0] for row in EXAMPLES])
def test_every_example_is_what_its_test_calls(row):
    *_, test = code(row[-1])
    assert test in {example.__name__ for example in test_examples.EXAMPLES}
    source = inspect.getsource(getattr(test_examples, test))
    for text in code(row[0]) + code(row[1]):
        assert f"{text}\n" in source


def test_limits_of_the_kernels():
    text = " ".join(TEXT.split())
    for limit in (
        f"{_program.MAX_INSTRUCTIONS} instructions and {_program.MAX_DEPTH} stack slots",
        f"{_program.MAX_TENSORS} masks and weights, {_program.MAX_IMAGES} images",
        f"{_program.MAX_TABLES} tensors of coordinates or lengths",
        f"{_program.MAX_CONSTANTS} numbers, and normalise {_program.MAX_RANGES} sources",
        f"more than {_kernel_arguments._MAX_DIMS} dims",
    ):
        assert limit in text
