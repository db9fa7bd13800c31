"""Recipe cards: the schema, what a run makes of one, and that two are never mistaken for each other."""

import json
import sys
import types

import lm_eval_here
import pandas as pd
import pytest
from logged_runs import DOCS

from mmaupro_ext import benchmarks, recipes
from mmaupro_ext.commands import cli
from mmaupro_ext.compat import recipe_runs
from mmaupro_ext.data import asked
from mmaupro_ext.data.questions import prompt
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import logged_runs, rescoring
from mmaupro_ext.report import claims, comparison, frames, page, published, run_table
from mmaupro_ext.scoring import presets, score_by_recipe
from mmaupro_ext.scoring.by_recipe import rule_in_run, what_is_ours
from mmaupro_ext.scoring.published_rules import RULES

CARDS = [recipes.known(name) for name in recipes.names()]
TEA = {
    "id": "tea",
    "category": "sound",
    "question": " What is poured?",
    "choices": ["Tea", "Milk", "Sand"],
    "answer": "Tea",
    "audio_path": ["data/tea.wav"],
}


# --- cards ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_a_card_names_what_there_is(card):
    assert set(card.benchmarks) <= set(benchmarks.BENCHMARKS)
    assert {claim.benchmark for claim in card.claims} <= set(benchmarks.BENCHMARKS)
    # scores on MMAU-Pro have their place in report.published
    assert benchmarks.MMAUPRO not in {claim.benchmark for claim in card.claims}
    tables = {*published.paper().index, *published.later().model}
    assert set(card.published) <= tables
    assert card.reading is None or card.reading.value in RULES
    assert card.sources
    assert all(source.place for source in card.sources.values())


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.name)
def test_every_source_of_a_card_is_used(card):
    parts = [
        *card.prompt.values(),
        card.system,
        card.decoding,
        card.reading,
        card.items,
        card.audio,
    ]
    used = {part.source for part in [*parts, *card.claims] if part is not None}
    assert used == set(card.sources)


def good_card():
    stated = {"text": "Be brief.", "source": "paper"}
    return {
        "name": "one",
        "model": "One",
        "ids": [],
        "published": [],
        "benchmarks": [],
        "sources": {"paper": {"place": "a paper", "date": "2026-01", "by": "authors"}},
        "prompt": dict.fromkeys(recipes.KINDS, "unstated"),
        "system": stated,
        **dict.fromkeys(("decoding", "reading", "items", "audio"), "unstated"),
        "claims": [],
    }


def test_unstated_is_a_value():
    card = recipes.parse(good_card(), "one")
    assert card.reading is None
    assert card.system.value == "Be brief."


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"reading": None}, "cannot be read"),
        ({"colour": "red"}, "fields missing or unknown: colour"),
        ({"name": "two"}, "its name is 'two'"),
        ({"system": {"text": "x", "source": "elsewhere"}}, "there is no source 'elsewhere'"),
        ({"system": {"text": "x"}}, "source"),
        ({"sources": {"paper": {"place": "a", "date": "soon", "by": "authors"}}}, "date 'soon'"),
        ({"sources": {"paper": {"place": "a", "by": "authors"}}}, "date"),
        ({"sources": {"paper": {"place": "a", "date": "2026-01", "by": "me"}}}, "by 'me'"),
        ({"prompt": {"closed": "unstated", "open": "unstated"}}, "instruction"),
        ({"claims": [{"benchmark": "mmau", "score": "high", "source": "paper"}]}, "high"),
    ],
)
def test_a_card_that_does_not_hold_the_schema_is_refused(changed, says):
    with pytest.raises(ConfigError, match=says):
        recipes.parse({**good_card(), **changed}, "one")


# --- prompts and readings -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "r1-aqa",
            "What is poured? Please choose the answer from the following options: ['Tea', 'Milk', 'Sand']. "
            "Output the final answer in <answer> </answer>.",
        ),
        (
            "desta2.5-audio",
            'What is poured? Choose one of the following options: "Tea", "Milk" or "Sand"',
        ),
        ("mellow", "what is poured? a) tea b) milk c) sand"),
        ("midashenglm-spatial", "What is poured?\n(A) Tea\n(B) Milk\n(C) Sand"),
        (
            "audio-flamingo-3",
            "What is poured?\n\n(A) Tea\n(B) Milk\n(C) Sand Please think and reason about the input audio "
            "before you respond.",
        ),
    ],
)
def test_a_prompt_is_that_of_the_card(name, text):
    assert prompt({**TEA, "recipe": name}) == f"<audio>\n{text}"


def test_braces_and_placeholders_in_a_question_stay():
    doc = {**TEA, "question": "Say {choices} and {0}", "recipe": "midashenglm-spatial"}
    assert prompt(doc).startswith("<audio>\nSay {choices} and {0}\n(A) Tea")


