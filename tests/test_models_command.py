"""`mmaupro models`: the list is the families', and so is the page."""

from pathlib import Path

import pytest

from mmaupro_ext.commands import cli
from mmaupro_ext.models.families import FAMILIES, REFUSED
from mmaupro_ext.report import model_list

PAGE = Path(__file__).parents[1] / "docs" / "models.md"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["models", *arguments])
    return end.value.code, capsys.readouterr()


def test_every_type_is_listed_once_and_what_is_refused_is_said(capsys):
    code, said = run(capsys)
    assert code == 0
    words = said.out.replace(",", " ").split()
    assert all(words.count(model_type) == 1 for model_type in FAMILIES)
    assert all(model_type in said.out for model_type in REFUSED)


def test_the_page_has_the_list(capsys):
    _, said = run(capsys, "--markdown")
    page = PAGE.read_text(encoding="utf-8")
    between = page.partition("<!-- begin families -->")[2].partition("<!-- end families -->")[0]
    assert between.strip() == said.out.strip(), "run: mmaupro models --markdown"


@pytest.mark.parametrize("model_type", FAMILIES)
def test_one_family_is_told_whole(capsys, model_type):
    code, said = run(capsys, model_type)
    assert code == 0
    family = FAMILIES[model_type]
    for fact in (
        family.loading.loader,
        repr(family.writing.audio_block),
        model_list.row(family)[2],
    ):
        assert fact in said.out
    assert said.out.count("\n  - ") == len(family.notes)


@pytest.mark.parametrize(
    ("name", "message"), [("qwen3_asr", "transcribes"), ("gpt2", "generic way")]
)
def test_unknown_and_refused_names_are_told_apart(capsys, name, message):
    code, said = run(capsys, name)
    assert code == 2
    assert message in said.err
