"""What the audio encoder made of clips, kept for the next prompt that has the same ones.

Twelve questions on three clips need three passes of the encoder, not twelve. The same holds for the
choices of a question where each takes a whole pass, and for later runs with the same model.

No model needs code of its own here. A first pass goes up to the text part and no further: what it was to
read at the audio tokens is kept. Later passes leave the audio inputs out, and those rows are put back where
the text part takes its embeddings. That this is the same is looked at, not believed: for the first prompt,
everything that the text part is given must be equal, bit by bit, with the encoder and without it. Nor is it
believed that blocks are encoded the same beside each other and alone: the first prompt with several is
tried with two. Then a clip is found in whatever list it comes, and a window of silence once for all.

Audio beside images is encoded without them, and tried as well: there are models that encode it otherwise
then. What was found out and what is kept holds for prompts with the same kinds of media.
"""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from mmaupro_ext.failing import is_out_of_memory
from mmaupro_ext.models.families.family import Family, Loading
from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.batching import Inputs

logger = logging.getLogger(__name__)

# The one input beside tokens from which a text part with several axes counts its positions.
_FOR_POSITIONS = "feature_attention_mask"

# Kinds of media in the prompt, and the digest of features.
Key = tuple[frozenset[str], bytes]


class _ReachedError(Exception):
    """The text part was reached: its pass is not wanted."""


