"""What must be known about a family of audio models, as data.

`Writing` says how clips are written into a prompt, which every engine must know; `Loading` how a
checkpoint is loaded and mended, which is the affair of hf-audio alone. Neither they nor the modules of
the families import torch or transformers before a checkpoint is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

CountTokens = Callable[[Sequence[int]], Iterable[int]]


def each(count: Callable[[int], int]) -> CountTokens:
    """Return a token count for all blocks of a prompt from one for a single block."""
    return partial(map, count)


@dataclass(frozen=True)
class Writing:
    """How the clips of a family are written into a prompt.

    Parameters
    ----------
    audio_block : str
        What the chat template writes, and the processor expects, for one block of audio.
    audio_token : str
        The token that the processor repeats once per audio embedding.
    count_tokens : callable
        Samples of each block of one prompt (sequence of int) to the number of audio tokens of each
        (iterable of int). `each` makes it of a function for one block.
    whole_s : float or None
        The longest clip, in seconds, that the processor and model take whole their own way; None
        when there is no limit.
    exact_count : bool
        Whether `count_tokens` is the processor's own count, and not an estimate; then every prompt
        is checked against it.
    window_s : float
        Length of a block in seconds where a clip is cut into windows.
    sampling_rate : int
        At which its checkpoints hear, in Hz, for what is said before one is loaded.
    block_label : str
        Written before each block, with `{number}` counted from 1 over the whole prompt.
    label_alone : bool
        Whether a block that is the only one has its label, too: whether the chat template writes it.
    block_end : str
        Written after each block that another one follows.
    template_block_end : str
        What the chat template writes after each block by itself.
    block_sentence : str
        Around the `{sentence}` that explains blocks, which follows the last one.
    min_samples : int
        The shortest block that leaves at least one audio token; shorter ones are followed by
        silence up to this length.
    max_blocks : int, optional
        How many blocks of audio the processor takes in one prompt; default: any number.
    """

    audio_block: str
    audio_token: str
    count_tokens: CountTokens
    whole_s: float | None
    exact_count: bool = True
    window_s: float = 30.0
    sampling_rate: int = 16_000
    block_label: str = "Audio {number}: "
    label_alone: bool = False
    block_end: str = "\n"
    template_block_end: str = ""
    block_sentence: str = "\n{sentence}\n"
    min_samples: int = 1
    max_blocks: int | None = None


@dataclass(frozen=True)
class Loading:
    """How checkpoints of a family are loaded and mended, and how their passes are batched.

    hf-audio asks no question about the model type: whatever differs between families is a field here
    or in `Writing`. A field that is a function is there because no number or word would do.

    Parameters
    ----------
    loader : str or type
        Name of the class in `transformers` that loads them for generation from text and audio, or, in a
        family that a user wrote, the class itself.
    requires : tuple of (str, str)
        Package to import and why, for what the model itself cannot do without.
    load_options : mapping
        For the model's `from_pretrained`, beside the user's.
    extractor : str
        Attribute of the processor that holds the feature extractor; its `sampling_rate` (Hz) is
        the rate at which the model hears.
    extractor_window : bool
        Whether the extractor's `n_samples` bounds `whole_s` and `window_s`: checkpoints with a
        shorter window exist.
    processor_limit : str or None
        Attribute of the processor that says `whole_s` for a checkpoint, in seconds.
    audio_options : mapping
        For the processor's `audio_kwargs`, beside the sampling rate.
    template_content : {"parts", "text"}
        How the chat template gets a message: as typed parts, or as one text with `audio_block`
        where audio stands, for templates that take text only or do not leave audio in its place.
    render_chat : callable, optional
        `(processor, messages, add_generation_prompt)` -> str, for models without a chat template;
        the content of messages is typed parts.
    turn_end : str, optional
        The token that ends the model's turn, where it is not the first one that the chat template
        writes after an answer.
    encode : callable, optional
        `(processor, text, options)` -> inputs of one prompt, for processors that do not take text
        and audio in one call; `options` are the keyword arguments that others take.
    padded_inputs : mapping
        Name of an input that is not per token -> the axis along which prompts of different audio
        length may be padded with zeros into one batch. Only where a test shows that a prompt's
        result does not depend on that padding; all else goes in batches of equal shape.
    padded_prompts : bool
        Whether prompts of different length go into one batch; not where inputs count positions in the
        prompt, which padding would move.
    padded_if : callable, optional
        Inputs of one prompt -> whether that is so for this prompt; default: for all.
    positions : {"plain", "mrope"}
        How a continuation after a cached prompt counts positions (see `likelihood`).
    rope_limit : callable, optional
        The model's configuration -> how many positions its usual rotary embedding is for, or None.
        In a pass over more, all positions are turned otherwise (LongRoPE): what is on one side of
        the limit shares no batch with what is on the other.
    shared_prefix : bool
        Whether continuations can be scored on the cache of their prompt, and prompts go on from what
        another one left: whether the model reads several tokens behind a cache.
    adapt_tokenizer : callable, optional
        Mend the loaded tokenizer in place, before anything is encoded.
    adapt_processor : callable, optional
        Mend the loaded processor in place where the stock one goes wrong.
    adapt_model : callable, optional
        Mend the loaded model likewise, and return what must stand by its scores, or None: for
        example that a package was missing and what is lost without it.
    before_forward : callable, optional
        `(model, kinds)` before every pass, with the kinds of media in it ("audio", "visual"): for
        models that switch their adapters.
    """

    loader: Any
    requires: tuple[tuple[str, str], ...] = ()
    load_options: Mapping[str, Any] = field(default_factory=dict)
    extractor: str = "feature_extractor"
    extractor_window: bool = False
    processor_limit: str | None = None
    audio_options: Mapping[str, Any] = field(default_factory=dict)
    template_content: Literal["parts", "text"] = "parts"
    render_chat: Callable[[Any, list[dict[str, Any]], bool], str] | None = None
    turn_end: str | None = None
    encode: Callable[[Any, str, dict[str, Any]], Mapping[str, Any]] | None = None
    padded_inputs: Mapping[str, int] = field(default_factory=dict)
    padded_prompts: bool = True
    padded_if: Callable[[Mapping[str, Any]], bool] | None = None
    positions: Literal["plain", "mrope"] = "plain"
    rope_limit: Callable[[Any], int | None] | None = None
    shared_prefix: bool = True
    adapt_tokenizer: Callable[[Any], None] | None = None
    adapt_processor: Callable[[Any], None] | None = None
    adapt_model: Callable[[Any], str | None] | None = None
    before_forward: Callable[[Any, frozenset[str]], None] | None = None


@dataclass(frozen=True)
class Family:
    """One family of audio models.

    Parameters
    ----------
    model_types : tuple of str
        `config.model_type` of the checkpoints; the first one names the family.
    writing : Writing
        How clips are written into a prompt.
    loading : Loading
        How a checkpoint is loaded and mended.
    notes : tuple of str
        What a reader should know about the stock behaviour, with its source.
    """

    model_types: tuple[str, ...]
    writing: Writing
    loading: Loading
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The first model type: what the results call the family."""
        return self.model_types[0]
