"""A corpus that every machine has: the docstrings of Python's own standard library.

The sources are parsed, not imported, so nothing runs. What is written in C has no source and is not there.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from lightretriever.text.corpus import Document
from lightretriever.text.values import safe_text

# Tests, applications, and two toolkits for drawing whose docstrings would be a sixth of all.
_SKIPPED = {"test", "tests", "idlelib", "lib2to3", "distutils", "tkinter", "turtle.py", "turtledemo", "__pycache__"}
_MIN_WORDS = 3
_MAX_SIGNATURE = 100

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def standard_library_docstrings() -> Iterator[Document]:
    """Modules, classes and functions that say what they are: id the dotted name, title the name with its signature.

    Private functions and classes and all tests are left out; of several definitions of one name the first is taken.
    """
    root = Path(sysconfig.get_path("stdlib"))
    seen: set[str] = set()
    for path in sorted(_sources(root)):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for document in _passages(path, module):
            if document.id not in seen:
                seen.add(document.id)
                yield document


def _sources(folder: Path) -> Iterator[Path]:
    for entry in folder.iterdir():
        if entry.is_dir() and entry.name.isidentifier() and entry.name not in _SKIPPED:
            yield from _sources(entry)
        elif entry.suffix == ".py" and entry.stem.isidentifier() and entry.name not in _SKIPPED:
            yield entry


def _passages(path: Path, module: str) -> Iterator[Document]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old escapes in string literals are none of our business
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # a template, or written for another Python
            return
    yield from _passage(tree, module, module, "module")
    yield from _definitions(tree.body, module)


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[Document]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            yield from _definitions([*node.body, *node.orelse], prefix)
        if not isinstance(node, _Definition) or node.name.startswith("_"):
            continue
        name = f"{prefix}.{node.name}"
        if isinstance(node, ast.ClassDef):
            bases = ", ".join(ast.unparse(base) for base in node.bases)
            yield from _passage(node, name, f"class {name}({bases})" if bases else f"class {name}", "class")
            yield from _definitions(node.body, name)
        else:
            yield from _passage(node, name, f"{name}({_signature(node.args)})", "function")


def _signature(arguments: ast.arguments) -> str:
    text = ast.unparse(arguments)
    first, _, rest = text.partition(", ")
    text = rest if first in ("self", "cls") else text
    return text if len(text) <= _MAX_SIGNATURE else text[:_MAX_SIGNATURE].rsplit(",", 1)[0] + ", …"


def _passage(node: ast.Module | _Definition, name: str, title: str, kind: str) -> Iterator[Document]:
    text = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
    if len(text.split()) >= _MIN_WORDS:
        yield Document(name, safe_text(text), safe_text(title), {"kind": kind})
