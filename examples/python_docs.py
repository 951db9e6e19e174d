"""The documentation in Python's own standard library, as texts to search."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

NOT_FOR_READERS = r"(^|\.)(_|tests?\b|idlelib|lib2to3|(site|dist)-packages)"
SHORTEST = 60  # characters of a docstring


class Docstring(NamedTuple):
    """A docstring, the name it documents, and where it is from."""

    name: str
    text: str
    where: dict[str, Any]


def python_docstrings() -> Iterator[Docstring]:
    """The docstrings of the standard library, read from its files without importing them."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        file = path.relative_to(root)
        module = ".".join(file.with_suffix("").parts).removesuffix(".__init__").removeprefix("_py")
        if not re.search(NOT_FOR_READERS, module):
            for name, line, text in documented(module, ast.parse(path.read_bytes())):
                where = {"module": module, "file": str(file), "line": line}
                yield Docstring(name, text, where)
    # What is written in C has no file to read, and is safe to import.
    for module in (each for each in sys.builtin_module_names if not each.startswith("_")):
        for name, text in built_in(module, importlib.import_module(module)):
            yield Docstring(name.removeprefix("builtins."), text, {"module": module})


def documented(name: str, node: Any) -> Iterator[tuple[str, int, str]]:
    """Name, line and docstring of what is public in a module's syntax tree."""
    if len(text := ast.get_docstring(node) or "") > SHORTEST:
        yield name, getattr(node, "lineno", 1), text
    for child in node.body if isinstance(node, ast.Module | ast.ClassDef) else ():
        named = isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        if named and not child.name.startswith("_"):
            yield from documented(f"{name}.{child.name}", child)


def built_in(name: str, thing: object) -> Iterator[tuple[str, str]]:
    """Name and docstring of what is public in a module that is there as an object only."""
    if len(text := inspect.getdoc(thing) or "") > SHORTEST:
        yield name, text
    for each, member in getattr(thing, "__dict__", {}).items():
        if callable(member) and not each.startswith("_"):
            yield from built_in(f"{name}.{each}", member)
