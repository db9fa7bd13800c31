"""From one question with references to the tensors that a model takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lm_eval.models.utils import has_bos_prefix

from mmaupro_ext import heard
from mmaupro_ext.errors import ConfigError, ItemError
from mmaupro_ext.models import inputs, placing, prompts
from mmaupro_ext.models.batching import Inputs
from mmaupro_ext.models.families import Family
from mmaupro_ext.models.items import Choices, PreparedPrompt, Question
from mmaupro_ext.models.long_audio import NO_LIMIT, LongAudio, Recording


class Preparer:
    """Decode the media of a question and turn prompt and media into a model's inputs.

    Holds nothing of the model, so that batches can be prepared ahead of the forward pass. A
    tokenizer is not to be shared between threads: each thread takes a `clone`.

    Parameters
    ----------
    processor : transformers.ProcessorMixin
        With the feature extractor that is to be used.
    family : Family or None
        None for models without audio.
    reader : AudioReader or None
        None for models without audio.
    add_bos_token : bool or None
        As in HFLM: None leaves it to the tokenizer.
    long_audio : LongAudio
        What is done with audio that does not fit into one block.
    multi_audio : {"list", "concat"}
        Whether several clips are given one by one, or joined into one recording.
    """

    def __init__(
        self,
        processor: Any,
        family: Family | None,
        reader: inputs.AudioReader | None,
        add_bos_token: bool | None,
        long_audio: LongAudio | None = None,
        multi_audio: str = "list",
    ) -> None:
        self.processor = processor
        self.family = family
        self.reader = reader
        self.add_bos_token = add_bos_token
        self.long_audio = long_audio or LongAudio()
        self.multi_audio = multi_audio

    def clone(self) -> Preparer:
        """Return a preparer with a processor of its own and the same reader."""
        other = copy.copy(self)
        other.processor = copy.deepcopy(self.processor)
        return other

    def prepare(self, question: Question, room: int = NO_LIMIT) -> PreparedPrompt:
        """Prepare one prompt.

        Parameters
        ----------
        question : Question
            The prompt and its references.
        room : int
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
        text = question.context
        options: dict[str, Any] = {}
        clips: list[inputs.Clip] = []
        recordings: list[Recording] = []
        blocks: list[inputs.Samples] = []
        if self.family is not None and self.reader is not None:
            clips = [self.reader.read(entry) for entry in question.media.get("audio", [])]
            text, signals, recordings = placing.find_recordings(
                text,
                clips,
                question,
                self.family,
                self.reader.sampling_rate,
                self.multi_audio,
            )
            budget = room - len(self.encode_text(text)) if self._fills_the_context else NO_LIMIT
            recordings = self.long_audio.plan(
                recordings, self.family, budget, self._tokens_beside(budget)
            )
            if recordings:
                text = prompts.place_audio_blocks(text, recordings, self.family)
            blocks = placing.cut_blocks(signals, recordings, self.family)
            self._check_blocks(text, len(blocks), question)
        elif "audio" in question.media:
            raise ConfigError("audio for a model of which hf-audio knows no way to put audio in")
        if references := question.media.get("visual"):
            options["images"] = [inputs.read_image(reference) for reference in references]
            text = self._write_images(text, len(references), question)
        if text_options := self._text_options(text):
            options["text_kwargs"] = text_options
        tensors = self._encode(text, blocks, options)
        return PreparedPrompt(
            text,
            tensors,
            clips,
            [entry.blocks for entry in recordings],
            inputs.names_of(question.media),
            self._record(clips, recordings, tensors) if clips else None,
            frozenset(question.media),
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

    # ---- audio into the prompt ----------------------------------------------------------------

    @property
    def _fills_the_context(self) -> bool:
        return self.long_audio.policy == "uniform"

    def _tokens_beside(self, budget: int) -> int:
        """Return how many text tokens an audio block brings with it, its times included."""
        if budget == NO_LIMIT or self.family is None:
            return 0
        label = self.family.block_label.format(number=10) + self.family.block_end
        return len(self.encode_text(label + " Audio 10 from 10:00 to 10:30,")) + 2

    def _check_blocks(self, text: str, blocks: int, question: Question) -> None:
        assert self.family is not None
        most = self.family.max_blocks
        if most is not None and blocks > most:
            raise ItemError(
                f"the item has {blocks} blocks of audio, and the processor takes {most} in a prompt",
                path=inputs.names_of(question.media),
                fix="Set multi_audio=concat to join clips; long_audio=truncate hears the first part "
                "of what is too long. Nothing was cut.",
            )
        if text.count(self.family.audio_token) != blocks:
            raise ItemError(
                f"the text of the prompt contains the model's own token {self.family.audio_token}",
                path=inputs.names_of(question.media),
                fix="Take it out of the question.",
            )

    def _encode(
        self, text: str, blocks: Sequence[inputs.Samples], options: dict[str, Any]
    ) -> Inputs:
        """Let the processor make tensors of text, audio and images, and check that it took all."""
        if self.family is not None and blocks:
            assert self.reader is not None
            options["audio_kwargs"] = {
                "sampling_rate": self.reader.sampling_rate,
                **self.family.audio_options,
            }
            options["audio"] = list(blocks)
        if self.family is not None and self.family.encode is not None:
            encoded = self.family.encode(self.processor, text, options)
        else:
            encoded = self.processor(text=[text], return_tensors="pt", **options)
        tensors = {name: value for name, value in encoded.items() if torch.is_tensor(value)}
        if blocks:
            self._check_tokens(tensors, blocks)
        return tensors

    def _check_tokens(self, tensors: Inputs, blocks: Sequence[inputs.Samples]) -> None:
        """Refuse an item of which the processor took more or less audio than it was given."""
        assert self.family is not None
        found = self._audio_tokens(tensors)
        wanted = sum(self.family.count_tokens([len(block) for block in blocks]))
        if found == wanted or (not self.family.exact_count and found > 0.9 * wanted):
            return
        raise ItemError(
            f"{wanted} audio tokens stand for these clips, and the processor wrote {found}: it does "
            "not take the audio as it was given",
            fix="Run `mmaupro doctor` on this checkpoint; a smaller window_s with long_audio=windows "
            "may be within its limits.",
        )

    def _audio_tokens(self, tensors: Inputs) -> int:
        assert self.family is not None
        token = self.processor.tokenizer.convert_tokens_to_ids(self.family.audio_token)
        return int((tensors["input_ids"] == token).sum())

    def _record(
        self, clips: Sequence[inputs.Clip], recordings: Sequence[Recording], tensors: Inputs
    ) -> heard.Record:
        assert self.reader is not None
        return placing.make_record(
            clips,
            recordings,
            sampling_rate=self.reader.sampling_rate,
            audio_tokens=self._audio_tokens(tensors),
            long_audio=self.long_audio.policy,
            multi_audio=self.multi_audio,
            channels=self.reader.channels,
        )

    # ---- images -------------------------------------------------------------------------------

    def _write_images(self, text: str, images: int, question: Question) -> str:
        """Write the model's placeholder for every image."""
        text = text.replace(prompts.IMAGE_MARK, self.processor.image_token)
        places = text.count(self.processor.image_token)
        if places != images:
            raise placing.wrong_places(places, images, "images", prompts.IMAGE_MARK, question)
        return text


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
            path=prompt.files,
            fix=f"{fix}. Nothing was cut.",
        )
