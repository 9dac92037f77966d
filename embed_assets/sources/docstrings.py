"""A Python module's docstrings as one Markdown text. Pure; parses the code, never runs it."""

import ast
from collections.abc import Iterator

from embed_assets.sources.refusal import Refusal

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def module_markdown(name: str, code: bytes) -> str:
    """`# name`, the module's docstring, then a heading and docstring for each class and function
    that has one, in source order. Raises Refusal where there is nothing or it cannot be parsed.
    """
    try:
        module = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError) as error:
        raise Refusal("not parseable", type(error).__name__) from error
    docstring = ast.get_docstring(module)
    sections = [f"# {name}", *([docstring] if docstring else []), *_sections(module)]
    if len(sections) == 1:
        raise Refusal("no docstrings", f"module {name}")
    return "\n\n".join(sections) + "\n"


def _sections(scope: ast.AST, within: str = "") -> Iterator[str]:
    for definition in _definitions(scope):
        path = f"{within}{definition.name}"
        if docstring := ast.get_docstring(definition):
            yield _heading(definition, path, is_method=bool(within))
            yield docstring
        if isinstance(definition, ast.ClassDef):
            yield from _sections(definition, within=f"{path}.")


def _definitions(scope: ast.AST) -> Iterator[_Definition]:
    """Classes and functions of a scope, also those under `if`, `try` and the like."""
    for child in ast.iter_child_nodes(scope):
        if isinstance(child, _Definition):
            yield child
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from _definitions(child)


def _heading(definition: _Definition, path: str, *, is_method: bool) -> str:
    if isinstance(definition, ast.ClassDef):
        bases = ", ".join(ast.unparse(base) for base in definition.bases)
        return f"## class {path}({bases})" if bases else f"## class {path}"
    signature = f"{path}({ast.unparse(definition.args)})"
    return f"### {signature}" if is_method else f"## function {signature}"
