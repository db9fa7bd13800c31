"""`mmaupro ablate` on nano and the sample: what a model that hears must show; a run that goes on."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from types import SimpleNamespace

import pytest
from lm_eval_here import keep_prints, run

import ablation_page
from mmaupro_ext import report
from mmaupro_ext.commands import cli
from mmaupro_ext.compat import ablation, command
from mmaupro_ext.data import conditions
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.journal import Journal
from mmaupro_ext.offline.ablated import answers_of
from mmaupro_ext.report import page
from mmaupro_ext.report.reliance import as_dict
from mmaupro_ext.scoring import reliance

# Guessing has this chance of so many right answers or more; below it a model is taken to know something.
CHANCE = 0.01

MODEL = "--model hf-audio --model_args pretrained=nano --batch_size 8"
DEAF = ("none", "silence", "noise", "swap")
# Clips of a few seconds: the sample's longest cost minutes under each condition.
SLUGS = ("spatial_audio", "sound_music", "music_speech", "sound_speech", "voice_chat")
ITEMS = 29


def ablate(patch: pytest.MonkeyPatch, words: str) -> str:
    """Run the command; return what it printed on its standard output."""
    printed = keep_prints(patch)
    patch.setattr(command, "status_of", lambda interruption: 130)  # it would end this process
    patch.setattr(sys, "argv", ["mmaupro", "ablate", *words.split()])
    try:
        run(patch, *words.split(), command="ablate")
    except SystemExit as end:
        printed.append(f"exit {end.code}")
    return "\n".join(printed)


def here(patch: pytest.MonkeyPatch, words: list[str]) -> None:
    """Run a command in this process, without lm_eval's index of all its tasks."""
    run(patch, *words[1:], command=words[0])


def guessing(answers) -> float:
    """Return the chance that guesses among the choices are right at least as often (Poisson binomial)."""
    chances = [1 / len(answer.lengths) for answer in answers]
    distribution = [1.0]
    for chance in chances:
        missed = [part * (1 - chance) for part in distribution] + [0.0]
        hit = [0.0] + [part * chance for part in distribution]
        distribution = [one + other for one, other in zip(missed, hit, strict=True)]
    right = sum(bool(answer.correct) for answer in answers)
    return math.fsum(distribution[right:])


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """Interrupt an ablation and start it again; return its folder, both outputs and its answers."""
    folder = tmp_path_factory.mktemp("profiled")
    words = (
        f"{MODEL} --tasks {','.join(f'mmaupro-sample_{slug}' for slug in SLUGS)} "
        f"--conditions {','.join(DEAF)},mono,repeat --output_path {folder}"
    )
    keep = Journal.keep

    def interrupted_keep(self, address, entry):
        keep(self, address, entry)
        if len(self) == 20:
            raise KeyboardInterrupt

    outputs = []
    for interrupted in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if interrupted:
                patch.setattr(Journal, "keep", interrupted_keep)
            outputs.append(ablate(patch, words))
    return folder, outputs, answers_of([folder / "nano"])


def under(answers, name, category=None):
    return [one for one in answers if one.condition == name and category in (None, one.category)]


def test_ctrl_c_keeps_what_was_answered_and_the_same_command_goes_on(profiled):
    folder, (first, second), _ = profiled
    assert re.search(r"Interrupted: (19|20) of 182 answers are kept", first)
    assert "mmaupro ablate --model hf-audio" in first
    assert first.endswith("exit 130")
    starts = [
        json.loads(file.read_text().splitlines()[0])["start"]
        for file in sorted((folder / "journal").rglob("*.jsonl"))
    ]
    assert [start["found"] for start in starts] == [0, 20]
    assert second.endswith("exit 0")


def test_full_is_well_above_chance_and_deaf_nano_guesses(profiled):
    _, _, answers = profiled
    assert guessing(under(answers, "full")) < 1e-6
    for name in DEAF:
        assert len(under(answers, name)) == len(under(answers, "full")) == ITEMS
        assert guessing(under(answers, name)) > CHANCE


def test_mono_takes_away_where_sounds_are(profiled):
    _, _, answers = profiled
    assert guessing(under(answers, "full", "spatial_audio")) < CHANCE
    assert len(under(answers, "mono")) == 8
    assert guessing(under(answers, "mono")) > CHANCE