def test_the_benchmarks_own_prompt_is_taken_where_the_card_says_so():
    doc = {**TEA, "benchmark": "mmau", "recipe": "qwen3-omni-instruct"}
    assert prompt(doc) == prompt({**TEA, "benchmark": "mmau"}, "own")


def test_open_items_are_not_asked_by_a_card_that_does_not_say_how():
    with pytest.raises(ConfigError, match="does not state how open items"):
        prompt({**DOCS["open"][0], "recipe": "r1-aqa"})


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("<answer>Tea</answer>", 1.0),
        ("I hear milk first. <answer> Tea </answer>", 1.0),
        ("Tea, not milk", 0.0),
        ("A", 0.0),
    ],
)
def test_replies_are_read_as_the_card_says(reply, score):
    assert score_by_recipe({**TEA, "recipe": "r1-aqa"}, reply) == score


def test_where_reading_needs_a_model_the_run_stays_strict_and_says_so():
    assert score_by_recipe({**TEA, "recipe": "audio-flamingo-3"}, "A") is None
    assert rule_in_run(recipes.known("audio-flamingo-3")) == ""
    assert "acc is strict" in what_is_ours(recipes.known("audio-flamingo-3"))
    assert "the first channel" in what_is_ours(recipes.known("r1-aqa"))
    assert score_by_recipe(TEA, "Tea") is None


def test_documents_name_their_recipe_and_an_unknown_one_is_refused():
    docs, _ = asked([TEA], {"recipe": "mellow"})
    assert docs == [{**TEA, "recipe": "mellow"}]
    with pytest.raises(ConfigError, match="no recipe 'nobody'"):
        asked([TEA], {"recipe": "nobody"})


# --- what a run is told ---------------------------------------------------------------------------


def config(task, **more):
    values = {"tasks": [task], "gen_kwargs": {}, "system_instruction": None}
    return types.SimpleNamespace(**values, **{"apply_chat_template": True, **more})


MANAGER = types.SimpleNamespace(task_index={})


def applied(name, task, **more):
    run = config(task, **more)
    recipe_runs.apply(run, MANAGER, {"recipe": name})
    return run


def test_system_turn_and_decoding_are_applied():
    run = applied("desta2.5-audio", "mmau_sound")
    assert run.system_instruction.startswith("Focus on the audio clips")
    assert run.gen_kwargs == {"do_sample": False, "max_gen_toks": 512}


def test_a_run_without_a_recipe_stays_as_it_is():
    run = config("gsm8k")
    recipe_runs.apply(run, MANAGER, {})
    assert vars(run) == vars(config("gsm8k"))


@pytest.mark.parametrize(
    ("name", "task", "more", "sentence"),
    [
        ("r1-aqa", "mmaupro_open", {}, "no source states how it asks open questions"),
        ("qwen2.5-omni", "mmau_sound", {}, "It fits no task"),
        ("r1-aqa", "mmau-ll_sound", {}, "without a variant"),
        ("r1-aqa", "gsm8k", {}, "tasks of ours"),
        ("qwen3-omni-instruct", "mmaupro_sound", {}, "MMAU-Pro published no prompt"),
        ("fun-audio-chat", "mmau_sound", {}, "system turn .* is not known here"),
        ("desta2.5-audio", "mmau_sound", {"apply_chat_template": False}, "--apply_chat_template"),
    ],
)
def test_what_is_not_known_or_does_not_fit_is_refused(name, task, more, sentence):
    with pytest.raises(ConfigError, match=sentence):
        applied(name, task, **more)


def test_options_that_contradict_a_recipe_are_refused():
    run = config("mmau_sound")
    run.gen_kwargs = {"max_gen_toks": 9}
    with pytest.raises(ConfigError, match="max_gen_toks=9"):
        recipe_runs.apply(run, MANAGER, {"recipe": "r1-aqa"})
    run = config("mmau_sound")
    run.system_instruction = "Be brief."
    with pytest.raises(ConfigError, match="no system turn"):
        recipe_runs.apply(run, MANAGER, {"recipe": "r1-aqa"})


# --- whole runs -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Ask nano by two recipes of the same words' layout, into one folder each."""
    folder = tmp_path_factory.mktemp("recipes")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("mellow", "midashenglm-spatial"):
            words = ["--model", "hf-audio", "--model_args", "pretrained=nano", "--batch_size", "8"]
            words += ["--tasks", "mmaupro-sample_sound_music", "--log_samples"]
            words += ["--gen_kwargs", "max_gen_toks=1024", "--use_cache", str(folder / "journal")]
            words += ["--metadata", f"recipe={name}", "--output_path", str(folder / name)]
            lm_eval_here.run(patch, *words)
    return folder


def results_in(folder):
    (file,) = folder.glob("**/results_*.json")
    return json.loads(file.read_text(encoding="utf-8"))


