"""What a release rests on: licences, an honest audit, workflows that only call make."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import audit

REPO = Path(__file__).parents[1]
WORKFLOWS = sorted((REPO / ".github/workflows").glob("*.yml"))


@pytest.mark.parametrize(
    "licence",
    [
        "GPL-3.0-only", "AGPL-3.0", "GNU General Public License v3 (GPLv3)", "Proprietary", "CC-BY-NC-4.0",
        "MIT AND GPL-2.0-only", "permitted by its authors", "",
    ],
)  # fmt: skip
def test_a_licence_that_is_not_allowed(licence):
    assert not audit.allowed(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "MIT", "BSD-3-Clause AND 0BSD", "Apache-2.0 OR BSD-2-Clause", "MIT OR GPL-3.0-only", "BSL-1.0",
        "GNU Lesser General Public License v2 or later (LGPLv2+)", "Python Software Foundation License",
    ],
)  # fmt: skip
def test_a_licence_that_is_allowed(licence):
    assert audit.allowed(licence)


def test_what_comes_along_is_followed_to_what_it_needs_itself():
    names = dict(audit.reached())
    assert {"numpy", "torch", "lm-eval", "cffi", "datasets", "mpmath"} <= set(
        names
    )  # of soundfile, lm_eval, torch
    assert "pytest" not in names


def answers(text: str, error: str = ""):
    return lambda *_, **__: subprocess.CompletedProcess([], 1, stdout=text, stderr=error)


def packages(*found: dict) -> str:
    return json.dumps({"dependencies": found})


SKIPPED = {"name": "numpy", "skip_reason": "not found"}
CLEAN = {"name": "scipy", "version": "1", "vulns": []}
KNOWN = {"name": "tiny", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}


@pytest.mark.parametrize(
    ("output", "said", "count"),
    [
        ("", "NOT CHECKED, pip-audit gives no answer here (no such host)", 0),
        (packages(SKIPPED, SKIPPED), "NOT CHECKED, the service knows none of 2 packages", 0),
        (packages(SKIPPED, CLEAN), "0 of 1 packages have known ones; 1 could not be checked", 0),
        (packages(CLEAN, KNOWN), "tiny 1: CVE-1, mended in 2", 1),
    ],
)
def test_an_audit_without_a_service_that_passes_for_a_clean_one(
    monkeypatch, capsys, output, said, count
):
    monkeypatch.setattr(audit.subprocess, "run", answers(output, "no such host"))
    assert audit.vulnerabilities() == count
    assert said in capsys.readouterr().out


def test_workflows_do_nothing_but_call_make():
    targets = set(re.findall(r"^([a-z-]+):.* ## ", (REPO / "Makefile").read_text(), re.MULTILINE))
    for workflow in WORKFLOWS:
        text = workflow.read_text(encoding="utf-8")
        steps = re.findall(r"- run: (.*)", text)
        assert steps, workflow.name
        for step in steps:
            program, *words = step.split()
            assert program == "make", step
            assert {word for word in words if "=" not in word} <= targets, step
        assert "://" not in text, workflow.name
    assert len(WORKFLOWS) == 2
