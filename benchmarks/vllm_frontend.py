"""What vLLM spends on the features of a clip, stock against ours, in the real engine.

    .venv-vllm/bin/python benchmarks/vllm_frontend.py [--clips 16] [--seconds 30]

Each way runs in a process of its own: a tiny Qwen2-Audio, one thread, vLLM's cache of processed clips
switched off. Counted is the CPU time of the main thread in vLLM's renderer, the whole way of a prompt
from samples and text to the engine's input; beside it that of the feature extractor alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
WAYS = ("stock", "native")
RATE = 16_000


def measure(clips: int, seconds: float) -> dict[str, Any]:
    """Return the CPU time of each clip, in ms, with the frontend that the environment names."""
    import numpy as np
    import vllm_checkpoints
    from vllm import LLM, SamplingParams

    from mmaupro_ext.features import is_native

    with tempfile.TemporaryDirectory() as folder:
        model = vllm_checkpoints.build("qwen2_audio", Path(folder))
        llm = LLM(
            model, dtype="float32", enforce_eager=True, max_model_len=4096, max_num_seqs=4,
            mm_processor_cache_gb=0,
        )  # fmt: skip
    processor = llm.renderer.get_mm_processor().info.get_hf_processor()
    rng = np.random.default_rng(0)
    text = "<|audio_bos|><|AUDIO|><|audio_eos|>What is it?"
    whole, alone, replies = [], [], []
    greedy = SamplingParams(temperature=0.0, max_tokens=4)
    for number in range(clips + 1):
        samples = rng.normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
        prompt = {"prompt": text, "multi_modal_data": {"audio": [(samples, RATE)]}}
        begin = time.thread_time()
        llm.renderer.render_cmpl([prompt])
        middle = time.thread_time()
        processor.feature_extractor(samples, sampling_rate=RATE, padding="max_length")
        end = time.thread_time()
        if number:  # the first makes tables
            whole.append(1000 * (middle - begin))
            alone.append(1000 * (end - middle))
        if number < 5:
            replies.append(llm.generate([prompt], greedy, use_tqdm=False)[0].outputs[0].text)
    return {
        "native": is_native(processor.feature_extractor),
        "clips": clips,
        "prompt_ms": round(statistics.median(whole), 1),
        "extractor_ms": round(statistics.median(alone), 1),
        "replies": replies,
    }


def main() -> None:
    """Run each way in a process, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.clips, options.seconds)), flush=True)
        return
    found = {}
    for way in WAYS:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "tests")]),
            "MMAUPRO_VLLM_FRONTEND": way,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_LOGGING_LEVEL": "ERROR",
        }
        command = [sys.executable, __file__, "--way", way]
        command += ["--clips", str(options.clips), "--seconds", str(options.seconds)]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        found[way] = json.loads(done.stdout.splitlines()[-1])
    print(f"| {options.clips} clips of {options.seconds:g} s | a prompt, ms | its features, ms |")
    print("| --- | ---: | ---: |")
    for way, numbers in found.items():
        print(f"| {way} | {numbers['prompt_ms']} | {numbers['extractor_ms']} |")
    same = found["stock"]["replies"] == found["native"]["replies"]
    print(f"\nReplies to the first five: {'the same' if same else 'DIFFERENT'}.")
    if [found[way]["native"] for way in WAYS] != [False, True]:
        raise SystemExit("the plug-in is not in use: install mmaupro-ext into this environment")


if __name__ == "__main__":
    main()
