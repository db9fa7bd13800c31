"""A family for models that nobody has described yet, learned from their processor.

What a family says is found out by asking: how the chat template writes an audio part, how many
tokens clips of different lengths take, where they stop growing, whether two clips are taken. It is
slower and less certain than a description (see docs/models.md for how to write one), so the results
carry a note.
"""

from __future__ import annotations

import logging
import os.path
from collections.abc import Callable
from typing import Any

import numpy as np

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

logger = logging.getLogger(__name__)

_EXTRACTORS = ("feature_extractor", "audio_processor")
_SHORT_S = (0.0001, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)
_LONG_S = (20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
_USUAL_WINDOW_S = 30.0

Count = Callable[[float], int]


def learn(model_type: str, processor: Any) -> Family | None:
    """Return a family for a model type by asking its processor.

    Parameters
    ----------
    model_type : str
        `config.model_type`.
    processor : transformers.ProcessorMixin
        Of the checkpoint, with its stock feature extractor.

    Returns
    -------
    Family or None
        None where the processor takes no audio beside text.
    """
    extractor = next((name for name in _EXTRACTORS if getattr(processor, name, None)), None)
    token = getattr(processor, "audio_token", None)
    if extractor is None or not isinstance(token, str):
        return None
    label, block = _block(processor, token)
    rate = int(getattr(processor, extractor).sampling_rate)
    count = _counter(processor, block, token, rate)
    shortest = next((seconds for seconds in _SHORT_S if count(seconds) > 0), None)
    if shortest is None:
        logger.info("no clip makes %s write its audio token", type(processor).__name__)
        return None
    per_second, whole_s = _growth(count)
    return Family(
        model_types=(model_type,),
        writing=Writing(
            audio_block=block,
            audio_token=token,
            count_tokens=each(lambda samples: round(samples / rate * per_second) or 1),
            exact_count=False,
            whole_s=whole_s,
            window_s=min(_USUAL_WINDOW_S, whole_s or _USUAL_WINDOW_S),
            block_label=label or "Audio {number}: ",
            label_alone=bool(label),
            min_samples=max(1, round(shortest * rate)),
            max_blocks=None if _takes_two(processor, block, rate) else 1,
        ),
        loading=Loading(
            loader="AutoModelForMultimodalLM",
            extractor=extractor,
            template_block_end="\n" if label else "",
            shared_prefix=False,
        ),
        notes=("Learned from the processor; no one has described this family.",),
    )


def describe(family: Family) -> str:
    """Return what was learned in one sentence, for the log and the results."""
    limit = (
        "clips of any length whole"
        if family.writing.whole_s is None
        else f"{family.writing.whole_s:g} s of audio at once"
    )
    several = "" if family.writing.max_blocks is None else ", and one clip in a prompt"
    return (
        f"models of type {family.name!r} are not described here: served the generic way, by which the "
        f"processor takes {limit}{several}"
    )


def _block(processor: Any, token: str) -> tuple[str, str]:
    """Return what the chat template writes for an audio part: a numbered label, or "", and the block."""
    texts = [{"type": "text", "text": mark} for mark in ("⟨1⟩", "⟨2⟩", "⟨3⟩")]
    sound = {"type": "audio"}
    content = [texts[0], sound, texts[1], sound, texts[2]]
    try:
        written = processor.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=False
        )
        first = written.split("⟨1⟩")[1].split("⟨2⟩")[0]
        second = written.split("⟨2⟩")[1].split("⟨3⟩")[0]
    except Exception as error:  # no template, or one that takes no such parts
        logger.info("the chat template tells nothing about audio: %s", error)
        return "", token
    if token not in first:
        return "", token
    if first == second:
        return "", first.strip("\n")
    before = os.path.commonprefix([first, second])
    after = first[len(before) + 1 :]
    if first != f"{before}1{after}" or second != f"{before}2{after}":
        return "", token
    special = [name for name in processor.tokenizer.get_added_vocab() if name in after]
    start = min(after.index(name) for name in [*special, token])
    return f"{before}{{number}}{after[:start]}", after[start:].strip("\n")


def _noise(seconds: float, rate: int) -> Any:
    samples = max(1, round(seconds * rate))
    return np.random.default_rng(0).normal(0, 0.05, samples).astype(np.float32)


def _encode(processor: Any, text: str, waves: list[Any], rate: int) -> Any:
    return processor(
        text=[text], audio=waves, return_tensors="pt", audio_kwargs={"sampling_rate": rate}
    )


def _counter(processor: Any, block: str, token: str, rate: int) -> Count:
    """Return a function that gives the audio tokens of a clip of so many seconds, 0 if refused."""
    number = processor.tokenizer.convert_tokens_to_ids(token)

    def count(seconds: float) -> int:
        try:
            encoded = _encode(processor, block, [_noise(seconds, rate)], rate)
        except (ValueError, RuntimeError, IndexError, TypeError, ArithmeticError) as error:
            logger.info("%g s of audio are refused: %s", seconds, error)
            return 0
        return int((encoded["input_ids"] == number).sum())

    return count


def _growth(count: Count) -> tuple[float, float | None]:
    """Return audio tokens a second, and how many seconds are taken at most (None: no limit found)."""
    counts = {seconds: count(seconds) for seconds in (5.0, 10.0)}
    per_second = (counts[10.0] - counts[5.0]) / 5.0
    if per_second <= 0:  # as many tokens for any clip: what they hold cannot be told from here
        return counts[10.0] / _USUAL_WINDOW_S, _USUAL_WINDOW_S
    for seconds in _LONG_S:
        found = count(seconds)
        if found < 0.98 * per_second * seconds:
            taken = max(found, counts[10.0])
            return per_second, float(int(taken / per_second + 0.5))
    return per_second, None


def _takes_two(processor: Any, block: str, rate: int) -> bool:
    try:
        _encode(processor, block * 2, [_noise(2.0, rate), _noise(1.0, rate)], rate)
    except (ValueError, RuntimeError, IndexError, TypeError):
        return False
    return True
