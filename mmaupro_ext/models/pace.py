"""What a run will cost: items a second on clips as long as MMAU-Pro's, where the time goes, and the bound.

The bound is the least time that the card's arithmetic and its memory allow: every token of audio goes
through every weight of the text part once, and every step of decoding reads these weights once, for all
replies that are written side by side. Text, attention and encoder come on top, so no program reaches it.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance

from mmaupro_ext.benchmarks.known.mmaupro import BENCHMARK
from mmaupro_ext.models.hf.model import HFAudioLM
from mmaupro_ext.replies import parse_error

RATE = 16_000  # Hz
# Seconds of MMAU-Pro's clips: one of each eighth, shortest to longest. Their mean is 122 s, its own 124.
LENGTHS = (9, 16, 24, 34, 64, 119, 251, 459)
REPLY_TOKENS = 24
# What the measurement may take: where a try says that it would take longer, clips are shorter.
BUDGET_S = 20.0
ASK = (
    "<audio>\nWhich of these best describes the change of the sound?\n\n(A) It grows louder\n(B) It falls "
    "silent\n(C) It stays as it is\n(D) None of these\n\nAnswer with the letter of the correct option."
)

# Name of a card, as torch gives it -> dense 16-bit TFLOP/s of its matrix units, and TB/s of its memory, as in
# NVIDIA's data sheets. The first that is part of the name counts.
CARDS = {
    "H200": (989.0, 4.8),
    "H100 PCIe": (756.0, 2.0),
    "H100": (989.0, 3.35),
    "A100-SXM4-40GB": (312.0, 1.555),
    "A100-PCIE-40GB": (312.0, 1.555),
    "A100": (312.0, 1.935),
    "L40S": (362.0, 0.864),
    "L4": (121.0, 0.3),
    "A10G": (70.0, 0.6),
    "A10": (125.0, 0.6),
    "RTX 4090": (165.0, 1.008),
    "RTX 3090": (71.0, 0.936),
    "T4": (65.0, 0.32),
}
# What a prompt's text does not go through, or, of the last two, at its last position only.
_BESIDE = re.compile(r"audio|vision|visual|tower|encoder|projector|embed_tokens|lm_head")


@dataclass(frozen=True)
class Pace:
    """How items were answered.

    Parameters
    ----------
    items : int
        How many, `LENGTHS` long and `shorter` times less.
    errored : int
        Items among them without an answer.
    shorter : float
        By what their lengths were divided, so that the measurement ends.
    parts : dict
        Seconds by what they went into, for clips of full length: "waiting" for input, "encoder",
        "prefill", "decode" and "rest".
    audio_tokens : float
        Of an item with clips of full length, on average.
    """

    items: int
    errored: int
    shorter: float
    parts: dict[str, float]
    audio_tokens: float

    @property
    def items_per_s(self) -> float:
        """Items a second on clips of full length."""
        return self.items / sum(self.parts.values())

    def describe(self) -> str:
        """Return it in one sentence."""
        whole = sum(self.parts.values())
        shares = ", ".join(f"{name} {part / whole:.0%}" for name, part in self.parts.items())
        text = (
            f"{self.items_per_s:.3g} items/s ({shares}): {duration(BENCHMARK.items / self.items_per_s)} for "
            f"the {BENCHMARK.items:,} items of {BENCHMARK.title} with replies of {REPLY_TOKENS} tokens"
        )
        if self.shorter > 1:
            text += f"; reckoned from clips of 1/{self.shorter:.3g} of their length"
        if self.errored:
            text += f"; {self.errored} of {self.items} items errored"
        return text


def measure(lm: HFAudioLM, prompt: str, seconds_of_half_a_minute: float) -> Pace:
    """Answer clips with MMAU-Pro's lengths as a run would.

    Parameters
    ----------
    lm : HFAudioLM
        With the options of the planned run.
    prompt : str
        As the run writes it, with `<audio>` in its place.
    seconds_of_half_a_minute : float
        What a reply to 30 s of audio takes alone.
    """
    rounds = -(-lm.media_batch_size // len(LENGTHS))
    audio_s = rounds * sum(LENGTHS)
    shorter = max(1.0, audio_s / 30 * seconds_of_half_a_minute / BUDGET_S)
    rng = np.random.default_rng(0)  # other noise in each: no two are encoded once
    clips = [
        rng.normal(0, 0.1, max(RATE // 2, round(seconds * RATE / shorter))).astype(np.float32)
        for seconds in rounds * LENGTHS
    ]
    options = {"until": [], "max_gen_toks": REPLY_TOKENS, "do_sample": False}
    requests = [
        Instance(
            "generate_until",
            {},
            (prompt, options, {"audio": [{"array": clip, "sampling_rate": RATE}]}),
            number,
        )
        for number, clip in enumerate(clips)
    ]
    waited, tokens = lm.schedule.waited_s, (lm.heard.audio_tokens or 0)
    began = time.perf_counter()
    with lm.passes.timed() as timed:
        replies = lm.generate_until(requests, disable_tqdm=True)
    whole = time.perf_counter() - began
    tokens = (lm.heard.audio_tokens or 0) - tokens
    parts = {"waiting": lm.schedule.waited_s - waited, **timed}
    parts["rest"] = max(0.0, whole - sum(parts.values()))
    for name in ("waiting", "encoder", "prefill"):  # these go by length, the others by items
        parts[name] *= shorter
    errored = sum(parse_error(reply) is not None for reply in replies)
    return Pace(len(clips), errored, shorter, parts, shorter * tokens / len(clips))


def bound(lm: HFAudioLM, audio_tokens: float) -> tuple[float | None, str]:
    """Return how many items a second the card allows at most, with a sentence about it.

    Parameters
    ----------
    lm : HFAudioLM
        On its device, with its batch size.
    audio_tokens : float
        Of an item.

    Returns
    -------
    items_per_s : float or None
        None where there is no bound.
    sentence : str
        The bound, or why there is none.
    """
    if lm.device.type != "cuda":
        return None, f"no bound is known for {lm.device.type}"
    name = torch.cuda.get_device_name(lm.device)
    facts = next((facts for card, facts in CARDS.items() if card in name), None)
    if facts is None:
        return None, f"no bound is known for {name}"
    if lm.model.dtype not in (torch.bfloat16, torch.float16):
        return None, f"no bound is known for {lm.model.dtype} on {name}"
    if any("experts" in part for part, _ in lm.model.named_parameters()):
        return None, "no bound is known for a model with experts"
    return bound_of(
        weights_of_text(lm.model), lm.media_batch_size, audio_tokens, name=name, facts=facts
    )


def bound_of(
    weights: int, batch_size: int, audio_tokens: float, *, name: str, facts: tuple[float, float]
) -> tuple[float, str]:
    """Return the bound of 16-bit weights on a card; see `bound`."""
    arithmetic, memory = 1e12 * facts[0], 1e12 * facts[1]
    prefill = 2 * weights * audio_tokens / arithmetic
    decode = REPLY_TOKENS * 2 * weights / memory / batch_size
    most = 1 / (prefill + decode)
    return most, (
        f"{name} allows {most:.3g} items/s at most ({facts[0]:g} TFLOP/s for "
        f"{audio_tokens:.0f} tokens of audio, {facts[1]:g} TB/s for {batch_size} replies side by side)"
    )


def weights_of_text(model: Any) -> int:
    """Return how many weights each token of a prompt goes through."""
    named = model.named_parameters()
    return sum(weight.numel() for name, weight in named if not _BESIDE.search(name))


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def pace_of(
    lm: HFAudioLM, write: Callable[[str], str], seconds: float
) -> tuple[str, dict[str, Any]]:
    """Return what is to be said about the pace, and the numbers.

    Parameters
    ----------
    lm : HFAudioLM
        With the options of the planned run.
    write : callable
        A question -> the prompt, as the run writes it.
    seconds : float
        What a reply to 30 s of audio takes alone.
    """
    before = lm.passes.counts.as_dict()
    pace = measure(lm, write(ASK), seconds)
    most, sentence = bound(lm, pace.audio_tokens)
    numbers = {
        "items_per_s": pace.items_per_s,
        "benchmark_s": BENCHMARK.items / pace.items_per_s,
        "bound_items_per_s": most,
        "errored": pace.errored,
        "shorter": pace.shorter,
        **{f"{name}_s": part for name, part in pace.parts.items()},
        "counts": {
            name: count - before[name] for name, count in lm.passes.counts.as_dict().items()
        },
    }
    return f"{pace.describe()}. {sentence[0].upper()}{sentence[1:]}", numbers


def peak_memory(lm: HFAudioLM) -> tuple[int, str]:
    """Return the largest use of memory so far in bytes, and of which memory."""
    if lm.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(lm.device)
        if (measured := lm.passes.budget.memory) is not None:  # it resets torch's own peak
            peak = max(peak, measured.highest)
        return peak, f"on {torch.cuda.get_device_name(lm.device)}"
    try:
        import resource
    except ImportError:  # Windows
        return 0, "of main memory (not measured on this system)"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024), "of main memory"
