"""How fast hf-audio answers on an accelerator: a 7B model of random weights, clips as long as MMAU-Pro's.

    python benchmarks/gpu.py                  # every way in its own process, so that each starts cold
    python benchmarks/gpu.py --size tiny      # the same on a CPU with a tiny model: does it run at all?

Each line is one JSON object. "cold" is a first pass: every shape is new, as in a real run. "warm" is a
second pass over the same clips, which are encoded again. `busy` is the share of time in which the card ran
some kernel. "plain transformers loop" answers ten clips one by one with stock parts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

# (decoding, batch size): what is compared, each in a process of its own.
WAYS: list[tuple[str, int | str]] = [
    ("generate", 8),
    ("slots", 8),
    ("slots-eager", 32),
    ("slots", 32),
    ("slots", "auto"),
]
QUESTION = (
    "Which of these best describes the change of the sound over the whole recording?\n\n"
    "(A) It grows louder\n(B) It falls silent\n(C) It stays as it is\n(D) None of these options\n\n"
    "Answer with the letter of the correct option."
)
SEED = 0


def say(**facts: Any) -> None:
    """Print one line."""
    print(json.dumps(facts), flush=True)


def make_clips(folder: Path, count: int, scale: float) -> list[str]:
    """Write clips with the lengths of MMAU-Pro: 41 % of 5 to 30 s, some of ten minutes, mean 124 s."""
    import soundfile

    rng = np.random.default_rng(SEED)
    formats = ((44_100, 2), (48_000, 2), (16_000, 1), (44_100, 1))
    longest = {}
    for rate, channels in formats:
        t = np.arange(int(600 * scale * rate) + rate) / rate
        mono = 0.2 * np.sin(2 * np.pi * (220 + 30 * np.sin(0.5 * t)) * t)
        mono += 0.1 * rng.standard_normal(t.size)
        longest[rate, channels] = np.stack([mono, 0.7 * mono], 1)[:, :channels]
    clips = []
    for number in range(count):
        share = rng.random()
        if share < 0.41:
            seconds = rng.uniform(5, 30)
        elif share < 0.77:
            seconds = np.exp(rng.uniform(np.log(30), np.log(180)))
        else:
            seconds = rng.uniform(180, 480) if share < 0.95 else rng.uniform(480, 600)
        rate, channels = formats[number % 4]
        path = folder / f"{number:03}.{'flac' if number % 5 == 4 else 'wav'}"
        clips.append((path, longest[rate, channels][: int(seconds * scale * rate)], rate))
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda clip: soundfile.write(*clip, subtype="PCM_16"), clips))
    return [str(path) for path, _, _ in clips]


def make_model(folder: Path, device: str, full: bool) -> tuple[Any, Any]:
    """Return the thinker of Qwen2.5-Omni with random weights, at the size of 7B or tiny, and its tokenizer.

    Its replies never end by themselves: every one is as long as is asked for.
    """
    import tiny.qwen2_5_omni as builder
    import torch
    from transformers import (
        AutoTokenizer,
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
    )

    tokenizer = builder.tokenizer()
    builder.save_processor(folder, tokenizer)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    config = builder.config(tokenizer)
    if full:
        facts = config.to_dict()
        facts["audio_config"].update(
            encoder_layers=32,
            encoder_attention_heads=20,
            encoder_ffn_dim=5120,
            d_model=1280,
            output_dim=3584,
        )
        facts["text_config"].update(
            vocab_size=152_064,
            hidden_size=3584,
            intermediate_size=18_944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            layer_types=["full_attention"] * 28,
        )
        facts["text_config"]["rope_parameters"]["mrope_section"] = [16, 24, 24]
        facts["vision_config"].update(out_hidden_size=3584)
        config = Qwen2_5OmniThinkerConfig(**facts)
    torch.manual_seed(SEED)
    with torch.device(device):
        model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
            config, dtype=torch.bfloat16 if device == "cuda" else torch.float32
        ).eval()
    with torch.no_grad():
        weights = model.get_output_embeddings().weight
        weights[len(tokenizer) :] = 0
        weights[tokenizer.eos_token_id] = 0
    model.generation_config.eos_token_id = None
    model.config._name_or_path = model.name_or_path = str(folder)
    return model, tokenizer


class Busy(threading.Thread):
    """Ask the card ten times a second whether it works."""

    def __init__(self, device: str) -> None:
        super().__init__(daemon=True)
        self.found: list[int] = []
        self.stop = threading.Event()
        self.device = device

    def run(self) -> None:
        if self.device != "cuda":
            return
        import pynvml

        pynvml.nvmlInit()
        card = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not self.stop.wait(0.1):
            self.found.append(pynvml.nvmlDeviceGetUtilizationRates(card).gpu)

    def __exit__(self, *_: object) -> None:
        self.stop.set()

    def __enter__(self) -> Busy:
        self.start()
        return self


def requests_of(paths: list[str], tokens: int) -> list[Any]:
    """Return a generation request for each clip."""
    from lm_eval.api.instance import Instance

    options = {"until": [], "max_gen_toks": tokens, "do_sample": False}
    return [
        Instance(
            "generate_until",
            {},
            (f"<audio>\n{QUESTION}", options, {"audio": [{"path": path}]}),
            number,
        )
        for number, path in enumerate(paths)
    ]


def answer(lm: Any, requests: list[Any], device: str, **facts: Any) -> list[str]:
    """Answer requests and say how it went."""
    import torch

    from mmaupro_ext.replies import parse_error

    waited = lm.schedule.waited_s
    lm.passes.encoder_cache.clear()  # every pass encodes its clips
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    with Busy(device) as busy:
        began = time.perf_counter()
        replies = lm.generate_until(requests, disable_tqdm=True)
        seconds = time.perf_counter() - began
    say(
        **facts,
        items=len(requests),
        seconds=round(seconds, 2),
        items_per_s=round(len(requests) / seconds, 3),
        busy=round(float(np.mean(busy.found)) / 100, 2) if busy.found else None,
        waited_s=round(lm.schedule.waited_s - waited, 2),
        peak_gib=round(torch.cuda.max_memory_allocated() / 2**30, 1) if device == "cuda" else None,
        errored=sum(parse_error(reply) is not None for reply in replies),
    )
    return replies


def time_parts(lm: Any, requests: list[Any]) -> None:
    """Say how long encoder, prefills and steps take, each waited for: slower than the run itself."""
    counted: Counter[str] = Counter()
    part = lm.passes.part

    def count(name: str) -> Any:
        counted[name] += 1
        return part(name)

    lm.passes.part = count
    lm.passes.encoder_cache.clear()
    waited, began = lm.schedule.waited_s, time.perf_counter()
    try:
        with lm.passes.timed() as times:
            lm.generate_until(requests, disable_tqdm=True)
    finally:
        del lm.passes.part
    say(
        what="parts",
        items=len(requests),
        seconds=round(time.perf_counter() - began, 2),
        waited_s=round(lm.schedule.waited_s - waited, 2),
        **{f"{name}_s": round(seconds, 2) for name, seconds in times.items()},
        prefills=counted["prefill"],
        steps=counted["decode"],
        ms_a_step=round(1e3 * times["decode"] / max(1, counted["decode"]), 2),
    )


def plain_loop(lm: Any, requests: list[Any], device: str) -> None:
    """Answer clips one by one: soxr and the stock extractor, then `generate`, nothing meanwhile."""
    import torch

    from mmaupro_ext.models.items import Question

    preparer = lm.preparer("stock")
    began = time.perf_counter()
    for request in requests:
        context, options, media = request.args
        prompt = preparer.prepare(Question(context, media))
        with torch.inference_mode():
            lm.model.generate(
                **lm.passes.to_device(prompt.tensors),
                max_new_tokens=options["max_gen_toks"],
                do_sample=False,
            )
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    say(
        what="plain transformers loop",
        items=len(requests),
        seconds=round(seconds, 2),
        items_per_s=round(len(requests) / seconds, 3),
    )


def measure(
    decoding: str, batch_size: int | str, paths: list[str], full: bool, device: str
) -> None:
    """Answer the clips cold, and where that is quick enough, warm and in parts."""
    import logging

    logging.disable(logging.WARNING)
    from mmaupro_ext.models.hf.model import HFAudioLM

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder)
        model, tokenizer = make_model(checkpoint, device, full)
        lm = HFAudioLM(
            model,
            tokenizer=tokenizer,
            processor=str(checkpoint),
            batch_size=batch_size,
            device=device,
            decoding=decoding,
        )
        lm.model.generation_config.eos_token_id = None
        lm._generator.ends = frozenset()
        requests = requests_of(paths, 64 if full else 4)
        way = {"decoding": decoding, "batch_size": batch_size}
        answer(lm, requests_of(paths[:1], 2), device, what="first contact", **way)
        answer(lm, requests, device, what="cold", **way)
        if decoding != "generate":
            answer(lm, requests, device, what="warm", **way)
            time_parts(lm, requests[:32])
        else:
            plain_loop(lm, requests[:10], device)


def main() -> None:
    """Run every way in a process of its own, or one of them in this one."""
    import torch

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--way", type=int, help="one line of WAYS, in this process")
    parser.add_argument("--clips", type=Path, help="the folder of clips, with --way")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    full = options.size == "full"
    if options.way is not None:
        paths = [str(path) for path in sorted(options.clips.iterdir())]
        measure(*WAYS[options.way], paths, full, device)
        return
    import transformers

    from mmaupro_ext import native

    say(
        card=torch.cuda.get_device_name() if device == "cuda" else "none",
        torch=torch.__version__,
        transformers=transformers.__version__,
        native=native.info(),
    )
    with tempfile.TemporaryDirectory() as folder:
        make_clips(Path(folder), 96 if full else 6, 1.0 if full else 0.02)
        of_one = [sys.executable, __file__, "--size", options.size, "--clips", folder]
        for number in range(len(WAYS)):
            subprocess.run([*of_one, "--way", str(number)], check=False)


if __name__ == "__main__":
    main()
