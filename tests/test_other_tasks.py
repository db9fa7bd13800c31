"""Tasks of other people under our models: what could not be served is counted, named, and never a reply."""

from __future__ import annotations

import importlib
import math

import pytest
from lm_eval import evaluator
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager
from lm_eval.utils import make_table

from mmaupro_ext import compat
from mmaupro_ext.replies import error_reply
from mmaupro_ext.report import after_run

compat.install()

ERROR = error_reply("the clip is gone", file="/data/Answer: B.wav", fix="Answer: B")

# As MMMU does, the scorer of `theirs` finds an answer in anything, also in nothing.
FUNCTIONS = """
import datasets
from lm_eval.api.filter import Filter

def load(clip=None, **options):
    rows = [{"question": f"Question {n}: A or B?", "gold": "B", "clip": None} for n in range(4)]
    rows[1]["clip"] = clip
    return {"test": datasets.Dataset.from_list(rows)}

def process_results(doc, results):
    seen.append(results[0])
    found = "A" if results[0].strip().startswith("A") else "B"
    right = float(found == doc["gold"])
    return {"acc": right, "words": len(results[0].split()), "pair": (doc["gold"], found)}

def share(pairs):
    return sum(gold == found for gold, found in pairs) / len(pairs)

def clips(doc):
    return [{"path": doc["clip"]}] if doc["clip"] else []

def text(doc):
    return ("<audio>" if doc["clip"] else "") + doc["question"]

seen = []
"""
COMMON = """
custom_dataset: !function functions.load
test_split: test
doc_to_text: !function functions.text
num_fewshot: 0
dataset_kwargs: {{clip: {clip}}}
"""
GENERATE = """task: theirs
output_type: generate_until
doc_to_target: gold
generation_kwargs: {{until: [], max_gen_toks: 4}}
process_results: !function functions.process_results
filter_list:
  - name: letter
    filter:
      - {{function: regex, regex_pattern: "Answer: ([AB])"}}
      - {{function: take_first}}
  - name: all
    filter:
      - {{function: take_first}}
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
  - {{metric: words, aggregation: mean, higher_is_better: false}}
  - {{metric: pair, aggregation: !function functions.share, higher_is_better: true}}
"""
CHOOSE = """task: theirs_choice
output_type: multiple_choice
doc_to_choice: [A, B]
doc_to_target: gold
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""


@pytest.fixture
def run(tmp_path):
    """Run both tasks on a model and return lm_eval's results."""

    def evaluate(model, clip=None):
        (tmp_path / "functions.py").write_text(FUNCTIONS)
        media = "doc_to_audio: !function functions.clips\n" if clip else ""
        for name, text in (("theirs", GENERATE), ("choice", CHOOSE)):
            content = (text + COMMON + media).format(clip=clip or "null")
            (tmp_path / f"{name}.yaml").write_text(content)
        manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
        loaded = manager.load(["theirs", "theirs_choice"])
        results = evaluator.evaluate(model, loaded, log_samples=True, bootstrap_iters=0)
        scorer = loaded["tasks"]["theirs"].config.process_results
        return results, scorer.__globals__["seen"]

    return evaluate


class Stub(LM):
    """A model that says "Answer: A", finds the first choice likelier, and cannot serve some questions."""

    MULTIMODAL = True

    def __init__(self, broken=()):
        super().__init__()
        self.broken = broken

    def generate_until(self, requests, disable_tqdm=False):
        return [self._answer(request, ERROR, "Answer: A") for request in requests]

    def loglikelihood(self, requests, disable_tqdm=False):
        return [
            self._answer(request, (math.nan, False), (-float(request.args[1].endswith("B")), False))
            for request in requests
        ]

    loglikelihood_rolling = None

    def _answer(self, request, error, answer):
        return error if request.doc_id in self.broken else answer


class Ours(Stub):
    __module__ = "mmaupro_ext.models.stub"


def test_an_item_that_was_not_served_is_counted_and_its_error_scored_by_nobody(run):
    results, seen = run(Ours(broken=(1, 3)))
    theirs, choice = (results["results"][name] for name in ("theirs", "theirs_choice"))
    for name in ("letter", "all"):
        assert theirs[f"errored,{name}"] == 0.5
        assert theirs[f"acc,{name}"] == 0.0  # what an empty reply scores by chance is taken away
    assert choice["errored,none"] == 0.5
    assert choice["acc,none"] == 0.0
    assert theirs["words,all"] == 1.0  # two words for each reply, none where there is none
    assert not [reply for reply in seen if "mmaupro" in reply or "Answer: B" in reply]
    for samples in results["samples"].values():
        assert {sample["doc_id"] for sample in samples if sample["errored"]} == {1, 3}
    kept = [sample["resps"][0][0] for sample in results["samples"]["theirs"] if sample["errored"]]
    assert kept == [ERROR] * 4
    below = "\n".join(after_run.summary(results))
    assert "ERRORED: 4 item(s)" in below
    assert "theirs 2, theirs_choice 2" in below
    assert "errored" in make_table(results)


def test_a_run_without_errors_is_as_it_would_be_without_us(run):
    ours, seen = run(Ours())
    other, _ = run(Stub())
    assert ours["results"] == other["results"]
    assert make_table(ours) == make_table(other)
    assert after_run.summary(ours) == []
    assert "errored" not in ours["results"]["theirs"]


def test_models_of_others_are_left_alone(run):
    results, seen = run(Stub(broken=(1,)))
    assert "errored,all" not in results["results"]["theirs"]
    assert ERROR in seen


def test_when_every_item_fails_the_run_does_not_look_healthy(run):
    results, _ = run(Ours(broken=range(4)))
    assert results["results"]["theirs"]["errored,all"] == 1.0
    assert "ERRORED: 8 item(s)" in "\n".join(after_run.summary(results))


def test_a_lost_clip_in_the_task_of_a_user_under_hf_audio(run, tmp_path):
    hf_audio = importlib.import_module("mmaupro_ext.models.hf.model")
    model = hf_audio.HFAudioLM(pretrained="nano", batch_size=4, device="cpu")
    results, seen = run(model, clip=str(tmp_path / "lost.wav"))
    assert results["results"]["theirs"]["errored,all"] == 0.25
    assert results["results"]["theirs_choice"]["errored,none"] == 0.25
    errored = [sample for sample in results["samples"]["theirs"] if sample["errored"]]
    assert {sample["doc_id"] for sample in errored} == {1}
    assert all("lost.wav" in sample["resps"][0][0] for sample in errored)
    assert all(sample["acc"] == 0.0 for sample in errored)