def test_repeats_are_asked_again_and_a_greedy_model_says_the_same(profiled):
    folder, _, answers = profiled
    first = {one.item: one.picked for one in under(answers, "full")}
    again = {one.item: one.picked for one in under(answers, "repeat")}
    assert first == again
    kept = [
        json.loads(line)
        for file in (folder / "journal").rglob("*.jsonl")
        for line in file.read_text().splitlines()
    ]
    asked = [entry for entry in kept if entry.get("task", "").endswith("@repeat")]
    assert len({entry["request"] for entry in asked}) == ITEMS


def test_the_profile_is_printed_written_and_the_same_from_the_files(profiled):
    folder, (_, printed), answers = profiled
    written = json.loads((folder / "nano" / "reliance.json").read_text())
    assert written["not_asked"]["mono"] == {"no clip of two channels": ITEMS - 8}
    assert "NOT ASKED under mono: 21 items: no clip of two channels (21)" in printed
    found = reliance.profile(answers)
    overall = [
        row for row in written["profiles"]["mmaupro"]["rows"] if row["category"] == reliance.OVERALL
    ]
    rows = {row["name"]: row for row in overall}
    assert set(rows) == {"full", *DEAF, "mono", "repeat"}
    assert rows["none"]["score"]["mean"] == found.row("none").score.mean
    assert written["runs"] == sorted(rows)


def test_each_condition_is_a_run_of_its_own(profiled):
    folder, _, _ = profiled
    for name in ("full", *DEAF, "mono", "repeat"):
        (results,) = (folder / "nano" / name).glob("results_*.json")
        content = json.loads(results.read_text())
        wanted = sorted(SLUGS) if name != "mono" else ["spatial_audio"]
        assert sorted(content["results"]) == [f"mmaupro-sample_{slug}" for slug in wanted]
        assert content["config"].get("condition", "full") == name
        assert len(list(results.parent.glob("samples_*.jsonl"))) == len(wanted)
        heard = content["config"].get("heard") or {"items": 0}
        assert heard["items"] == {"none": 0, "mono": 8}.get(name, ITEMS)


@pytest.fixture(scope="module")
def variants(tmp_path_factory):
    """Ask the spatial items in all orders, in pieces, without a right choice, and a backbone."""
    folder = tmp_path_factory.mktemp("variants")
    words = (
        f"{MODEL} --tasks mmaupro-sample_spatial_audio "
        f"--conditions permute,fragments,absent,none,text-backbone --output_path {folder} "
        "--backbone_args pretrained=nano"
    )
    with pytest.MonkeyPatch.context() as patch:
        printed = ablate(patch, words)
    return folder, printed


def test_several_benchmarks_have_a_profile_each_and_limit_counts_items(tmp_path, monkeypatch):
    tasks = "mmaupro-sample_spatial_audio,mmau-sample-text_speech,mmau-sample-text_sound"
    words = f"{MODEL} --tasks {tasks} --limit 2 --conditions permute --output_path {tmp_path}"
    printed = ablate(monkeypatch, words)
    # A number of the sample, and of a part, under the name of the benchmark would be quoted as its score.
    assert (
        "nano on the embedded sample (says nothing about the benchmark)\nNot all of it:" in printed
    )
    assert (
        "nano on the sample of MMAU (says nothing about the benchmark)\n"
        "In other words than the authors': -text\nNot all of it:" in printed
    )
    written = json.loads((tmp_path / "nano" / "reliance.json").read_text())
    assert set(written["profiles"]) == {"mmaupro", "mmau"}
    for name, items in (("mmaupro", 2), ("mmau", 4)):
        answers = answers_of([tmp_path / "nano"], name)
        assert len({one.item for one in under(answers, "permute")}) == items
        assert len(under(answers, "full")) == items


def test_orders_and_fragments_are_all_there_and_read_in_their_order(variants):
    folder, _ = variants
    answers = answers_of([folder / "nano"], "mmaupro")
    full = {one.item: one for one in under(answers, "full")}
    for item, answer in full.items():
        orders = [one for one in under(answers, "permute") if one.item == item]
        assert len(orders) == math.factorial(len(answer.lengths))
        assert {one.order[one.gold] for one in orders} == {answer.gold}
        assert {one.gold for one in orders} == set(range(len(answer.lengths)))
        same = next(one for one in orders if one.order == answer.order)
        assert (same.picked, same.correct) == (answer.picked, answer.correct)
        pieces = {one.variant for one in under(answers, "fragments") if one.item == item}
        assert pieces == {f"{part}/{of}" for of in (2, 3, 4, 5) for part in range(1, of + 1)}
    assert {one.clips for one in answers if one.item == next(iter(full))} == {
        full[next(iter(full))].clips
    }


