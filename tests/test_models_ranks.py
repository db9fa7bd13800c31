"""Several processes on several nodes: every item once, one table."""

import json
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile

PROGRAM = """
import atexit, json, sys
import torch
torch.set_num_threads(1)
# Registered first, runs last. A process that still has its group here aborted once in ten times.
atexit.register(lambda: print("in a group at the end:", torch.distributed.is_initialized()))
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from mmaupro_ext import heard
from mmaupro_ext.models.hf.model import HFAudioLM

folder = sys.argv[1]
lm = HFAudioLM("tiny-random", device="cpu", batch_size=2)
task = {
    "task": "audio_questions",
    "dataset_path": "json",
    "dataset_kwargs": {
        "data_files": {"test": folder + "/docs.jsonl"},
        "cache_dir": folder + "/datasets" + str(lm.rank),
    },
    "test_split": "test",
    "num_fewshot": 0,
    "output_type": "generate_until",
    "doc_to_text": "<audio>\\n{{question}}",
    "doc_to_audio": lambda doc: [{"path": doc["path"]}],
    "doc_to_target": "A",
    "generation_kwargs": {"until": [], "max_gen_toks": 4},
    "process_results": lambda doc, results: {"answered": float(len(results[0]) == 1)},
    "metric_list": [{"metric": "answered", "aggregation": "mean", "higher_is_better": True}],
}
choices = {
    **task,
    "task": "audio_choices",
    "output_type": "multiple_choice",
    "doc_to_choice": ["A", "B", " both"],
    "doc_to_target": 0,
}
for name in ("generation_kwargs", "process_results", "metric_list"):
    del choices[name]
results = simple_evaluate(
    model=lm,
    tasks=[task, choices],
    task_manager=TaskManager(include_defaults=False),
    bootstrap_iters=0,
)
report = {"rank": lm.rank, "world_size": lm.world_size, "items": lm.heard.as_dict()["items"]}
if results is not None:
    report["table"] = results["results"]
    report["heard"] = heard.totals_of_samples(results["samples"])
    report["samples"] = {
        name: sorted([one["doc_id"], one["resps"], heard.record_of(one["resps"])] for one in samples)
        for name, samples in results["samples"].items()
    }
with open(f"{folder}/report{lm.rank}.json", "w") as file:
    json.dump(report, file)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def folder(tmp_path):
    lines = []
    for number in range(5):
        time = np.arange(8_000 * (number + 1)) / 16_000
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * (number + 1) * time), 16_000)
        lines.append(json.dumps({"question": f"Which {number}?", "path": str(path)}))
    (tmp_path / "docs.jsonl").write_text("\n".join(lines))
    return tmp_path


def run(folder, local_ranks, local_world_size):
    """Run one process per local rank, as `accelerate launch` on one or more nodes starts them."""
    common = os.environ | {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "WORLD_SIZE": str(len(local_ranks)),
        "LOCAL_WORLD_SIZE": str(local_world_size),
        "ACCELERATE_USE_CPU": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            env=common | {"RANK": str(rank), "LOCAL_RANK": str(local_rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank, local_rank in enumerate(local_ranks)
    ]
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.returncode for process in processes]
    assert codes == [0] * len(processes), "\n".join(outputs)[-4000:]
    assert all("in a group at the end: False" in output for output in outputs)
    return [json.loads((folder / f"report{r}.json").read_text()) for r in range(len(processes))]


@pytest.mark.parametrize(
    ("local_ranks", "local_world_size"),
    [([0, 0], 1), ([0, 1], 2)],
    ids=["two nodes of one process", "one node of two processes"],
)
def test_several_processes_give_the_table_of_one(folder, local_ranks, local_world_size):
    (alone,) = run(folder, [0], 1)
    reports = run(folder, local_ranks, local_world_size)
    assert [report["rank"] for report in reports] == [0, 1]
    assert [report["world_size"] for report in reports] == [2, 2]
    assert reports[0]["table"] == alone["table"]
    assert reports[0]["heard"] == alone["heard"]
    assert alone["heard"]["items"] == 10
    for name, samples in alone["samples"].items():
        assert [one[0] for one in samples] == [0, 1, 2, 3, 4]
        for ours, theirs in zip(reports[0]["samples"][name], samples, strict=True):
            assert ours[0] == theirs[0]
            assert ours[2] == theirs[2]
            _assert_close(ours[1], theirs[1])
    # Five items for two: lm_eval lets the shorter rank repeat a request, which for choices is one more
    # continuation of a question that it has.
    assert [report["items"] for report in reports] == [3 + 3, 3 + 2]
    assert "table" not in reports[1]


def _assert_close(ours, theirs):
    """Compare replies, and scores up to the rounding of other batches."""
    if isinstance(theirs, list):
        assert len(ours) >= len(theirs)  # the item that is repeated keeps both of its answers
        for one, other in zip(ours, theirs, strict=False):
            _assert_close(one, other)
    elif isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=1e-4)
    else:
        assert ours == theirs
