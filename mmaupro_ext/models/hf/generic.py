"""A family for models that nobody has described yet, learned from their processor.

What a family says is found out by asking: under which name and in which form the processor takes
clips, how the chat template writes an audio part, how many tokens clips of different lengths take,
where they stop growing, whether two clips are taken. It is slower and less certain than a description
(see docs/models.md for how to write one), so the results carry a note.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import logging
import os.path
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.families.family import Family, Loading, Writing, each
from mmaupro_ext.models.hf.batching import PER_TOKEN_INPUTS

logger = logging.getLogger(__name__)

_EXTRACTORS = ("feature_extractor", "audio_processor")
# Attributes that name the token which stands once for each audio embedding, and what stands for a clip
# in the text, which may be something else.
_TOKENS = ("audio_token", "audio_token_replacement")
_PLACEHOLDERS = ("audio_placeholder", *_TOKENS)
_SHORT_S = (0.0001, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)
_LONG_S = (20.0, 40.0, 80.0, 160.0, 320.0, 640.0)
_USUAL_WINDOW_S = 30.0

Count = Callable[[float], int]


@dataclasses.dataclass(frozen=True)
class Call:
    """How a processor takes clips beside text.

    Parameters
    ----------
    name : str
        Of the argument with the clips.
    rate : {"audio_kwargs", "sampling_rate", "pairs", ""}
        Where it is told their rate; "pairs": with each clip, as `(array, rate)`.
    in_list : bool
        Whether the text is the only entry of a list.
    """

    name: str = "audio"
    rate: str = "audio_kwargs"
    in_list: bool = True

    @classmethod
    def all_of(cls, processor: Any) -> list[Call]:
        """Return all ways that the processor's signature leaves open, the usual ones first."""
        parameters = inspect.signature(processor.__call__).parameters
        open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        names = [name for name in ("audio", "audios") if open_ended or name in parameters]
        rates = ("audio_kwargs", "sampling_rate", "pairs", "")
        return [cls(*way) for way in itertools.product(names, rates, (True, False))]

    def __call__(
        self, processor: Any, text: str, options: Mapping[str, Any], rate: int
    ) -> Mapping[str, Any]:
        """Return the inputs of one prompt; `options` are those of `Loading.encode`."""
        others = dict(options)
        clips = others.pop("audio", [])
        others.pop("audio_kwargs", None)
        if clips:
            pairs = self.rate == "pairs"
            others[self.name] = [(clip, rate) for clip in clips] if pairs else list(clips)
            if self.rate == "audio_kwargs":
                others["audio_kwargs"] = {"sampling_rate": rate}
            elif self.rate == "sampling_rate":
                others["sampling_rate"] = rate
        return processor(text=[text] if self.in_list else text, return_tensors="pt", **others)

    def __str__(self) -> str:
        form = "(array, rate) pairs" if self.rate == "pairs" else "arrays"
        told = f", {self.rate}" if self.rate not in ("pairs", "") else ""
        return f"text={'[str]' if self.in_list else 'str'}, {self.name}=[{form}]{told}"


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
        None where the processor has nothing to do with audio.

    Raises
    ------
    ConfigError
        When it has, and takes no clips in any way that is known here: with what it takes.
    """
    extractor = next((name for name in _EXTRACTORS if hasattr(processor, name)), None)
    if extractor is None and not _names_audio(processor):
        return None
    tokens = [str(getattr(processor, name)) for name in _TOKENS if getattr(processor, name, None)]
    places = [getattr(processor, name, None) for name in _PLACEHOLDERS]
    rate = getattr(getattr(processor, extractor or "", None), "sampling_rate", None)
    if extractor is None or rate is None or not tokens:
        missing = "audio_token" if extractor and rate else "feature_extractor with a sampling_rate"
        raise _unknown(processor, f"it has no {missing}")
    rate = int(rate)
    label, block, in_parts = _block(processor, str(next(filter(None, places))))
    call, token, count = _way_in(processor, block, tokens, rate)
    shortest = next((seconds for seconds in _SHORT_S if count(seconds) > 0), None)
    if shortest is None:
        raise _unknown(processor, f"no clip of a second or less makes it write {token!r}")
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
            template_block_end="\n" if label else "",
            min_samples=max(1, round(shortest * rate)),
            max_blocks=None if _takes_two(processor, block, rate, call) else 1,
        ),
        loading=Loading(
            loader="AutoModelForMultimodalLM",
            extractor=extractor,
            template_content="parts" if in_parts else "text",
            shared_prefix=False,
            padded_prompts=not _holds_positions(processor, block, rate, call),
            encode=None
            if call == Call()
            else lambda processor, text, options: call(processor, text, options, rate),
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


def _names_audio(processor: Any) -> bool:
    """Tell whether a processor speaks of audio at all."""
    parameters = inspect.signature(processor.__call__).parameters
    return bool({"audio", "audios"} & {*parameters}) or any(
        getattr(processor, name, None) for name in _TOKENS
    )


def _unknown(processor: Any, reason: str) -> ConfigError:
    """Return the error for a processor that takes no clips in a known way: with what it takes."""
    call = inspect.signature(processor.__call__)
    names: tuple[str, ...] = getattr(processor, "get_attributes", tuple)()
    parts = [f"{name}: {type(getattr(processor, name, None)).__name__}" for name in names]
    return ConfigError(
        f"{type(processor).__name__} cannot be given clips in a way that is known here: {reason}. It takes "
        f"{call}; its parts are {', '.join(parts) or 'unknown'}. Write how it takes them in a file and add "
        "family=FILE.py to --model_args (docs/models.md), or serve the model elsewhere: --model "
        "vllm-audio, --model openai-audio."
    )


def _way_in(processor: Any, block: str, tokens: list[str], rate: int) -> tuple[Call, str, Count]:
    """Return the first way by which a clip becomes features and audio tokens: with which token, how many."""
    refusals: list[str] = []
    for call in Call.all_of(processor):
        try:
            encoded = call(processor, block, {"audio": [_noise(1.0, rate)]}, rate)
            more = [name for name in encoded if name not in PER_TOKEN_INPUTS]
            for token in tokens if more else ():
                count = _counter(processor, block, token, rate, call)
                if count(1.0) > 0:
                    return call, token, count
            refusals.append(f"{call}: no {' or '.join(tokens)} and features in {sorted(encoded)}")
        except Exception as error:  # a processor may raise anything
            said = " ".join(str(error).split())[:120]
            refusals.append(f"{call}: {type(error).__name__}: {said}")
    logger.info("ways tried: %s", "; ".join(refusals))
    raise _unknown(processor, f"{len(refusals)} were tried, and the first said: {refusals[0]}")


def _holds_positions(processor: Any, block: str, rate: int, call: Call) -> bool:
    """Tell whether inputs change with the text before a clip: they count positions in the prompt.

    Those of a prompt that is padded on the left would be wrong.
    """
    options = {"audio": [_noise(1.0, rate)]}
    found = [
        call(processor, f"{text}{block}", options, rate) for text in ("", "some words before ")
    ]
    return any(
        torch.is_tensor(value) and not torch.equal(value, found[1][name])
        for name, value in found[0].items()
        if name not in PER_TOKEN_INPUTS
    )


def _block(processor: Any, token: str) -> tuple[str, str, bool]:
    """Return what stands for a clip in a chat: a numbered label, or "", and the block.

    Also whether the chat template writes that of an audio part; else it stands in the text.
    """
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
        return "", token, False
    if token not in first:
        return "", token, False
    if first == second:
        return "", first.strip("\n"), True
    before = os.path.commonprefix([first, second])
    after = first[len(before) + 1 :]
    if first != f"{before}1{after}" or second != f"{before}2{after}":
        return "", token, True
    special = [name for name in processor.tokenizer.get_added_vocab() if name in after]
    start = min(after.index(name) for name in [*special, token])
    return f"{before}{{number}}{after[:start]}", after[start:].strip("\n"), True


def _noise(seconds: float, rate: int) -> Any:
    samples = max(1, round(seconds * rate))
    return np.random.default_rng(0).normal(0, 0.05, samples).astype(np.float32)


def _counter(processor: Any, block: str, token: str, rate: int, call: Call) -> Count:
    """Return a function that gives the audio tokens of a clip of so many seconds, 0 if refused."""
    number = processor.tokenizer.convert_tokens_to_ids(token)

    def count(seconds: float) -> int:
        try:
            encoded = call(processor, block, {"audio": [_noise(seconds, rate)]}, rate)
        except Exception as error:  # a processor may raise anything
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


def _takes_two(processor: Any, block: str, rate: int, call: Call) -> bool:
    try:
        call(processor, block * 2, {"audio": [_noise(2.0, rate), _noise(1.0, rate)]}, rate)
    except Exception:  # a processor may raise anything
        return False
    return True