def test_the_backbone_may_be_any_text_model_of_lm_eval(tmp_path, monkeypatch):
    """`dummy` of lm_eval takes no audio and says the same to everything; unlike ours it has no journal."""
    words = (
        f"{MODEL} --tasks mmaupro-sample_spatial_audio --limit 2 --output_path {tmp_path} "
        "--conditions text-backbone --backbone dummy"
    )
    assert ablate(monkeypatch, words).endswith("exit 0")
    told = under(answers_of([tmp_path / "nano"]), "text-backbone")
    assert [(one.served, one.correct, one.picked) for one in told] == [(True, False, None)] * 2


def test_orders_hardly_move_nano_and_pieces_of_a_movement_are_not_enough(variants):
    folder, _ = variants
    answers = answers_of([folder / "nano"])
    full = {one.item: one for one in under(answers, "full")}

    def often(name, item, variant=""):
        found = [
            one
            for one in under(answers, name)
            if one.item == item and one.variant.endswith(variant)
        ]
        return fmean(bool(one.correct) for one in found)

    # Right in most orders of an item, as guesses would be of it in one.
    mostly = [replace(one, correct=often("permute", item) > 0.5) for item, one in full.items()]
    assert guessing(mostly) < CHANCE
    heard = fmean(bool(one.correct) for one in full.values())
    assert fmean(often("fragments", item, "/5") for item in full) < heard


def test_the_backbone_is_asked_what_none_asks_and_lies_beside_it(variants):
    """With the same model behind both, the answers are the same: nothing else differs."""
    folder, printed = variants
    answers = answers_of([folder / "nano"], "mmaupro")
    told = {one.item: one.picked for one in under(answers, "text-backbone")}
    assert told == {one.item: one.picked for one in under(answers, "none")}
    assert len(told) == 8
    assert "text-backbone: nano" in printed  # whose numbers its rows are
    _, said = page._profiles(report.load(folder / "nano"))
    assert said == ["The text backbone beside nano: nano"]
    (results,) = (folder / "nano" / "text-backbone").glob("results_*.json")
    assert json.loads(results.read_text())["config"]["condition"] == "text-backbone"


def test_nano_knows_no_absent_answer(variants):
    """It writes the text of an option that it was trained on, and `None of these` is none."""
    folder, _ = variants
    absent = under(answers_of([folder / "nano"], "mmaupro"), "absent")
    assert len(absent) == 8
    assert not any(one.correct for one in absent)


def test_ten_conditions_cost_no_more_than_three_runs_in_encoder_passes(tmp_path, monkeypatch):
    """Counted in blocks of audio; docs/ablations.md counts tokens, too, on the whole sample."""
    monkeypatch.setattr(ablation_page, "command", lambda words: here(monkeypatch, words))
    full, ten = ablation_page.cost(["sound_music"], tmp_path)
    assert len(ablation_page.TEN) == 10
    assert ten["encoded"] <= 3 * full["encoded"]
    assert (
        ten["shared_tokens"] > ten["prefilled_tokens"]
    )  # most of what the prompts hold is read once


# ---- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("--conditions nose", "no condition 'nose'"),
        ("--conditions text-backbone", "needs --backbone_args pretrained=NAME"),
        ("--conditions rephrase", "needs --rephrasings FILE"),
        ("--conditions none --rephrasings x.jsonl", "--rephrasings is for rephrase"),
        (
            "--conditions none --tasks mmaupro-sample-ll_sound",
            "mmaupro-sample-ll_sound: only tasks of ours",
        ),
        ("--conditions none --metadata condition=noise", "name conditions with --conditions"),
        (
            "--tasks mmaupro-sample_sound,mmaupro-sample-text_sound --conditions none",
            "mmaupro-sample and mmaupro-sample-text: a profile is of one prompt",
        ),
        ("--conditions none --limit 0.5", "--limit 0.5: give a whole number"),
        ("--conditions none --limit 0", "--limit 0 leaves nothing to ask"),
        ("--conditions none --limit -3", "--limit -3.0: give a whole number"),
        ("--conditions ,", "--conditions names none"),
        ("--conditions none --tasks=", "--tasks names none"),
        ("--conditions none --output_path x.json", "x.json: name a folder"),
        ("--conditions none --until-se 2", "An ablation takes --limit"),
    ],
)
def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(
    words, told, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    if "--tasks" not in words:
        words += " --tasks mmaupro-sample_sound"
    words = f"--model hf-audio --model_args pretrained=missing {words}"
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, *words.split(), command="ablate")
    assert end.value.code == 2
    assert told in capsys.readouterr().err


