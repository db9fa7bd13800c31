"""What pages say that a program can check: lengths, links, targets, commands, written tables."""

from __future__ import annotations

import doctest
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest

import model_arguments
import site_pages
from mmaupro_ext import __version__
from mmaupro_ext.commands import cli

REPO = Path(__file__).parents[1]
PAGES = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "benchmarks/*.md",
        "tasks/*/README.md",
        "tools/*.md",
        "mmaupro_ext/**/*.md",
    )
    for path in sorted(REPO.glob(pattern))
]


def test_the_readme_is_short():
    assert len((REPO / "README.md").read_text(encoding="utf-8").split()) <= 600


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPO).as_posix())
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text)]
    missing = [
        target
        for target in targets
        if target and "://" not in target and not (page.parent / target).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPO).as_posix())
def test_commands_exist(page):
    text = page.read_text(encoding="utf-8")
    words = {name.split()[0] for name in (*cli.COMMANDS, *cli.LM_EVAL_COMMANDS)}
    named = re.findall(r"(?:^\$ |`)mmaupro ([a-z]+)", text, re.MULTILINE)
    assert set(named) <= words
    actions = {name for name in cli.COMMANDS if name.startswith("data ")}
    assert {f"data {name}" for name in re.findall(r"mmaupro data ([a-z]+)", text)} <= actions


@pytest.mark.parametrize("page", model_arguments.PAGES, ids=lambda page: page.name)
def test_the_arguments_on_a_page_are_those_of_the_classes(page):
    written = page.read_text(encoding="utf-8")
    assert written == model_arguments.page(page), "run: PYTHONPATH=tools python -m model_arguments"


MAKEFILE = (REPO / "Makefile").read_text(encoding="utf-8")


def test_make_help_names_every_target_that_pages_name():
    phony = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE).group(1).split())
    assert set(re.findall(r"^([a-z-]+):.* ## \S", MAKEFILE, re.MULTILINE)) == phony
    done = subprocess.run(
        ["make", "-s", "help"], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert set(re.findall(r"^make ([a-z-]+) +\S", done.stdout, re.MULTILINE)) == phony
    pages = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert set(re.findall(r"`make ([a-z-]+)[` ]", pages)) <= phony


def test_the_tests_that_make_names_are_there():
    named = re.findall(r"tests/[a-z0-9_*]+\.py", MAKEFILE)
    assert named
    assert [pattern for pattern in named if not list(REPO.glob(pattern))] == []


SOURCES = "".join(
    re.sub(r'"\s*\n\s*f?"', "", path.read_text(encoding="utf-8"))  # messages that span lines
    for folder in ("mmaupro_ext", "tasks", "tools")
    for path in sorted((REPO / folder).rglob("*.py"))
)


def test_the_messages_that_the_questions_page_explains_are_still_printed():
    page = (REPO / "docs/faq.md").read_text(encoding="utf-8")
    titles = re.findall(r'^### "(.+)"', page, re.MULTILINE)
    parts = [part.strip() for title in titles for part in title.split("…") if part.strip()]
    assert len(parts) >= len(titles) > 5
    assert [part for part in parts if part not in SOURCES] == []


def test_links_of_a_page_lead_to_pages_of_the_site():
    assert (
        site_pages.turned("[a](../tasks/mmar/README.md#x)", "docs/benchmarks.md")
        == "[a](tasks/mmar.md#x)"
    )
    assert (
        site_pages.turned("[`b`](../mmau/README.md), `c`", "tasks/mmar/README.md")
        == "[`b`](mmau.md), `c`"
    )
    assert site_pages.turned("[code](setup.py)", "README.md") == "code (`setup.py`)"
    assert (
        site_pages.turned("```\n[a](docs/runs.md)\n```", "README.md")
        == "```\n[a](docs/runs.md)\n```"
    )
    assert (
        site_pages.turned("[out](https://example.org/a.md)", "README.md")
        == "[out](https://example.org/a.md)"
    )


def test_every_page_of_the_repository_is_in_the_menu_of_the_site():
    menu = (REPO / "mkdocs.yml").read_text(encoding="utf-8")
    pages = {site_pages.page_of(page.relative_to(REPO).as_posix()) for page in PAGES}
    named = set(re.findall(r": ([a-z_/]+\.md)$", menu, re.MULTILINE))
    assert {page for page in pages if page} == named


def test_the_version_to_cite_is_this_one():
    cited = re.search(r"^version: (\S+)$", (REPO / "CITATION.cff").read_text("utf-8"), re.MULTILINE)
    assert cited.group(1) == __version__


WITH_EXAMPLES = [
    path.relative_to(REPO).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
    for path in sorted((REPO / "mmaupro_ext").rglob("*.py"))
    # "+SKIP": those that need a run's results
    if re.search(r"^ +>>> (?!.*\+SKIP)", path.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_in_docstrings_print_what_they_say(module):
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted
    assert result.failed == 0


def test_everything_in_the_reference_that_can_be_called_has_an_example():
    page = (REPO / "docs/api.md").read_text(encoding="utf-8")
    lacking = []
    for name in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
        module, _, attribute = name.rpartition(".")
        thing = getattr(importlib.import_module(module), attribute)
        if inspect.isfunction(thing) and ">>>" not in (thing.__doc__ or ""):
            lacking.append(name)
    assert lacking == []
