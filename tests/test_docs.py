"""What pages say that a program can check: lengths, links, targets, commands, written tables."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import model_arguments
from mmaupro_ext.commands import cli

REPO = Path(__file__).parents[1]
PAGES = [
    path
    for pattern in ("*.md", "docs/*.md", "tasks/*/README.md", "tools/*.md", "mmaupro_ext/**/*.md")
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
