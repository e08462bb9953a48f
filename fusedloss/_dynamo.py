"""Lets Dynamo trace ``~region`` inside ``torch.compile(fullgraph=True)``.

Dynamo (torch 2.13) calls ``__neg__``, ``__pos__`` and ``__abs__`` of a Python object, but has no
rule for ``~``. The rule is added when Dynamo is first imported, which is long after us and takes a
second, so we wait for it; a torch that has the rule is left alone.
"""

import importlib.abc
import importlib.util
import sys

_MODULE = "torch._dynamo.variables.builtin"


def _call_invert(self, tx, operand):
    from torch._dynamo.variables.user_defined import UserDefinedObjectVariable

    if isinstance(operand, UserDefinedObjectVariable):
        return operand.call_method(tx, "__invert__", [], {})
    return None  # constants and tensors have their own rules


def _add_rule(module) -> None:
    variable = getattr(module, "BuiltinVariable", None)
    if variable is not None and not hasattr(variable, "call_invert"):
        variable.call_invert = _call_invert


class _WaitForDynamo(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _add_rule(module)

            spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Adds the rule now or, if Dynamo is not there yet, as soon as it is imported."""
    if _MODULE in sys.modules:
        _add_rule(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _WaitForDynamo())
