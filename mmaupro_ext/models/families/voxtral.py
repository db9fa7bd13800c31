"""Voxtral (Liu et al. 2025, arXiv:2507.13264): a Mistral model that hears, with Mistral's tokenizer."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from types import MethodType
from typing import TYPE_CHECKING, Any

from mmaupro_ext.models.families.family import Family, Loading, Writing, each

if TYPE_CHECKING:
    import torch

CHUNK = 480_000  # samples at 16 kHz: audio is followed by silence up to a multiple of 30 s
TOKENS_PER_CHUNK = 375
FRAMES_PER_CHUNK = 3000

AUDIO = "[AUDIO]"
AUDIO_BLOCK = f"[BEGIN_AUDIO]{AUDIO}"


def audio_tokens(samples: int) -> int:
    """Return how many audio tokens a block takes: 12.5 a second, of 30 s at least."""
    return TOKENS_PER_CHUNK * -(-samples // CHUNK)


def read_control_tokens(tokenizer: Any) -> None:
    """Let a tokenizer read control tokens such as `[INST]` in a text, and begin texts with `<s>`.

    mistral-common's reads them as plain text; the one that transformers makes of tekken.json where
    mistral-common is missing knows neither the beginning nor the end of a text.
    """
    if hasattr(tokenizer, "backend_tokenizer"):
        from tokenizers.processors import TemplateProcessing

        tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<s>", "</s>", "<pad>"
        begin = ("<s>", tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", special_tokens=[begin]
        )
    else:
        tokenizer._text_to_ids = MethodType(_text_to_ids, tokenizer)


def _text_to_ids(tokenizer: Any, text: str, add_special_tokens: bool) -> list[int]:
    """Stand in for the method of `MistralCommonBackend`."""
    plain = tokenizer.tokenizer.instruct_tokenizer.tokenizer
    ids = [tokenizer.bos_token_id] if add_special_tokens else []
    pieces = _control_tokens(tuple(tokenizer.all_special_tokens)).split(text)
    for number, piece in enumerate(pieces):
        if number % 2:
            ids.append(plain.get_special_token(piece))
        else:
            ids += plain.encode(piece, bos=False, eos=False)
    return ids


@functools.lru_cache(maxsize=4)
def _control_tokens(tokens: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"({'|'.join(map(re.escape, tokens))})")


def render_chat(processor: Any, messages: list[dict[str, Any]], add_generation_prompt: bool) -> str:
    """Return a chat as mistral-common (tokenizer v7) encodes it, with its control tokens as text."""
    turns = [(message["role"], _written(message["content"])) for message in messages]
    if any(AUDIO in text for _, text in turns):
        turns = _without_system(turns)
    forms = {
        "system": "[SYSTEM_PROMPT]{}[/SYSTEM_PROMPT]",
        "user": "[INST]{}[/INST]",
        "assistant": "{}</s>",
    }
    written = "<s>" + "".join(
        forms[role].format(text.rstrip(" ") if role == "assistant" else text)
        for role, text in turns
    )
    is_open = not add_generation_prompt and turns[-1][0] == "assistant"
    return written.removesuffix("</s>") if is_open else written


def _written(parts: list[dict[str, Any]]) -> str:
    known = {"audio": AUDIO_BLOCK, "image": "<image>"}
    return "".join(known.get(part["type"]) or part["text"] for part in parts)


def _without_system(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Put what system messages say before what the user says first."""
    system = [text for role, text in turns if role == "system"]
    others = [turn for turn in turns if turn[0] != "system"]
    first = next(number for number, (role, _) in enumerate(others) if role == "user")
    others[first] = ("user", "\n\n".join([*system, others[first][1]]))
    return others


def encode(processor: Any, text: str, options: dict[str, Any]) -> Mapping[str, Any]:
    """Return the inputs that the processor makes of a chat with audio in files.

    The processor takes no arrays and writes no text, so its two halves are put together here: the
    tokens, with as many audio tokens as each block takes, and the features, of each block whole.
    """
    import torch

    blocks = options.get("audio", [])
    counts = iter([audio_tokens(len(block)) for block in blocks])
    ids: list[int] = []
    for token in processor.tokenizer.encode(text, **options.get("text_kwargs", {})):
        ids += [token] * (next(counts) if token == processor.audio_token_id else 1)
    encoded = {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
    }
    if blocks:
        encoded["input_features"] = torch.cat([_features(processor, block) for block in blocks])
    return encoded


def _features(processor: Any, block: Any) -> torch.Tensor:
    """Return the features of one block, shape `(chunks, mels, 3000)`: one spectrogram, then cut."""
    extractor = processor.feature_extractor
    features = extractor(
        block,
        sampling_rate=extractor.sampling_rate,
        padding=True,
        truncation=False,
        pad_to_multiple_of=CHUNK,
        return_tensors="pt",
    )["input_features"]
    return features.reshape(features.shape[1], -1, FRAMES_PER_CHUNK).transpose(0, 1)


VOXTRAL = Family(
    model_types=("voxtral",),
    writing=Writing(
        audio_block=AUDIO_BLOCK,
        audio_token=AUDIO,
        count_tokens=each(audio_tokens),
        whole_s=None,
    ),
    loading=Loading(
        loader="VoxtralForConditionalGeneration",
        adapt_tokenizer=read_control_tokens,
        render_chat=render_chat,
        encode=encode,
    ),
    notes=(
        "The checkpoint has no chat template: mistral-common encodes a chat, and takes audio as path, "
        "URL or base64 only (tokenization_mistral_common.py of transformers). Here the chat is written "
        "as text; tests show that ids and features are those of the processor.",
        "mistral-common refuses system messages beside audio before tokenizer v13 (`validate_messages` "
        "in its instruct.py). Their text is put before the user's, as it wrote system messages until v3.",
        "Without mistral-common transformers converts tekken.json itself; both tokenizers serve.",
        "A block takes 375 tokens for every started 30 s, however short it is.",
    ),
)
