"""The tasks that ask for an option's text: what is asked, how it is scored, and that it stays apart."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
from logged_runs import DOCS, edit, result_of, samples, score, write_run

import task_configs
from mmaupro_ext import data, plugin, report
from mmaupro_ext.data.questions import CLOSED_TEXT_PROMPT, is_asked_in, prompt
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.logged_runs import read_all, read_runs
from mmaupro_ext.scoring.errors import ScoringError

FOLDER = Path(plugin.tasks_dir())
CLOSED = [slug for slug, category in data.CATEGORIES.items() if category.kind == "closed"]


def load_utils(folder: str):
    path = FOLDER / folder / "utils.py"
    spec = importlib.util.spec_from_file_location(f"{folder}_utils", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


utils = load_utils("mmaupro_text")
letters = load_utils("mmaupro")


def answer(doc) -> str:
    return doc["answer"]


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_run(tmp_path / "m", slugs=CLOSED, reply=answer, asks_for="text")


# --- the prompt ----------------------------------------------------------------------------------


def test_the_prompt_lists_every_option_without_letters_and_asks_for_its_text():
    for slug in CLOSED:
        for doc in DOCS[slug]:
            text = utils.doc_to_text(doc)
            assert text.count("<audio>") == len(doc["audio_path"])
            assert text.endswith("\n\nAnswer with the exact text of the correct option.")
            for letter, choice in zip(letters.LETTERS, doc["choices"], strict=False):
                assert f"\n- {choice}\n" in text
                assert f"({letter})" not in text
            assert is_asked_in(doc, text, "text")
            assert not is_asked_in(doc, text)
            assert not is_asked_in(doc, prompt(doc), "text")


def test_other_kinds_of_questions_have_one_prompt():
    for slug in ("open", "instruction_following"):
        assert all(prompt(doc, "text") == prompt(doc) for doc in DOCS[slug])


def test_the_readme_shows_the_prompt_word_for_word():
    readme = (FOLDER / "mmaupro_text" / "README.md").read_text(encoding="utf-8")
    options = "- {first choice}\n- {second choice}\n..."
    shown = CLOSED_TEXT_PROMPT.format(audio="<audio>", question="{question}", options=options)
    assert f"```text\n{shown}\n```" in readme


def test_committed_configs_are_what_the_generator_writes():
    for folder, (group, dataset) in task_configs.TEXT_FAMILIES.items():
        written = {path.name for path in (FOLDER / folder).glob("*.yaml")}
        assert written == {f"_{folder}.yaml", *(f"{folder}_{slug}.yaml" for slug in CLOSED)}
        text = (FOLDER / folder / f"_{folder}.yaml").read_text(encoding="utf-8")
        assert text == task_configs.text_group_file(group)
        for slug in CLOSED:
            file = FOLDER / folder / f"{folder}_{slug}.yaml"
            expected = task_configs.leaf(group, dataset, data.CATEGORIES[slug])
            assert file.read_text(encoding="utf-8") == expected


# --- a run ---------------------------------------------------------------------------------------


def test_lm_eval_asks_for_the_text_with_the_clips_and_reads_texts_and_letters():
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    docs = [doc for slug in CLOSED for doc in DOCS[slug]]
    asked = {}

    class Model(LM):
        MULTIMODAL = True

        def generate_until(self, requests, disable_tqdm=False):
            for request in requests:
                context, arguments, media = request.args
                asked[context] = (arguments["max_gen_toks"], len(media["audio"]))
            # Right by text, right by letter, and wrong, in turn.
            return [reply(request.doc, number) for number, request in enumerate(requests)]

        loglikelihood = loglikelihood_rolling = None

    def reply(doc, number):
        right = doc["choices"].index(doc["answer"])
        wrong = doc["choices"][(right + 1) % len(doc["choices"])]
        return (doc["answer"], f"({letters.LETTERS[right]})", wrong)[number % 3]

    found = simple_evaluate(
        Model(),
        tasks=["mmaupro-sample-text"],
        task_manager=TaskManager(include_path=str(FOLDER), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )
    assert asked == {prompt(doc, "text"): (512, len(doc["audio_path"])) for doc in docs}
    group = found["results"]["mmaupro-sample-text"]
    assert group["parsed,none"] == 1.0
    right = sum(number % 3 < 2 for number in range(len(docs)))
    assert group["acc,none"] == pytest.approx(right / len(docs))


# --- scored again --------------------------------------------------------------------------------


def test_the_command_scores_their_samples_and_names_the_prompt(folder, capsys):
    assert score(folder) == 0
    result = result_of(folder, "strict+prompt=text")
    assert result["label"] == "strict+prompt=text"
    assert result["asks_for"] == "text"
    assert result["overall"]["weighted"] == 100.0
    assert result["dataset"]["missing_categories"] == ["open", "instruction following"]
    assert not any("asked for a letter" in why for why in result["why"])
    assert "strict+prompt=text" in capsys.readouterr().out


def test_the_other_questions_of_the_benchmark_may_come_with_them(folder, tmp_path):
    others = write_run(tmp_path / "others" / "m", slugs=("open", "instruction_following"))
    run = read_runs([folder, others])
    assert run.asks_for == "text"
    assert len(run.items) == sum(map(len, DOCS.values()))


@pytest.mark.parametrize("slugs", [("sound",), ("music",)])
def test_replies_to_the_two_prompts_are_never_mixed(folder, tmp_path, slugs):
    kept = [samples(folder, slug, asks_for="text") for slug in CLOSED if slug != "music"]
    other = write_run(tmp_path / "other" / "m", slugs=slugs)
    with pytest.raises(
        ScoringError, match="ask for a letter, for a text or as the authors do are mixed"
    ):
        read_runs([*kept, other])


def test_two_prompts_in_one_folder_are_told_apart_by_the_names_of_their_files(folder):
    write_run(folder)
    with pytest.raises(ScoringError, match="name the samples files of one of them"):
        read_runs([folder])
    run = read_runs([samples(folder, slug, asks_for="text") for slug in CLOSED])
    assert (run.asks_for, run.deviations) == ("text", ())
    run = read_runs([samples(folder, slug) for slug in DOCS])
    assert (run.asks_for, run.deviations) == ("letter", ())


def test_two_prompts_in_one_folder_are_chosen_between_by_the_group_of_their_tasks(folder, capsys):
    write_run(folder)
    with pytest.raises(ScoringError, match="add --benchmark with one of mmaupro, mmaupro-text"):
        read_runs([folder])
    letters, texts = (read_all([folder], only=name)[0] for name in ("mmaupro", "mmaupro-text"))
    assert (letters.asks_for, texts.asks_for) == ("letter", "text")
    assert (
        len(letters.items) == len(texts.items) == sum(map(len, DOCS.values()))
    )  # open ones in both
    with pytest.raises(ConfigError, match=r"replies to mmaupro and mmaupro-text.*Add --benchmark"):
        report.load(folder)
    assert report.load(folder, benchmark="mmaupro-text").runs.asks_for.tolist() == ["text"]
    with pytest.raises(ConfigError, match="--benchmark mmau-pro: there is none"):
        report.load(folder, benchmark="mmau-pro")
    with pytest.raises(ScoringError, match="no replies to mmar, but to mmaupro, mmaupro-text"):
        report.load(folder, benchmark="mmar")
    assert score(folder, "--benchmark", "mmaupro-text") == 0
    assert "strict+prompt=text" in capsys.readouterr().out


def test_a_renamed_file_of_the_other_prompt_is_noticed(folder, tmp_path):
    lettered = write_run(tmp_path / "lettered" / "m", slugs=("sound",))
    shutil.copy(samples(lettered, "sound"), samples(folder, "sound", asks_for="text"))
    with pytest.raises(ScoringError, match="the prompt is not the benchmark's"):
        read_runs([folder])


def test_there_is_no_such_task_for_questions_without_options(folder):
    file = folder / samples(folder, "open", asks_for="text").name
    file.write_text("{}\n")
    with pytest.raises(ScoringError, match="'mmaupro-sample-text_open' has no replies"):
        read_runs([file])


def test_a_refused_item_of_theirs_is_wrong_as_everywhere(folder):
    edit(samples(folder, "sound", asks_for="text"), lambda line: line.update(resps=[["I refuse."]]))
    assert score(folder) == 0
    assert result_of(folder, "strict+prompt=text")["categories"]["sound"]["counts"]["unparsed"] == 1