def test_a_file_of_rephrasings_for_other_items_is_no_profile_of_full_alone(
    tmp_path, monkeypatch, capsys
):
    file = tmp_path / "words.jsonl"
    file.write_text('{"id": "nobody", "question": "What?"}\n')
    words = "--model hf-audio --model_args pretrained=missing --tasks mmaupro-sample_sound"
    for conditions_ in ("rephrase", "none,rephrase"):
        more = f"--conditions {conditions_} --rephrasings {file}"
        with pytest.raises(SystemExit) as end:
            run(monkeypatch, *f"{words} {more}".split(), command="ablate")
        assert end.value.code == 2
        assert f"{file}: none of its ids is of an item" in capsys.readouterr().err


def test_conditions_under_which_nothing_can_be_asked_are_no_profile_of_full_alone(
    monkeypatch, capsys
):
    words = "--model hf-audio --model_args pretrained=missing --tasks mmaupro-sample_sound"
    with pytest.raises(SystemExit) as end:
        run(monkeypatch, *f"{words} --conditions mono".split(), command="ablate")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "no item of these tasks can be asked otherwise than it is" in said
    assert "under mono: 13 items: no clip of two channels (13)" in said


def test_conditions_that_tell_nothing_of_the_model_are_no_profile_of_full_alone():
    def task(**metadata):
        docs = [{"id": "a"}, {"id": "b"}]
        return SimpleNamespace(config=SimpleNamespace(metadata=metadata), eval_docs=docs)

    tasks = {"mmau_sound": task(), "mmau_sound@mono": task(condition="mono")}
    wanted = ablation.Ablation(("mono",), not_asked={"mono": Counter()})
    with pytest.raises(ConfigError, match="under mono: 2 items: the model is given left and right"):
        ablation.leave_out_what_changes_nothing(tasks, SimpleNamespace(channels="mono"), wanted)


def test_help_names_every_condition_and_what_it_tells(capsys):
    with pytest.raises(SystemExit):
        cli.main(["ablate", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for one in conditions.CONDITIONS.values():
        assert one.name in printed
        assert one.changes in printed
        assert one.tells in printed


def test_answers_need_the_full_run(tmp_path):
    Path(tmp_path / "noise").mkdir()
    with pytest.raises(Exception, match="samples"):
        answers_of([tmp_path])


def test_the_report_of_an_ablation_is_of_the_run_in_full_and_has_its_profile(
    profiled, tmp_path, monkeypatch
):
    folder, _, answers = profiled
    frames = report.load(folder / "nano")
    assert frames.runs.condition.tolist() == ["full"]
    monkeypatch.setattr(page, "files_of", lambda chart: ())  # slow, and not of this test
    monkeypatch.setattr(page, "_vega", lambda: "")
    written = page.write(frames, tmp_path, waves=False)
    found = json.loads(written["json"].read_text())["reliance"]["nano"]
    assert found == as_dict(reliance.profile(answers))
    assert 'data-chart="listening_nano"' in written["html"].read_text()


def test_the_figure_of_the_documentation_is_the_report_s(profiled):
    folder, _, _ = profiled
    drawn = ablation_page.figure(folder / "nano").decode()
    assert drawn.startswith("<svg")
    assert "spatial_audio" in drawn


def test_a_condition_that_cannot_be_read_costs_the_profile_and_not_the_report(
    profiled, tmp_path, monkeypatch
):
    folder, _, _ = profiled
    shutil.copytree(folder / "nano", tmp_path / "nano")
    for file in (tmp_path / "nano" / "swap").glob("samples_*.jsonl"):
        file.write_text("{\n")
    monkeypatch.setattr(page, "files_of", lambda chart: ())
    monkeypatch.setattr(page, "_vega", lambda: "")
    written = page.write(report.load(tmp_path / "nano"), tmp_path / "report", waves=False)
    assert json.loads(written["json"].read_text())["reliance"] == {}
    assert "No audio-reliance profile of nano: " in written["markdown"].read_text()
