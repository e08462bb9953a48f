"""Two rules for Dynamo, so that regions can be built inside ``torch.compile(fullgraph=True)``.

Dynamo (torch 2.13) calls ``__neg__``, ``__pos__`` and ``__abs__`` of a Python object, but has no
rule for ``~``; and it takes a comparison of an object with a symbolic number (a threshold that
changes from call to call) for one that Python would refuse. The rules are added when Dynamo is
first imported, which is long after us and takes a second, so we wait for it.
"""

import importlib.abc
import importlib.util
import operator
import sys

from . import quantities

_MODULE = "torch._dynamo.variables.builtin"


_COMPARISONS = {
    operator.gt: "__gt__",
    operator.ge: "__ge__",
    operator.lt: "__lt__",
    operator.le: "__le__",
    operator.eq: "__eq__",
    operator.ne: "__ne__",
}

_REFLECTED = {
    operator.gt: "__lt__",
    operator.ge: "__le__",
    operator.lt: "__gt__",
    operator.le: "__ge__",
    operator.eq: "__eq__",
    operator.ne: "__ne__",
}


def _is_quantity(variable) -> bool:
    return issubclass(getattr(variable, "value_type", object), quantities.Quantity)


def _call_invert(self, tx, operand):
    from torch._dynamo.variables.user_defined import UserDefinedObjectVariable

    if isinstance(operand, UserDefinedObjectVariable):
        return operand.call_method(tx, "__invert__", [], {})
    return None  # constants and tensors have their own rules


def _add_rules(module) -> None:
    """To `torch._dynamo.variables.builtin`; a torch that differs there is left alone."""
    variable = getattr(module, "BuiltinVariable", None)
    if variable is None or hasattr(variable, "call_invert"):
        return
    variable.call_invert = _call_invert
    compare = getattr(variable, "_comparison_with_symnode", None)
    if compare is None:
        return

    def comparison_with_symnode(self, tx, left, right):
        if _is_quantity(left) and self.fn in _COMPARISONS:
            return left.call_method(tx, _COMPARISONS[self.fn], [right], {})
        if _is_quantity(right) and self.fn in _REFLECTED:
            return right.call_method(tx, _REFLECTED[self.fn], [left], {})
        return compare(self, tx, left, right)

    variable._comparison_with_symnode = comparison_with_symnode


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
                _add_rules(module)

            spec.loader.exec_module = exec_module
        return spec


def install() -> None:
    """Adds the rules now or, if Dynamo is not there yet, as soon as it is imported."""
    if _MODULE in sys.modules:
        _add_rules(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _WaitForDynamo())
