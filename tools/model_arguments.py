"""Write the arguments of hf-audio into docs/models.md, from their class: `python -m model_arguments`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPO = Path(__file__).parents[1]
SOURCE = REPO / "mmaupro_ext" / "models" / "hf" / "loaded.py"
PAGE = REPO / "docs" / "models.md"
BEGIN, END = "<!-- begin arguments -->", "<!-- end arguments -->"


def described(docstring: str) -> dict[str, str]:
    """Return what the section "Parameters" of a numpydoc docstring says of each name."""
    section = docstring.split("Parameters\n----------\n")[1].split("\n\n")[0]
    texts: dict[str, list[str]] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith(" "):
            name = line.partition(" :")[0]
            texts[name] = []
        else:
            texts[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in texts.items()}


def table() -> str:
    """Return the table: each argument with its default and what the docstring says of it."""
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    cls = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    init = next(node for node in cls.body if isinstance(node, ast.FunctionDef))
    names = [argument.arg for argument in init.args.kwonlyargs]
    defaults = dict(zip(names, map(ast.unparse, filter(None, init.args.kw_defaults)), strict=True))
    lines = ["| argument | default | meaning |", "| --- | --- | --- |"]
    for name, text in described(ast.get_docstring(cls) or "").items():
        default = defaults.get(name, "None").strip("'")
        shown = "" if default == "None" else f"`{default}`"
        label = "others" if name == "**kwargs" else f"`{name}`"
        meaning = re.sub('"([^"]*)"', r"`\1`", text)
        lines.append(f"| {label} | {shown} | {meaning} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """Return the page with the table in its place."""
    head, _, rest = text.partition(BEGIN)
    return f"{head}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
