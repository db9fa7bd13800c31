"""Write the arguments of the model classes into their pages: `python -m model_arguments`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

REPO = Path(__file__).parents[1]
MODELS = REPO / "mmaupro_ext" / "models"
# Page -> the classes whose arguments it shows, each as file and name; all in one table.
PAGES = {
    REPO / "docs" / "models.md": [(MODELS / "hf" / "loaded.py", "")],
    REPO / "docs" / "servers.md": [
        (MODELS / "engines" / "openai.py", "OpenAIAudioLM"),
        (MODELS / "engines" / "engine.py", "EngineLM"),
    ],
    REPO / "docs" / "vllm.md": [
        (MODELS / "engines" / "vllm.py", "VLLMAudioLM"),
        (MODELS / "engines" / "engine.py", "EngineLM"),
    ],
}
BEGIN, END = "<!-- begin arguments -->", "<!-- end arguments -->"
# Named in the text that leads to the next class, or no argument of a user.
_LEFT_OUT = ("**audio", "name")


def described(docstring: str) -> dict[str, str]:
    """Return what the section "Parameters" of a numpydoc docstring says of each name."""
    section = docstring.split("Parameters\n----------\n")[1].split("\n\n")[0]
    texts: dict[str, list[str]] = {}
    name = ""
    for line in section.splitlines():
        if not line.startswith(" "):
            name, _, kind = line.partition(" : ")
            choices = re.findall(r'"([^"]+)"', kind) if kind.startswith("{") else []
            texts[name] = [", ".join(f"`{choice}`" for choice in choices) + "."] if choices else []
        else:
            texts[name].append(line.strip())
    return {name: " ".join(lines) for name, lines in texts.items()}


def rows(source: Path, name: str) -> list[str]:
    """Return the rows of one class: each argument with its default and what the docstring says of it."""
    tree = ast.parse(source.read_text(encoding="utf-8"))
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    cls = next(node for node in classes if name in ("", node.name))
    init = next(node for node in cls.body if isinstance(node, ast.FunctionDef))
    names = [argument.arg for argument in init.args.kwonlyargs]
    defaults = dict(zip(names, map(ast.unparse, filter(None, init.args.kw_defaults)), strict=True))
    lines = []
    for name, text in described(ast.get_docstring(cls) or "").items():
        if name in _LEFT_OUT:
            continue
        default = defaults.get(name, "None").strip("'")
        shown = "" if default == "None" else f"`{default}`"
        label = "others" if name == "**kwargs" else f"`{name}`"
        meaning = text if "`{" in text else re.sub('"([^"]*)"', r"`\1`", text)
        lines.append(f"| {label} | {shown} | {meaning} |")
    return lines


def page(path: Path) -> str:
    """Return a page with the table in its place."""
    lines = ["| argument | default | meaning |", "| --- | --- | --- |"]
    for source, name in PAGES[path]:
        lines += rows(source, name)
    head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    table = "\n".join(lines)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(page(path), encoding="utf-8")