class EncoderCache:
    """Rows that the text part of a model reads at audio tokens, by the audio that they come from.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Decoder-only, with an audio encoder.
    audio_token_id : int
        Stands in a prompt once for each of these rows.
    max_bytes : int
        Bound on what is kept, where the model is; what was used longest ago goes first. With 0 nothing
        is, and every prompt is encoded in its own pass.
    """

    def __init__(self, model: Any, audio_token_id: int, max_bytes: int) -> None:
        self.max_bytes, self._audio_token_id, self._model = max_bytes, audio_token_id, model
        self._part = _text_part(model)
        self._tried: dict[frozenset[str], _Tried] = {}
        self._kept: OrderedDict[Key, torch.Tensor] = OrderedDict()

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any, family: Family | None, max_bytes: int
    ) -> EncoderCache | None:
        """Return one for a model of a family; None for models without audio."""
        if family is None:
            return None
        token_id = tokenizer.convert_tokens_to_ids(family.writing.audio_token)
        return cls(model, token_id, max_bytes)

    def clear(self) -> None:
        """Let go of all that is kept."""
        self._kept.clear()

    def rows_of(self, prompts: Sequence[Any], passes: Any) -> list[torch.Tensor] | None:
        """Return the rows of each prompt, after encoding what is not known yet.

        Parameters
        ----------
        prompts : sequence of PreparedPrompt
            One batch.
        passes : Passes
            Of the model; the caller has switched its adapters for these prompts.

        Returns
        -------
        list of torch.Tensor or None
            Each of shape `(audio tokens, hidden size)`; None where the prompts must be encoded in their
            own pass: media of different kinds, no audio at all, or a model that takes it in another way.
        """
        kinds, *others = {prompt.kinds for prompt in prompts}
        if others or not self.serves(kinds):
            return None
        pieces = [self._pieces_of(prompt) for prompt in prompts]
        if not all(pieces):
            return None
        tried = self._tried_with(kinds)
        new: dict[Key, torch.Tensor] = {}
        before = passes.counts.encoded
        if tried.serves is None:
            first = self._try(prompts[0], pieces[0][0], passes)
            tried.serves = first is not None
            if first is None:
                beside = "" if kinds == {"audio"} else " with images"
                logger.info("the audio of every prompt%s is encoded in its own pass", beside)
                return None
            new[pieces[0][0].key] = first
        several = next((prompt for prompt in prompts if len(prompt.audio_blocks) > 1), None)
        if tried.apart is None and several is not None:
            tried.apart = self._try_apart(several, passes)
            if tried.apart:
                pieces = [self._pieces_of(prompt) for prompt in prompts]
                if new and prompts[0].audio_blocks:
                    (rows,) = new.values()
                    new = _by_block(pieces[0], prompts[0], rows)
        by_key = {piece.key: piece for of_one in pieces for piece in of_one}
        found = {key: self._kept[key] for key in by_key if key in self._kept}
        missing = [by_key[key] for key in by_key if key not in found | new]
        try:
            new.update(self._encode_pieces(missing, passes))
        except Exception as error:
            if not tried.apart or is_out_of_memory(error):
                raise
            logger.info("blocks of audio cannot be encoded apart: %s", error)
            tried.apart = False
            return self.rows_of(prompts, passes)
        in_all = sum(sum(prompt.blocks) for prompt in prompts)
        passes.counts.encoded_before += max(0, in_all - (passes.counts.encoded - before))
        found |= new
        self._keep(found)
        return [torch.cat([found[piece.key] for piece in of_one]) for of_one in pieces]

    def _tried_with(self, kinds: frozenset[str]) -> _Tried:
        return self._tried.setdefault(kinds, _Tried())

    def _pieces_of(self, prompt: Any) -> list[_Piece]:
        """Return what is encoded of a prompt: its blocks one by one where they may be, or all together.

        Nothing where there is no audio, or none that can be told from images.
        """
        count, beside = len(prompt.audio_blocks), prompt.kinds != {"audio"}
        if count > 1 and self._tried_with(prompt.kinds).apart:
            return [_piece_of(prompt, row, row + 1, self._audio_token_id) for row in range(count)]
        if beside:
            return [_piece_of(prompt, 0, count, self._audio_token_id)] if count else []
        digest = prompt.audio_blocks[0][0] if count == 1 else prompt.media_digest
        key = (prompt.kinds, digest)
        return [_Piece(key, sum(prompt.blocks), prompt.tensors)] if digest else []

    def _encode_pieces(self, pieces: Sequence[_Piece], passes: Any) -> dict[Key, torch.Tensor]:
        encoded = self._encode([piece.tensors for piece in pieces], passes)
        passes.counts.encoded += sum(piece.blocks for piece in pieces)
        return {piece.key: rows for piece, rows in zip(pieces, encoded, strict=True)}

    def _try_apart(self, prompt: Any, passes: Any) -> bool:
        """Tell whether two blocks of a prompt are encoded the same alone as beside each other."""
        try:
            both, *alone = (
                self._encode_pieces([_piece_of(prompt, begin, end, self._audio_token_id)], passes)
                for begin, end in ((0, 2), (0, 1), (1, 2))
            )
        except Exception as error:  # whatever a model says to it, blocks go together
            if is_out_of_memory(error):
                raise
            logger.info("blocks of audio cannot be encoded apart: %s", error)
            return False
        rows = torch.cat([rows for found in alone for rows in found.values()])
        (together,) = both.values()
        same = rows.shape == together.shape and batching.close(rows, together)
        if not same:
            logger.info("blocks of audio are not the same apart, and encoded together")
        return same

    def serves(self, kinds: Set[str]) -> bool:
        """Tell whether audio may be encoded apart in prompts with these media, as far as is known."""
        if not self.max_bytes or self._part is None:
            return False
        return self._tried_with(frozenset(kinds)).serves is not False

    @staticmethod
    def without_audio(prompt: Any, entry: Inputs, loading: Loading | None) -> Inputs:
        """Return what is read of a prompt without what only its audio encoder takes."""
        left_out = prompt.audio_inputs
        if loading is not None and loading.positions == "mrope":
            left_out = left_out - {_FOR_POSITIONS}
        return {name: value for name, value in entry.items() if name not in left_out}

    @contextlib.contextmanager
    def put_in(self, ids: torch.Tensor, rows: Sequence[torch.Tensor]) -> Iterator[None]:
        """Let the next pass read these rows at its audio tokens.

        Parameters
        ----------
        ids : torch.Tensor
            Of the pass, shape `(prompts, tokens)`.
        rows : sequence of torch.Tensor
            Of each prompt.
        """
        assert self._part is not None
        heard = (ids == self._audio_token_id)[..., None]
        source = torch.cat(list(rows))

        def put(embeds: torch.Tensor) -> torch.Tensor:
            hook.remove()  # passes after the first read text
            return embeds.masked_scatter(
                heard.to(embeds.device), source.to(embeds.device, embeds.dtype)
            )

        hook = self._hook(put)
        try:
            yield
        finally:
            hook.remove()

    def _keep(self, used: Mapping[Key, torch.Tensor]) -> None:
        for key, rows in used.items():
            self._kept[key] = rows
            self._kept.move_to_end(key)
        while sum(rows.nbytes for rows in self._kept.values()) > self.max_bytes:
            self._kept.popitem(last=False)

    # ---- passes that end where the text part begins -------------------------------------------

    def _encode(self, entries: list[Inputs], passes: Any) -> list[torch.Tensor]:
        """Return the rows of inputs, encoded together where their audio goes together."""
        if not entries:
            return []
        try:
            tensors = passes.collate(entries)
        except batching.UnbatchableError:
            return [
                rows
                for part in batching.halves(entries)
                for rows in self._encode(list(part), passes)
            ]
        embeds = self._embeds(*self._given(tensors))
        heard = tensors["input_ids"] == self._audio_token_id
        # Clones, so that the rows do not keep the embeddings of the whole batch.
        return [row[where.to(row.device)].clone() for row, where in zip(embeds, heard, strict=True)]

    def _try(self, prompt: Any, piece: _Piece, passes: Any) -> torch.Tensor | None:
        """Return the rows of a prompt if the text part is given the same with them as with the encoder."""
        whole = passes.collate([prompt.tensors])
        bare = passes.collate([self.without_audio(prompt, prompt.tensors, passes.loading)])
        passes.counts.encoded += piece.blocks
        try:
            first = self._given(whole)
            embeds = self._embeds(*first)
            heard = whole["input_ids"] == self._audio_token_id
            rows = embeds[heard.to(embeds.device)]
            if piece.tensors is not prompt.tensors:
                (alone,) = self._encode_pieces([piece], passes).values()
                if not torch.equal(rows, alone):
                    return None
            with self.put_in(bare["input_ids"], [rows]):
                second = self._given(bare)
        except Exception as error:  # whatever a model says to it, encoder and text part go together
            if is_out_of_memory(error):
                raise
            logger.info("audio cannot be encoded apart: %s", error)
            return None
        ours, theirs = tree_leaves(first), tree_leaves(second)
        same = len(ours) == len(theirs) and all(map(_equal, ours, theirs))
        return rows if same else None

    def _given(self, tensors: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return what the text part is given in a pass over these inputs, and end the pass there."""
        given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def reach(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            given.append((args, kwargs))
            raise _ReachedError

        assert self._part is not None
        hook = self._part.register_forward_pre_hook(reach, with_kwargs=True)
        try:
            self._model(**tensors, use_cache=False)
        except _ReachedError:
            return given[0]
        finally:
            hook.remove()
        raise RuntimeError("the text part was not called")

    @staticmethod
    def _embeds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
        found = kwargs.get("inputs_embeds", args[0] if args else None)
        if not torch.is_tensor(found) or found.ndim != 3:
            raise TypeError("the text part takes no embeddings of shape (prompts, tokens, size)")
        return found

    def _hook(self, put: Any) -> Any:
        assert self._part is not None

        def change(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            embeds = put(self._embeds(args, kwargs))
            if "inputs_embeds" in kwargs:
                return args, kwargs | {"inputs_embeds": embeds}
            return (embeds, *args[1:]), kwargs

        return self._part.register_forward_pre_hook(change, with_kwargs=True)


@dataclass
class _Tried:
    """What is known of prompts with some kinds of media; None before the first that shows it."""

    serves: bool | None = None
    apart: bool | None = None  # shown by a prompt with several blocks


@dataclass(frozen=True, eq=False)
class _Piece:
    """Audio that is encoded together: one block, or all of a prompt."""

    key: Key
    blocks: int
    tensors: Inputs


def _piece_of(prompt: Any, begin: int, end: int, audio_token_id: int) -> _Piece:
    """Return some blocks of a prompt, with their tokens and those on either side, which models look for."""
    ids = prompt.tensors["input_ids"][0]
    heard = ids == audio_token_id
    number = heard.cumsum(0)
    before = sum(count for _, count in prompt.audio_blocks[:begin])
    count = sum(count for _, count in prompt.audio_blocks[begin:end])
    own = heard & (number > before) & (number <= before + count)
    near = own.clone()
    near[1:] |= own[:-1]
    near[:-1] |= own[1:]
    places = (own | (near & ~heard)).nonzero()[:, 0]
    tensors = {
        name: value[:, places] if name in batching.PER_TOKEN_INPUTS else value[begin:end]
        for name, value in prompt.tensors.items()
        if name in batching.PER_TOKEN_INPUTS or name in prompt.audio_inputs
    }
    digest = b"".join(digest for digest, _ in prompt.audio_blocks[begin:end])
    return _Piece((prompt.kinds, digest), end - begin, tensors)


def _by_block(pieces: Sequence[_Piece], prompt: Any, rows: torch.Tensor) -> dict[Key, torch.Tensor]:
    """Return block by block what was encoded of a prompt before it was known that this may be."""
    parts = rows.split([count for _, count in prompt.audio_blocks])
    return {piece.key: part.clone() for piece, part in zip(pieces, parts, strict=True)}


def _equal(one: Any, other: Any) -> bool:
    """Tell whether two arguments are the same, as far as they are tensors."""
    if torch.is_tensor(one) and torch.is_tensor(other):
        return torch.equal(one, other)
    return torch.is_tensor(one) == torch.is_tensor(other)


def _text_part(model: Any) -> Any | None:
    """Return the module that is given the embeddings of text and audio together."""
    named = (part for name, part in model.named_modules() if name.endswith("language_model"))
    if (part := next(named, None)) is not None:
        return part
    # A model without a text part of its own (Phi-4): its first layer.
    layers = getattr(model.get_decoder(), "layers", None) if hasattr(model, "get_decoder") else None
    return layers[0] if layers else None
