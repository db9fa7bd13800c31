"""Who may import whom (docs/architecture.md): downwards only, no circles, nobody's private names.

All imports count, also those inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]
PACKAGE = "mmaupro_ext"

# A room may import the rooms of a lower level; a module of the package that is no room is at the bottom.
LEVELS = {
    "benchmarks": 1,
    "recipes": 1,
    "native": 1,
    "audio": 2,
    "features": 3,
    "data": 3,
    "scoring": 3,
    "corpus": 4,
    "offline": 4,
    "models": 4,
    "report": 5,
    "compat": 6,
    "commands": 7,
    "__main__": 8,
}
# Lower, and still not for them: models and scoring meet in the reply only.
NEVER = {("models", "scoring")}
# What the pure rules must do without, wherever they are imported.
NOT_FOR_SCORING = {"lm_eval", "transformers", "torch", "sqlite3", "urllib", "requests", "socket"}


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((REPO / PACKAGE).rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in MODULES.items()}


def room(module: str) -> str:
    """Return the room of a module of ours: its folder, or itself at the top of the package."""
    return (module.split(".") + [""])[1]


def level(module: str) -> int:
    return LEVELS.get(room(module), 0)


def imports(tree: ast.AST, package: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, module, name in the importing file) of all imports in a file of `package`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, alias.asname or alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) + 1 - node.level]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                target = whole if whole in MODULES or _is_compiled(whole) else base
                yield node.lineno, target, alias.asname or alias.name


def _is_compiled(module: str) -> bool:
    return (REPO / module.replace(".", "/")).with_suffix(".pyx").exists()


def package_of(module: str) -> str:
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def ours(module: str) -> list[tuple[int, str, str]]:
    found = imports(TREES[module], package_of(module))
    return [edge for edge in found if edge[1].split(".")[0] == PACKAGE]


def wrong_ways(module: str, found: list[tuple[int, str, str]]) -> list[str]:
    """Return the imports of a module that do not lead downwards."""
    return [
        f"{module} imports {target} (line {line})"
        for line, target, _ in found
        if room(target) != room(module)
        and target != PACKAGE
        and (level(target) >= max(level(module), 1) or (room(module), room(target)) in NEVER)
    ]


def test_imports_run_downwards():
    wrong = [text for module in MODULES for text in wrong_ways(module, ours(module))]
    assert wrong == [], "\n".join(wrong)


def test_scoring_is_pure():
    wrong = [
        f"{module}:{line} imports {target}"
        for module in MODULES
        if room(module) == "scoring"
        for line, target, _ in imports(TREES[module], package_of(module))
        if target.split(".")[0] in NOT_FOR_SCORING
    ]
    assert wrong == [], "\n".join(wrong)


def private_names(module: str, tree: ast.AST) -> list[str]:
    """Return the uses of names that begin with one underscore and belong to another room."""
    wrong, modules = [], {}
    for line, target, name in imports(tree, package_of(module)):
        if target.split(".")[0] != PACKAGE or room(target) == room(module):
            continue
        modules[name] = target
        private = [part for part in (*target.split("."), name) if part.startswith("_")]
        if any(not part.startswith("__") for part in private):
            wrong.append(f"{module}:{line} imports {target} ({name})")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in modules
            and node.attr.startswith("_")
            and not node.attr.startswith("__")
        ):
            wrong.append(f"{module}:{node.lineno} uses {modules[node.value.id]}.{node.attr}")
    return wrong


def test_private_names_stay_in_their_room():
    wrong = [text for module, tree in TREES.items() for text in private_names(module, tree)]
    assert wrong == [], "\n".join(wrong)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return a way round for each module that comes back to itself, the shortest first."""
    found = {}
    for start in graph:
        ways = [[start]]
        seen: set[str] = set()
        while ways:
            way = ways.pop(0)
            for target in sorted(graph.get(way[-1], ())):
                if target == start:
                    found.setdefault(frozenset(way), [*way, start])
                    ways = []
                    break
                if target not in seen:
                    seen.add(target)
                    ways.append([*way, target])
    return sorted(found.values(), key=len)


def test_there_are_no_circles():
    graph = {
        module: {target for _, target, _ in ours(module)} - {module, PACKAGE} for module in MODULES
    }
    wrong = [" -> ".join(way) for way in circles(graph)]
    assert wrong == [], "\n".join(wrong)


def test_the_package_imports_no_maker_and_no_test():
    tops = {
        path.stem
        for folder in ("tools", "tests", "benchmarks")
        for path in (REPO / folder).iterdir()
    }
    wrong = [
        f"{module}:{line} imports {target}"
        for module, tree in TREES.items()
        for line, target, _ in imports(tree, package_of(module))
        if target.split(".")[0] in tops - {"conftest"}
    ]
    assert wrong == [], "\n".join(wrong)


def test_every_room_has_a_level():
    folders = {path.name for path in (REPO / PACKAGE).iterdir() if (path / "__init__.py").exists()}
    assert folders - {"tasks"} == set(LEVELS) - {"__main__"}


@pytest.mark.parametrize(
    ("module", "line", "refused"),
    [
        ("audio.x", "from mmaupro_ext.native import info", False),
        ("audio.x", "from mmaupro_ext import errors", False),
        ("audio.x", "from mmaupro_ext import models", True),
        ("audio.x", "def f():\n    import mmaupro_ext.features.mel", True),
        ("data.x", "if TYPE_CHECKING:\n    from mmaupro_ext.scoring.closed import match", True),
        ("data.x", "from ..commands import cli", True),
        ("models.x", "from mmaupro_ext.scoring import closed", True),
        ("models.x", "from mmaupro_ext.offline.judges import ask", True),
        ("report.x", "from mmaupro_ext.models.families import FAMILIES", False),
        ("util", "from mmaupro_ext.audio import load", True),
        ("util", "from mmaupro_ext.errors import ConfigError", False),
    ],
)
def test_the_check_itself(module, line, refused):
    module = f"{PACKAGE}.{module}"
    found = list(imports(ast.parse(line), module.rpartition(".")[0]))
    assert bool(wrong_ways(module, found)) == refused


def test_circles_and_private_names_are_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c", "a"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    tree = ast.parse("from mmaupro_ext.audio import wav\nwav._read()\nwav.read()\nwav.__name__")
    assert len(private_names("mmaupro_ext.util", tree)) == 1
    tree = ast.parse(
        "from mmaupro_ext.native import _core\nfrom mmaupro_ext.audio.wav import _read"
    )
    assert len(private_names("mmaupro_ext.util", tree)) == 2
