"""Sound, text and pictures put to one omni model in one run, through lm_eval's own command line.

The tasks are lm_eval's own MMLU and MMMU, and ours. Their rows are made up, in folders that bear the
datasets' names, where the datasets library looks before it asks a hub.
"""

import json

import datasets
import lm_eval_here
import numpy as np
import pytest
from PIL import Image
from tiny import qwen2_5_omni

MMLU, MMMU = "mmlu_anatomy", "mmmu_val_music"
TASKS = f"mmaupro-sample_voice_chat,mmaupro-sample_multi,{MMLU},{MMMU}"
COLOURS = [(255, 0, 0), (0, 255, 255), (0, 0, 0)]


def save_dataset(folder, name, splits):
    """Write splits as Parquet files with the card that says where they are."""
    lines = ["---", "configs:", f"- config_name: {name}", "  data_files:"]
    for split, rows in splits.items():
        rows.to_parquet(folder / name / f"{split}-00000-of-00001.parquet")
        lines += [f"  - split: {split}", f"    path: {name}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*lines, "---"]), encoding="utf-8")


def mmlu_rows(count):
    return datasets.Dataset.from_list(
        [
            {
                "question": f"Which bone is number {n}?",
                "subject": "anatomy",
                "choices": ["femur", "tibia", "ulna", "talus"],
                "answer": n % 4,
            }
            for n in range(count)
        ]
    )


def mmmu_rows():
    columns = {name: datasets.Value("string") for name in ("id", "question", "options", "answer")}
    columns["question_type"] = datasets.Value("string")
    pictures = {f"image_{n}": datasets.Image() for n in range(1, 8)}
    rows = []
    for number, colour in enumerate(COLOURS):
        first, second = (
            Image.fromarray(np.full((60, 50, 3), shade, np.uint8))
            for shade in (colour, [255 - part for part in colour])
        )
        rows.append(
            {
                "id": f"validation_Music_{number}",
                "question": "<image 1> or <image 2>: which of <image 1> is brighter?",
                "options": "['the first', 'the second']",
                "answer": "A",
                "question_type": "multiple-choice",
                **dict.fromkeys(pictures),
                "image_1": first,
                "image_2": second,
            }
        )
    return datasets.Dataset.from_list(rows, features=datasets.Features(columns | pictures))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("one-run")
    for name in ("model", "cais/mmlu/anatomy", "MMMU/MMMU/Music"):
        (folder / name).mkdir(parents=True)
    qwen2_5_omni.build(folder / "model")
    save_dataset(folder / "cais" / "mmlu", "anatomy", {"test": mmlu_rows(3), "dev": mmlu_rows(5)})
    save_dataset(folder / "MMMU" / "MMMU", "Music", {"validation": mmmu_rows()})
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch, capsys):
    """Run the command and return its output, results and samples by task."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))

    def command(*options, model_args="", out="out"):
        lm_eval_here.run(
            monkeypatch,
            *("--model", "hf-audio", "--tasks", TASKS, "--limit", "3", "--batch_size", "2"),
            *("--model_args", f"pretrained={folder / 'model'}{model_args}"),
            *("--device", "cpu"),
            *("--output_path", str(tmp_path / out), "--log_samples"),
            *options,
            lm_eval_tasks=("mmlu/default", "mmmu"),
        )
        (results,) = (tmp_path / out).glob("**/results_*.json")
        samples = {
            file.name.removeprefix("samples_").rsplit("_", 1)[0]: [
                json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()
            ]
            for file in (tmp_path / out).glob("**/samples_*.jsonl")
        }
        return capsys.readouterr().out, json.loads(results.read_text(encoding="utf-8")), samples

    return command


def replies(samples):
    return {
        task: [sample["resps"] for sample in entries] for task, entries in sorted(samples.items())
    }


def prompts(samples):
    entries = [entry for task in samples.values() for entry in task]
    return [entry["arguments"]["gen_args_0"]["arg_0"] for entry in entries]


def check(printed, results, samples):
    """Check one run of all tasks."""
    table = printed[printed.index("|") :]
    for name in ("multi", "voice_chat", "anatomy", "Music"):
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
    assert all("heard" not in entry for entry in samples[MMLU])
    assert all("<|im_start|>" in prompt and "Be brief." in prompt for prompt in prompts(samples))
    assert len({str(reply) for reply in replies(samples)[MMMU]}) > 1  # they are seen


def test_one_model_one_run_one_table_and_a_second_run_answers_from_the_cache(run, tmp_path):
    options = ("--apply_chat_template", "--system_instruction", "Be brief.")
    options += ("--use_cache", str(tmp_path / "answers"))
    printed, first, samples = run(*options, out="first")
    check(printed, first, samples)
    _, second, cached = run(*options, out="second")
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
    assert not any("<|im_start|>" in prompt for prompt in prompts(samples))
    for task in set(samples) - {MMLU}:  # lm_eval gives choices no metric then
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
