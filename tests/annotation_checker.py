"""What executes the annotations of likelax: beartype, on each function and method as it is imported.

Functions inside functions are left alone: they are made anew at each call, and so would be their
checks.
"""

import ast
import functools
import importlib.abc
import importlib.machinery
import re
import sys
from collections.abc import Callable
from importlib.machinery import PathFinder, SourceFileLoader

from beartype import BeartypeConf, beartype

# An int will do where a float is asked for (PEP 484).
_check = beartype(conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
_SELF = re.compile(r"\bSelf\b")
_NAME = "__check_annotations__"


def check_annotations(function: Callable) -> Callable:
    """`function`, checking what it is given and returns. beartype knows `Self` only inside whole
    classes: such a hint alone is left out, the others of its function are checked.

    The check is written at the first call: a process calls few of the functions that it imports.
    """
    hints = getattr(function, "__annotations__", {})
    for name in [name for name, hint in hints.items() if _SELF.search(str(hint))]:
        del hints[name]
    if not hints:
        return function

    @functools.cache
    def checked() -> Callable:
        return _check(function)

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return checked()(*args, **kwargs)

    return wrapper


class _Decorator(ast.NodeTransformer):
    """Puts the check next to each function, under its own decorators."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list.append(ast.copy_location(ast.Name(_NAME, ast.Load()), node))
        return node


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str):
        path = self.get_filename(fullname)
        tree = _Decorator().visit(ast.parse(self.get_data(path), path))
        return compile(tree, path, "exec", dont_inherit=True)

    def exec_module(self, module) -> None:
        setattr(module, _NAME, check_annotations)
        super().exec_module(module)


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, package: str):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != self.package:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


def install(package: str) -> importlib.abc.MetaPathFinder:
    """From now on the package's modules are imported with their checks; gives what was put into
    `sys.meta_path`.
    """
    finder = _Finder(package)
    sys.meta_path.insert(0, finder)
    return finder