def test_two_recipes_are_never_mistaken_for_each_other(runs):
    one, other = (results_in(runs / name) for name in ("mellow", "midashenglm-spatial"))
    assert one["config"]["recipe"] == "mellow"
    assert one["config"]["identity"]["recipe"] == "mellow"
    assert one["config"]["identity"]["id"] != other["config"]["identity"]["id"]
    hashes = []
    for name in ("mellow", "midashenglm-spatial"):
        (file,) = (runs / name).glob("**/samples_*.jsonl")
        samples = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        assert {sample["doc"]["recipe"] for sample in samples} == {name}
        hashes.append({sample["prompt_hash"] for sample in samples})
    assert hashes[0].isdisjoint(hashes[1])
    assert run_table.render(one).startswith("mmaupro-sample by the recipe mellow")
    # the same prompt by two recipes: the digests differ all the same
    assert recipe_runs.digest_with("0", "mellow") != recipe_runs.digest_with("0", "moss-audio")


def test_score_and_compare_know_the_recipe(runs):
    run = logged_runs.read_runs([runs / "mellow"], accept_changed=True)
    assert run.recipe == "mellow"
    assert not any("prompt" in deviation for deviation in run.deviations)
    _, result = rescoring.score_run(run, presets.resolve("strict"))
    assert result["label"].endswith("+recipe=mellow")
    assert "the items were asked by the recipe mellow" in result["why"]
    both = frames.load(runs / "mellow", runs / "midashenglm-spatial")
    assert list(both.runs.index) == ["nano [mellow]", "nano [midashenglm-spatial]"]
    with pytest.raises(ConfigError, match="the recipe differs"):
        comparison.compare(both)


# --- claims ---------------------------------------------------------------------------------------


def test_claims_have_one_place_each():
    found = claims.claims_of(recipes.known("midashenglm-spatial"), "mmaupro")
    assert [claim.stated for claim in found] == ["56.4"]
    assert [c.stated for c in claims.claims_of(recipes.known("r1-aqa"), "mmau")] == ["64.5"]
    assert claims.claims_of(recipes.known("r1-aqa"), "mmsu") == []


def test_claimed_and_measured_stand_side_by_side():
    about = {"dataset": "full", "benchmark": "mmau", "model": "mispeech/r1-aqa", "recipe": "r1-aqa"}
    scores = {"run": "r1", "group": "overall", "preset": "strict", "score": 61.0, "low": 58.0}
    scores |= {"high": 64.0, "complete": True, "label": "overall"}
    given = types.SimpleNamespace(
        runs=pd.DataFrame([about], index=["r1"]), scores=pd.DataFrame([scores])
    )
    (row,) = claims.beside_measured(given)
    assert row["claimed"] == "64.5"
    assert row["followed"]
    assert row["measured"] == ["strict: 61.0 (58.0 to 64.0)"]
    given.runs["dataset"] = "sample"
    assert claims.beside_measured(given) == []


def test_the_page_and_its_data_have_claimed_and_measured(runs, tmp_path):
    found = frames.load(runs / "mellow")
    about = found.runs.assign(dataset="full", model="soham97/Mellow")
    full = frames.Frames(about, found.items, found.clips, found.scores, found.tasks)
    written = page.write(full, tmp_path, waves=False)
    html = written["html"].read_text(encoding="utf-8")
    assert "Claimed and measured" in html
    rows = json.loads(written["json"].read_text(encoding="utf-8"))["claims"]
    assert [row["claimed"] for row in rows] == [f"{published.paper().overall['Mellow']:g}"]
    assert rows[0]["measured"][0].startswith("strict+recipe=mellow: ")


def test_reconcile_names_the_recipe_and_its_rule(runs, capsys):
    with pytest.raises(SystemExit):
        cli.main(["reconcile", str(runs / "midashenglm-spatial"), "--accept-changed"])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "Asked by the recipe midashenglm-spatial, whose authors read replies by official." in shown
    )


# --- the command ----------------------------------------------------------------------------------


def shown(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        cli.main(["recipes", *words])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_the_command_lists_all_cards(capsys):
    lines = shown(capsys).splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(recipes.names())


def test_the_command_shows_a_card_with_its_sources_and_claims(capsys):
    text = shown(capsys, "r1-aqa")
    assert "prompt, open: unstated" in text
    assert "rule=token-sets; of what stands within <answer>" in text
    assert "claim: 64.5 % on mmau" in text
    assert "2025-05-16, by its authors" in text
    assert json.loads(shown(capsys, "r1-aqa", "--json"))["name"] == "r1-aqa"


def test_a_card_is_shown_where_pandas_is_not_installed(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mmaupro_ext.report")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pandas", None)
    assert "claim: 51.7 % on mmaupro" in shown(capsys, "audio-flamingo-3")


def test_an_unknown_card_is_a_sentence(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["recipes", "nobody"])
    assert ended.value.code == 2
    assert "There are: audio-flamingo-2" in capsys.readouterr().err
