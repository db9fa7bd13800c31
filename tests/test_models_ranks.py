"""Several processes on several nodes: every item once, one table."""

import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest
import soundfile

# All processes are forked from one that has imported what they need, which takes longer than what they do.
PROGRAM = """
import atexit, json, os, sys
import torch
torch.set_num_threads(1)
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from mmaupro_ext import heard
from mmaupro_ext.models.hf.model import HFAudioLM


def start(number, environment):
    child = os.fork()
    if child:
        return child
    os.environ.update(environment)
    output = os.open(f"output{number}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    answer(number, os.getcwd())
    sys.exit()

def answer(number, folder):
    # Registered first, runs last. A process that still has its group here aborted once in ten times.
    atexit.register(lambda: print("in a group at the end:", torch.distributed.is_initialized()))
    lm = HFAudioLM("tiny-random", device="cpu", batch_size=2)
    task = {
        "task": "audio_questions",
        "dataset_path": "json",
        "dataset_kwargs": {
            "data_files": {"test": folder + "/docs.jsonl"},
            "cache_dir": folder + "/datasets" + str(number),
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
    with open(f"{folder}/report{number}.json", "w") as file:
        json.dump(report, file)

children = [start(*each) for each in enumerate(json.loads(sys.argv[1]))]
codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
sys.exit(f"exit codes: {codes}" if any(codes) else 0)
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


LAYOUTS = {
    "alone": ([0], 1),
    "two nodes of one process": ([0, 0], 1),
    "one node of two processes": ([0, 1], 2),
}
"""Local ranks of the processes, and how many there are on a node."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory):
    """Run one process per local rank, with what `accelerate launch` on one or more nodes tells it."""
    folder = tmp_path_factory.mktemp("ranks")
    lines = []
    for number in range(5):
        time = np.arange(8_000 * (number + 1)) / 16_000
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * 200 * (number + 1) * time), 16_000)
        lines.append(json.dumps({"question": f"Which {number}?", "path": str(path)}))
    (folder / "docs.jsonl").write_text("\n".join(lines))
    environments = []
    for local_ranks, local_world_size in LAYOUTS.values():
        group = {
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(len(local_ranks)),
            "LOCAL_WORLD_SIZE": str(local_world_size),
        }
        for rank, local_rank in enumerate(local_ranks):
            environments.append(group | {"RANK": str(rank), "LOCAL_RANK": str(local_rank)})
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, json.dumps(environments)],
        cwd=folder,
        env=os.environ
        | {
            "MASTER_ADDR": "127.0.0.1",
            "ACCELERATE_USE_CPU": "true",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "XDG_CACHE_HOME": str(folder / "cache"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as processes:
        try:
            said = processes.communicate(timeout=600)[1]
        except BaseException:
            os.killpg(processes.pid, signal.SIGKILL)
            raise
    outputs = [file.read_text() for file in sorted(folder.glob("output*.txt"))]
    assert processes.returncode == 0, said + "\n".join(outputs)[-4000:]
    assert len(outputs) == len(environments)
    assert all("in a group at the end: False" in output for output in outputs)
    numbers = iter(range(len(environments)))
    return {
        name: [
            json.loads((folder / f"report{next(numbers)}.json").read_text()) for _ in local_ranks
        ]
        for name, (local_ranks, _) in LAYOUTS.items()
    }


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "alone"])
def test_several_processes_give_the_table_of_one(reports, layout):
    (alone,), reports = reports["alone"], reports[layout]
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
