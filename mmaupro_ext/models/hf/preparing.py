"""From one question with references to the tensors that a model takes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from lm_eval.models.utils import has_bos_prefix

from mmaupro_ext.audio.decoding import Decoded, Samples
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.heard import Record
from mmaupro_ext.models.blocks import IMAGE_MARK, Placed, Placer, wrong_places
from mmaupro_ext.models.families.family import Loading, Writing
from mmaupro_ext.models.hf.batching import PER_TOKEN_INPUTS, Inputs
from mmaupro_ext.models.items import Question
from mmaupro_ext.models.media import names_of, read_image
from mmaupro_ext.models.windows import NO_LIMIT


@dataclass
class PreparedPrompt:
    """One prompt with its media, ready for the model; tensors are on the CPU.

    Parameters
    ----------
    text : str
        The prompt with the model's own placeholders, one per audio block and image.
    tensors : dict
        The processor's output for this prompt alone.
    clips : list of Decoded
        What was decoded for it.
    blocks : list of int
        How many audio blocks each recording takes (a clip, or clips joined).
    media : mapping
        The references of its question by kind.
    heard : dict or None
        The record of what is given of its clips; None without audio.
    media_digest : bytes
        What tells its audio and images from those of other prompts, by every byte of the features.
    media_end : int
        How many tokens there are up to the last one that stands for audio or an image.
    audio_blocks : list of (bytes, int)
        For each block of audio, what tells its features from those of others, and its tokens; empty where
        inputs have no row for each block.
    audio_inputs : frozenset of str
        Names of the tensors that are there for its audio, and not for each token.
    """

    text: str
    tensors: Inputs
    clips: list[Decoded]
    blocks: list[int]
    media: Mapping[str, list[Any]]
    heard: Record | None = None
    media_digest: bytes = b""
    media_end: int = 0
    audio_blocks: list[tuple[bytes, int]] = field(default_factory=list)
    audio_inputs: frozenset[str] = frozenset()

    @property
    def kinds(self) -> frozenset[str]:
        """Kinds of its media."""
        return frozenset(self.media)

    @property
    def length(self) -> int:
        """Tokens of the prompt, audio and image tokens included."""
        return int(self.tensors["input_ids"].shape[1])


@dataclass
class Choices:
    """A prepared prompt with the token ids of the continuations to be scored after it."""

    prompt: PreparedPrompt
    continuations: list[list[int]]


class Preparer:
    """Turn the prompt of a question, with its media in their places, into a model's inputs.

    Holds nothing of the model, so that batches can be prepared ahead of the forward pass. A
    tokenizer is not to be shared between threads: each thread takes a `clone`.

    Parameters
    ----------
    processor : transformers.ProcessorMixin
        With the feature extractor that is to be used.
    loading : Loading or None
        Of the family; None for models without audio.
    placer : Placer or None
        Reads clips and puts them into the prompt; None for models without audio.
    add_bos_token : bool or None
        As in HFLM: None leaves it to the tokenizer.
    """

    def __init__(
        self,
        processor: Any,
        loading: Loading | None,
        placer: Placer | None,
        add_bos_token: bool | None,
    ) -> None:
        self.processor = processor
        self.loading = loading
        self.placer = placer
        self.add_bos_token = add_bos_token

    def clone(self) -> Preparer:
        """Return a preparer with a processor of its own and the same reader of clips."""
        other = copy.copy(self)
        other.processor = copy.deepcopy(self.processor)
        return other

    def prepare(self, question: Question, max_tokens: int = NO_LIMIT) -> PreparedPrompt:
        """Prepare one prompt.

        Parameters
        ----------
        question : Question
            The prompt and its references.
        max_tokens : int
            How many tokens the prompt may have; looked at where audio is to fill the context.

        Returns
        -------
        PreparedPrompt
            For this prompt alone.

        Raises
        ------
        ItemError, OSError
            When this item cannot be served.
        """
        placed = self._place(question, max_tokens)
        text = placed.text if placed else question.context
        blocks = placed.blocks if placed else []
        images = [read_image(reference) for reference in question.media.get("visual", [])]
        if images:
            text = self._write_images(text, len(images), question)
        tensors = self._encode(text, blocks, images)
        audio_inputs = self._audio_inputs(tensors, bool(images)) if blocks else frozenset()
        heard = placed.heard if placed else None
        if heard is not None:
            heard["audio_tokens"] = self._audio_tokens(tensors)
        return PreparedPrompt(
            text,
            tensors,
            placed.clips if placed else [],
            [entry.blocks for entry in placed.recordings] if placed else [],
            question.media,
            heard,
            _media_digest(tensors) if blocks or images else b"",
            self._media_end(tensors["input_ids"][0], bool(blocks), bool(images)),
            self._audio_blocks({name: tensors[name] for name in audio_inputs}, blocks),
            audio_inputs,
        )

    def prepare_choices(self, question: Question, max_length: int) -> Choices:
        """Prepare one prompt and the token ids of its continuations.

        Parameters
        ----------
        question : Question
            With its continuations.
        max_length : int
            Tokens that the model takes.

        Returns
        -------
        Choices
            For this prompt alone.

        Raises
        ------
        ItemError, OSError
            When this item cannot be served.
        """
        # lm_eval moves blanks at the end of the context to the continuation, so that words keep
        # their usual tokens; the ids come from encoding both together.
        context = question.context.rstrip()
        blanks = question.context[len(context) :]
        before = len(self.encode_text(context))
        continuations = [
            self.encode_text(context + blanks + continuation)[before:]
            for continuation in question.continuations
        ]
        if not all(continuations):
            raise ItemError("a continuation has no token", fix="Give every choice text.")
        # The last token is predicted, not read.
        more = max(len(tokens) for tokens in continuations) - 1
        prompt = self.prepare(Question(context, question.media), max_length - more)
        check_context(prompt, more, "continuation", max_length)
        return Choices(prompt, continuations)

    def encode_text(self, text: str) -> list[int]:
        """Return the token ids of a text with the model's control tokens in it."""
        return self.processor.tokenizer.encode(text, **self._text_options(text))

    def _text_options(self, text: str) -> dict[str, bool]:
        if has_bos_prefix(text, self.processor.tokenizer.bos_token):
            return {"add_special_tokens": False}
        return {} if self.add_bos_token is None else {"add_special_tokens": self.add_bos_token}

    def _place(self, question: Question, max_tokens: int) -> Placed | None:
        if self.placer is not None:
            return self.placer.place(
                question,
                question.context,
                max_tokens=max_tokens,
                tokens_of=lambda text: len(self.encode_text(text)),
            )
        if "audio" in question.media:
            raise ConfigError("audio for a model of which hf-audio knows no way to put audio in")
        return None

    @property
    def _writing(self) -> Writing:
        assert self.placer is not None
        return self.placer.writing

    def _write_images(self, text: str, images: int, question: Question) -> str:
        """Write the model's placeholder for every image."""
        text = text.replace(IMAGE_MARK, self.processor.image_token)
        places = text.count(self.processor.image_token)
        if places != images:
            raise wrong_places(places, images, "images", IMAGE_MARK, question)
        return text

    def _encode(self, text: str, blocks: Sequence[Samples], images: Sequence[Any]) -> Inputs:
        """Let the processor make tensors of text, audio and images, and check that it took all."""
        options: dict[str, Any] = {}
        if images:
            options["images"] = list(images)
        if text_options := self._text_options(text):
            options["text_kwargs"] = text_options
        loading = self.loading
        if loading is not None and self.placer is not None and blocks:
            options["audio_kwargs"] = {
                "sampling_rate": self.placer.reader.sampling_rate,
                **loading.audio_options,
            }
            options["audio"] = list(blocks)
        if loading is not None and loading.encode is not None:
            encoded = loading.encode(self.processor, text, options)
        else:
            encoded = self.processor(text=[text], return_tensors="pt", **options)
        tensors = {name: value for name, value in encoded.items() if torch.is_tensor(value)}
        if blocks:
            self._check_tokens(tensors, blocks)
        return tensors

    def _check_tokens(self, tensors: Inputs, blocks: Sequence[Samples]) -> None:
        """Refuse an item of which the processor took more or less audio than it was given."""
        writing = self._writing
        found = self._audio_tokens(tensors)
        wanted = sum(writing.count_tokens([len(block) for block in blocks]))
        if found == wanted or (not writing.exact_count and found > 0.9 * wanted):
            return
        raise ItemError(
            f"{wanted} audio tokens stand for these clips, and the processor wrote {found}: it does "
            "not take the audio as it was given",
            fix="Run `mmaupro doctor` on this checkpoint; a smaller window_s with long_audio=windows "
            "may be within its limits.",
        )

    def _audio_tokens(self, tensors: Inputs) -> int:
        token = self.processor.tokenizer.convert_tokens_to_ids(self._writing.audio_token)
        return int((tensors["input_ids"] == token).sum())

    def _media_end(self, ids: torch.Tensor, has_audio: bool, has_images: bool) -> int:
        names = [self._writing.audio_token] if has_audio else []
        names += [self.processor.image_token] if has_images else []
        end = 0
        for token in self.processor.tokenizer.convert_tokens_to_ids(names):
            places = (ids == token).nonzero()
            if not len(places):  # something else stands for it: it cannot be told where it ends
                return len(ids)
            end = max(end, int(places[-1]) + 1)
        return end

    def _audio_inputs(self, tensors: Inputs, has_images: bool) -> frozenset[str]:
        of_images = self.processor.image_processor.model_input_names if has_images else ()
        return frozenset(tensors).difference(PER_TOKEN_INPUTS, of_images)

    def _audio_blocks(self, features: Inputs, blocks: Sequence[Samples]) -> list[tuple[bytes, int]]:
        rows = {value.shape[0] if value.ndim else 0 for value in features.values()}
        if not blocks or rows != {len(blocks)} or not self._writing.exact_count:
            return []
        tokens = [*self._writing.count_tokens([len(block) for block in blocks])]
        if not all(tokens):
            return []
        return [
            (_media_digest({name: value[row] for name, value in features.items()}), count)
            for row, count in enumerate(tokens)
        ]


def _media_digest(tensors: Inputs) -> bytes:
    """Return what tells media from others: their features, by every byte."""
    hasher = hashlib.blake2b(digest_size=16)
    for name in sorted(set(tensors) - set(PER_TOKEN_INPUTS)):
        value = tensors[name].contiguous()
        hasher.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        hasher.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return hasher.digest()


def check_context(prompt: PreparedPrompt, more: int, what: str, max_length: int) -> None:
    """Raise ItemError if a prompt and what comes after it do not fit into the context.

    Parameters
    ----------
    prompt : PreparedPrompt
        With its audio.
    more : int
        Tokens after it.
    what : str
        What they are, for the message.
    max_length : int
        Tokens that the model takes.
    """
    needed = prompt.length + more
    if needed > max_length:
        fix = "Use a model with a longer context, or set max_length in --model_args if this one takes more"
        if prompt.heard is not None:
            fix += ", or long_audio=uniform to hear as many windows as fit"
        raise ItemError(
            f"prompt and {what} need {needed} tokens ({prompt.length} + {more}), the model takes "
            f"{max_length}",
            path=names_of(prompt.media),
            fix=f"{fix}. Nothing was cut.",
        )
