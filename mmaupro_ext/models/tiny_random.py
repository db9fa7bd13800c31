"""A tiny Qwen2-Audio with random weights, made on this machine in about a second.

It has the true architecture, processor, chat template and window limit, so that the whole path
from file to table runs without a download. It understands nothing: every score is at chance level.

So that the table shows chance level and not a parser that found no answer, the output layer is
shaped: only the letters A to D and the end token have weights. Which letter wins is decided by the
random weights and whatever they heard and read; the end token follows a letter.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2AudioConfig,
    Qwen2AudioForConditionalGeneration,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from mmaupro_ext.util import cache_dir

logger = logging.getLogger(__name__)

NAME = "tiny-random"
NOTE = "tiny-random has random weights: every score is at chance level"

# Raise when anything below changes what is built: built models are kept in the user's cache.
RECIPE = 1

PAD_TOKEN, END_TOKEN = "<|endoftext|>", "<|im_end|>"
SPECIAL_TOKENS = (
    PAD_TOKEN,
    "<|im_start|>",
    END_TOKEN,
    "<|AUDIO|>",
    "<|audio_bos|>",
    "<|audio_eos|>",
)
ANSWERS = "ABCD"
MAX_POSITIONS = 65536  # a ten-minute clip takes 15 000 audio tokens

_HIDDEN_SIZE = 32
_ENCODER_SIZE = 16


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per byte and the special tokens of Qwen2-Audio.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
        Lossless for any text; its own files, no download.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: number for number, character in enumerate(alphabet)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD_TOKEN, eos_token=END_TOKEN
    )


def make(seed: int = 0) -> tuple[Qwen2AudioForConditionalGeneration, Qwen2AudioProcessor]:
    """Make the model and its processor in memory.

    Parameters
    ----------
    seed : int
        Equal seeds give equal weights. The global random state is left alone.

    Returns
    -------
    model : transformers.Qwen2AudioForConditionalGeneration
        In evaluation mode, float32, fewer than 100 000 weights.
    processor : transformers.Qwen2AudioProcessor
        With the stock Whisper feature extractor: 128 mels, 16 kHz, 30 s.
    """
    tokenizer = byte_tokenizer()
    extractor = WhisperFeatureExtractor(
        feature_size=128, sampling_rate=16000, hop_length=160, chunk_length=30, n_fft=400
    )
    processor = Qwen2AudioProcessor(extractor, tokenizer)
    vocabulary = tokenizer.get_vocab()
    end = vocabulary[END_TOKEN]
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder",
            "num_mel_bins": 128,
            "encoder_layers": 1,
            "encoder_attention_heads": 1,
            "encoder_ffn_dim": 32,
            "d_model": _ENCODER_SIZE,
            "max_source_positions": 1500,
            "init_std": 0.2,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": _HIDDEN_SIZE,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "max_position_embeddings": MAX_POSITIONS,
            "initializer_range": 0.3,
            "bos_token_id": None,
            "eos_token_id": end,
            "pad_token_id": tokenizer.pad_token_id,
        },
        audio_token_index=vocabulary["<|AUDIO|>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2AudioForConditionalGeneration(config).eval()
        _shape_output_layer(model, [vocabulary[letter] for letter in ANSWERS], end)
    model.generation_config.eos_token_id = end
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    return model, processor


@torch.no_grad()
def _shape_output_layer(
    model: Qwen2AudioForConditionalGeneration, letters: list[int], end: int
) -> None:
    """Let the model write one letter and then stop; which letter is left to the random weights.

    One direction of the hidden space is set apart. Token embeddings say there whether the token is
    an answer letter, no layer writes to it, and the output layer reads it: letters where the last
    token is no letter, the end token where it is one.
    """
    embeddings: torch.Tensor = model.get_parameter("model.language_model.embed_tokens.weight")
    head: torch.Tensor = model.get_parameter("lm_head.weight")
    mark = torch.randn(embeddings.shape[1])
    mark /= mark.norm()

    embeddings -= torch.outer(embeddings @ mark, mark) + 10.0 * mark
    embeddings[letters] += 20.0 * mark
    for layer in model.model.language_model.layers:
        for writer in (layer.self_attn.o_proj, layer.mlp.down_proj):
            writer.weight -= torch.outer(mark, mark @ writer.weight)

    preferences = torch.randn(len(letters), head.shape[1])
    preferences -= torch.outer(preferences @ mark, mark)
    head.zero_()
    head[letters] = preferences - 10.0 * mark
    head[end] = 10.0 * mark


def build(seed: int = 0) -> Path:
    """Return the folder of a saved tiny model, making it at the first call.

    Parameters
    ----------
    seed : int
        Of the random weights.

    Returns
    -------
    pathlib.Path
        A folder that `from_pretrained` loads, in the user's cache (`$XDG_CACHE_HOME/mmaupro-ext`,
        or `~/.cache/mmaupro-ext`), else in the system's folder for temporary files.
    """
    name = f"{NAME}-recipe{RECIPE}-seed{seed}-transformers{transformers.__version__}"
    for base in (cache_dir(), Path(tempfile.gettempdir()) / f"mmaupro-ext-{_user_name()}"):
        folder = base / name
        if folder.is_dir():
            return folder
        try:
            base.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=base))
        except OSError as error:
            logger.info("cannot keep %s in %s (%s)", NAME, base, error)
            continue
        return _save(seed, unfinished, folder)
    raise OSError(f"neither the user's cache nor {tempfile.gettempdir()} can be written")


def _save(seed: int, unfinished: Path, folder: Path) -> Path:
    """Write into `unfinished` and rename, so that no process ever sees half a model."""
    try:
        model, processor = make(seed)
        model.save_pretrained(unfinished)
        processor.save_pretrained(unfinished)
        unfinished.chmod(0o755)  # mkdtemp keeps others out
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _user_name() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
