"""Sound, text and pictures put to one omni model in one run, through lm_eval's own command line."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny import qwen2_5_omni

TEXT_TASK = """
task: text_choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/text.jsonl}}, cache_dir: {folder}/datasets}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: choices
doc_to_target: answer
num_fewshot: 0
"""
IMAGE_TASK = """
task: image_questions
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/image.jsonl}}, cache_dir: {folder}/datasets}}
test_split: test
output_type: generate_until
doc_to_text: "<image>\\nWhich colour?"
doc_to_image: [image]
doc_to_target: answer
generation_kwargs: {{until: [], max_gen_toks: 4, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
num_fewshot: 0
"""
TASKS = "mmaupro-sample_voice_chat,mmaupro-sample_multi,text_choices,image_questions"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one-run")
    (folder / "model").mkdir()
    (folder / "tasks").mkdir()
    qwen2_5_omni.build(folder / "model")
    texts = [{"question": f"{n} plus 1 is", "choices": ["two", "blue"], "answer": 0} for n in "123"]
    pictures = []
    for number, colour in enumerate([(255, 0, 0), (0, 255, 255), (0, 0, 0)]):
        Image.fromarray(np.full((60, 50, 3), colour, np.uint8)).save(folder / f"{number}.png")
        pictures.append({"image": str(folder / f"{number}.png"), "answer": "red"})
    for name, rows in (("text", texts), ("image", pictures)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "tasks" / "text.yaml").write_text(TEXT_TASK.format(folder=folder))
    (folder / "tasks" / "image.yaml").write_text(IMAGE_TASK.format(folder=folder))
    return folder


@pytest.fixture
def run(folder, tmp_path):
    """Run the command and return its output, results and samples by task."""

    def command(*options, model_args="", out="out"):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "mmaupro_ext", "run"),
                *("--model", "hf-audio", "--tasks", TASKS, "--limit", "3", "--batch_size", "2"),
                *("--model_args", f"pretrained={folder / 'model'}{model_args}"),
                *("--device", "cpu"),
                *("--include_path", str(folder / "tasks")),
                *("--output_path", str(tmp_path / out), "--log_samples"),
                *options,
            ],
            env=os.environ
            | {
                "HF_HUB_OFFLINE": "1",
                "OMP_NUM_THREADS": "1",
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        (results,) = (tmp_path / out).glob("**/results_*.json")
        samples = {
            file.name.removeprefix("samples_").rsplit("_", 1)[0]: [
                json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
            ]
            for file in (tmp_path / out).glob("**/samples_*.jsonl")
        }
        return done.stdout, json.loads(results.read_text(encoding="utf-8")), samples

    return command


def replies(samples):
    return {
        task: [sample["resps"] for sample in entries] for task, entries in sorted(samples.items())
    }


def check(printed, results, samples, *, with_template):
    """Check one run of all tasks."""
    table = printed[printed.index("|") :]
    for name in ("multi", "voice_chat", "text_choices", "image_questions"):
        assert name in table
    assert set(results["results"]) == set(TASKS.split(","))
    assert results["results"]["mmaupro-sample_multi"]["errored,none"] == 0
    heard = results["config"]["heard"]
    assert heard["items"] == 6
    assert heard["seconds_heard"] == pytest.approx(heard["seconds_in_files"], abs=0.01)
    assert "Heard: " in printed
    for entry in samples["mmaupro-sample_multi"]:
        assert len(entry["heard"]["clips"]) > 1
        assert entry["heard"]["audio_tokens"] > 0
    assert all("heard" not in entry for entry in samples["text_choices"])
    entries = [entry for task in samples.values() for entry in task]
    prompts = [entry["arguments"]["gen_args_0"]["arg_0"] for entry in entries]
    assert all(("<|im_start|>" in prompt) == with_template for prompt in prompts)
    assert all(("Be brief." in prompt) == with_template for prompt in prompts)
    assert len({str(reply) for reply in replies(samples)["image_questions"]}) > 1  # they are seen


def test_one_model_one_run_one_table_with_template_and_system_instruction(run):
    check(*run("--apply_chat_template", "--system_instruction", "Be brief."), with_template=True)


def test_a_second_run_takes_all_answers_from_the_cache_and_says_what_was_heard(run, tmp_path):
    cache = ("--use_cache", str(tmp_path / "answers"))
    printed, first, samples = run(*cache, out="first")
    check(printed, first, samples, with_template=False)
    _, second, cached = run(*cache, out="second")
    assert replies(cached) == replies(samples)
    assert second["results"] == first["results"]
    assert second["config"]["heard"] == first["config"]["heard"]
    assert second["config"]["prefetch"]["prepared_s"] == 0.0
    assert [entry.get("heard") for entry in cached["mmaupro-sample_multi"]] == [
        entry.get("heard") for entry in samples["mmaupro-sample_multi"]
    ]


def test_options_reach_every_kind_and_what_was_left_out_is_said(run):
    printed, results, samples = run(
        *("--gen_kwargs", "max_gen_toks=2", "--predict_only"),
        model_args=",long_audio=truncate,window_s=1",
    )
    for task in set(samples) - {"text_choices"}:  # lm_eval gives choices no metric then
        assert results["results"][task]["bypass,none"] == 999
        # a token a byte, and what is no text is written in three
        assert all(len(entry["resps"][0][0].encode()) <= 6 for entry in samples[task])
    heard = results["config"]["heard"]
    assert f"HEARD IN PART: {heard['shortened_items']} of {heard['items']} items" in printed
    shortened = [
        entry["heard"]
        for task in ("mmaupro-sample_multi", "mmaupro-sample_voice_chat")
        for entry in samples[task]
        if entry["heard"]["seconds_heard"] < entry["heard"]["seconds_in_files"] - 0.01
    ]
    assert len(shortened) == heard["shortened_items"] > 0
