"""The log-likelihood tasks: what is asked, how it is scored, and what a bad item does."""

from __future__ import annotations

import fnmatch
import importlib.util
import math
from pathlib import Path

import pytest

import task_configs
from mmaupro_ext import data, plugin

FOLDER = Path(plugin.tasks_dir())
CLOSED = [slug for slug, category in data.CATEGORIES.items() if category.kind == "closed"]


def load_module(path: Path):
    spec = importlib.util.spec_from_file_location(f"mmaupro_{path.parent.name}_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


utils = load_module(FOLDER / "mmaupro_ll" / "utils.py")
generative = load_module(FOLDER / "mmaupro" / "utils.py")

DOC = {"choices": ["Tea", "Coffee", "Milk"], "answer": "Coffee"}
NAN = math.nan


def results(*likelihoods: float) -> list[tuple[float, bool]]:
    return [(likelihood, False) for likelihood in likelihoods]


def test_the_likeliest_letter_scores_if_it_is_the_answers():
    right = {"acc": 1.0, "acc_norm": 1.0, "errored": 0.0}
    assert utils.process_results(DOC, results(-3.0, -1.0, -2.0)) == right
    wrong = {"acc": 0.0, "acc_norm": 0.0, "errored": 0.0}
    assert utils.process_results(DOC, results(-1.0, -2.0, -3.0)) == wrong


@pytest.mark.parametrize("broken", [(NAN, NAN, NAN), (-3.0, -1.0, NAN), (NAN, -1.0, -2.0)])
def test_a_likelihood_that_is_no_number_is_errored_and_never_guessed(broken):
    errored = {"acc": 0.0, "acc_norm": 0.0, "errored": 1.0}
    assert utils.process_results(DOC, results(*broken)) == errored


def test_a_row_that_breaks_the_schema_is_errored_and_stays_in_the_denominator():
    doc = {"choices": [], "answer": None, "problem": "row 3: no choices"}
    assert utils.doc_to_choice(doc) == ["A"]
    assert utils.process_results(doc, results(-1.0))["errored"] == 1.0


def test_an_answer_that_is_no_choice_is_wrong_whatever_is_likely():
    doc = {**DOC, "answer": "Water"}
    assert utils.doc_to_target(doc) == ""
    for likelihoods in ((0.0, -1.0, -2.0), (-1.0, 0.0, -2.0), (-1.0, -2.0, 0.0)):
        assert utils.process_results(doc, results(*likelihoods))["acc"] == 0.0


def test_the_first_of_two_equal_choices_is_the_target():
    assert utils.doc_to_target({"choices": ["x", "y", "y"], "answer": "y"}) == "B"


def test_a_missing_likelihood_is_an_error_not_a_shorter_list():
    with pytest.raises(ValueError, match="zip"):
        utils.process_results(DOC, results(-1.0, -2.0))


def test_letters_are_those_of_the_generative_prompt():
    for slug in CLOSED:
        for doc in data.load_category(slug, sample=True):
            text = generative.doc_to_text(doc)
            for letter, choice in zip(utils.doc_to_choice(doc), doc["choices"], strict=True):
                assert f"\n({letter}) {choice}\n" in text
            assert doc["choices"][utils.LETTERS.index(utils.doc_to_target(doc))] == doc["answer"]


def test_committed_configs_are_what_the_generator_writes():
    for folder, (group, dataset) in task_configs.LIKELIHOOD_FAMILIES.items():
        written = {path.name for path in (FOLDER / folder).glob("*.yaml")}
        assert written == {f"_{folder}.yaml", *(f"{folder}_{slug}.yaml" for slug in CLOSED)}
        text = (FOLDER / folder / f"_{folder}.yaml").read_text(encoding="utf-8")
        assert text == task_configs.likelihood_group_file(group)
        for slug in CLOSED:
            file = FOLDER / folder / f"{folder}_{slug}.yaml"
            expected = task_configs.leaf(group, dataset, data.CATEGORIES[slug])
            assert file.read_text(encoding="utf-8") == expected


def test_no_name_is_caught_by_the_patterns_of_the_benchmark():
    names = [
        f"{group}{end}"
        for families in (task_configs.LIKELIHOOD_FAMILIES, task_configs.TEXT_FAMILIES)
        for group, _ in families.values()
        for end in ("", *(f"_{slug}" for slug in CLOSED))
    ]
    for pattern in ("mmaupro_*", "mmaupro-sample_*"):
        assert fnmatch.filter(names, pattern) == []
    assert len(fnmatch.filter(names, "mmaupro-ll_*")) == len(CLOSED)


class Recorder:
    """An lm_eval model that finds the second letter likeliest, and cannot serve some items."""

    def __new__(cls, broken_every: int):
        from lm_eval.api.model import LM

        class Model(LM):
            MULTIMODAL = True

            def __init__(self):
                super().__init__()
                self.requests = []

            def loglikelihood(self, requests, disable_tqdm=False):
                self.requests = [request.args for request in requests]
                questions = list(dict.fromkeys(request.args[0] for request in requests))
                scores = []
                for request in requests:
                    broken = questions.index(request.args[0]) % broken_every == 0
                    value = math.nan if broken else -1.0 + request.args[1].endswith("B")
                    scores.append((value, False))
                return scores

            generate_until = loglikelihood_rolling = None

        return Model()


def test_lm_eval_asks_letters_with_clips_and_counts_every_item():
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    model = Recorder(broken_every=3)
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    found = simple_evaluate(
        model,
        tasks=["mmaupro-sample-ll"],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
    )
    docs = [doc for slug in CLOSED for doc in data.load_category(slug, sample=True)]
    assert len(model.requests) == sum(len(doc["choices"]) for doc in docs)
    texts = {generative.doc_to_text(doc) for doc in docs}
    for context, continuation, media in model.requests:
        assert context in texts
        assert continuation[0] == "\n"
        assert continuation[1:] in utils.LETTERS
        assert len(media["audio"]) == context.count("<audio>")
    errored = answered = 0
    for slug in CLOSED:
        lines = found["samples"][f"mmaupro-sample-ll_{slug}"]
        assert len(lines) == len(data.load_category(slug, sample=True))
        errored += sum(line["errored"] for line in lines)
        answered += sum(line["acc"] for line in lines)
        for line in lines:
            expected = not line["errored"] and line["target"] == "B"
            assert line["acc"] == line["acc_norm"] == float(expected)
    group = found["results"]["mmaupro-sample-ll"]
    assert 0 < errored < len(docs)
    assert group["errored,none"] == pytest.approx(errored / len(docs))
    assert group["acc,none"] == pytest.approx(answered / len(docs))


def test_hf_audio_scores_them_and_a_lost_clip_is_errored(tmp_path, monkeypatch):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from mmaupro_ext.models.hf.model import HFAudioLM

    lost = data.load_category("multi", sample=True)[0]
    real = data.audio_references

    def with_a_lost_clip(doc, root=None):
        references = real(doc, root)
        if doc["id"] == lost["id"]:
            references[0] = {"path": str(tmp_path / "lost.wav"), "sha256": None}
        return references

    monkeypatch.setattr(data, "audio_references", with_a_lost_clip)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    manager = TaskManager(include_path=str(FOLDER), include_defaults=False)
    found = simple_evaluate(
        HFAudioLM(pretrained="tiny-random", batch_size=4, device="cpu"),
        tasks=["mmaupro-sample-ll_multi"],
        task_manager=manager,
        log_samples=True,
        bootstrap_iters=0,
    )
    lines = found["samples"]["mmaupro-sample-ll_multi"]
    assert [line["doc"]["id"] for line in lines if line["errored"]] == [lost["id"]]
    for line in lines:
        values = [response[0] for response in line["filtered_resps"]]
        if line["errored"]:
            assert all(math.isnan(float(value)) for value in values)
        else:
            assert len(set(map(float, values))) == len(values)
    assert found["results"]["mmaupro-sample-ll_multi"]["errored,none"] == 1 / len(lines)
