"""Passes of one model: on its device, in its precision, with the adapters that the media want."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmaupro_ext.failing import is_out_of_memory
from mmaupro_ext.models.families.family import Loading
from mmaupro_ext.models.hf import batching
from mmaupro_ext.models.hf.batching import Inputs
from mmaupro_ext.models.hf.counts import Counts
from mmaupro_ext.models.hf.encoder_cache import EncoderCache
from mmaupro_ext.models.hf.memory import Budget
from mmaupro_ext.models.hf.preparing import PreparedPrompt

# Prompts are read together up to so many tokens, which fill a device: with more, padding costs more than the
# calls that are saved, and prompts of different length need a mask, which the fastest kernels for attention
# do not take (48 clips on an H100: 2,048 and 4,096 alike, 8,192 4 % slower, without a bound a quarter).
FILLING = 4096
# Of torch's kernels for attention on a GPU, those that plan nothing: cuDNN's plan each shape anew, and hardly
# any prompt has the length of another one (the same clips: 9 % slower).
ATTENTION = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)


class Passes:
    """What every pass over prepared inputs needs.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Decoder-only.
    device : torch.device
        Where it is.
    pad_token_id : int
        Fills shorter prompts.
    autocast : torch.dtype or None
        Of mixed precision, if the user wants it.
    loading : Loading or None
        Of the family: what is switched before a pass, and what may be padded. None for models
        without audio.
    encoder_cache : EncoderCache or None
        Of the model; None where every prompt is encoded in its own pass.
    budget : Budget, optional
        Of tokens in a pass; default: one that only falls.
    captures : bool
        Whether steps may be replayed as CUDA graphs: on one GPU only.

    Attributes
    ----------
    counts : Counts
        What was done so far.
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        pad_token_id: int,
        autocast: torch.dtype | None,
        loading: Loading | None,
        encoder_cache: EncoderCache | None = None,
        budget: Budget | None = None,
        captures: bool = False,
    ) -> None:
        self.model, self.device, self.pad_token_id = model, device, pad_token_id
        self.autocast, self.loading = autocast, loading
        self._times: dict[str, float] | None = None
        self.counts = Counts()
        self.encoder_cache, self.budget = encoder_cache, budget or Budget(None)
        spread = len(set((getattr(model, "hf_device_map", None) or {}).values())) > 1
        self.captures = captures and device.type == "cuda" and not spread

    @property
    def has_axes(self) -> bool:
        """Whether positions are counted on several axes."""
        return self.loading is not None and self.loading.positions == "mrope"

    def on_axes(self, positions: torch.Tensor) -> torch.Tensor:
        """Return positions of text, shape `(prompts, tokens)`, as the model takes them."""
        return positions[None].expand(3, -1, -1) if self.has_axes else positions

    @contextlib.contextmanager
    def timed(self) -> Iterator[dict[str, float]]:
        """Give the seconds that "encoder", "prefill" and "decode" take while this is open.

        The device is waited for around each, which slows a run a little. Where audio is encoded in
        the pass of its prompt, that is part of "prefill".
        """
        times = self._times = {"encoder": 0.0, "prefill": 0.0, "decode": 0.0}
        try:
            yield times
        finally:
            self._times = None

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Take the time of one part, if somebody wants to know."""
        if self._times is None:
            yield
            return
        self._wait()
        began = time.perf_counter()
        try:
            yield
        finally:
            self._wait()
            self._times[name] += time.perf_counter() - began

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def switch(self, kinds: Iterable[str]) -> None:
        """Let the model switch its adapters for the kinds of media ("audio", "visual") in a pass."""
        if self.loading is not None and self.loading.before_forward is not None:
            self.loading.before_forward(self.model, frozenset(kinds))

    @contextlib.contextmanager
    def over(self, kinds: Iterable[str]) -> Iterator[None]:
        """Make passes over inputs with these kinds of media."""
        self.switch(kinds)
        with (
            torch.inference_mode(),
            sdpa_kernel(list(ATTENTION))
            if self.device.type == "cuda"
            else contextlib.nullcontext(),
            torch.autocast(
                device_type=self.device.type,
                dtype=self.autocast,
                enabled=self.autocast is not None,
            ),
        ):
            try:
                yield
            except Exception as error:
                if self.encoder_cache is not None and is_out_of_memory(error):
                    self.encoder_cache.clear()
                raise

    @contextlib.contextmanager
    def inputs(
        self,
        prompts: Sequence[PreparedPrompt],
        entries: Sequence[Inputs] | None = None,
        side: Literal["left", "right"] = "left",
    ) -> Iterator[Inputs]:
        """Give the inputs of one pass; audio that is known already is not encoded again in it.

        Parameters
        ----------
        prompts : sequence of PreparedPrompt
            One batch.
        entries : sequence of dict, optional
            What is read of each, where that is more than the prompt.
        side : {"left", "right"}
            Where shorter ones are padded.

        Raises
        ------
        UnbatchableError
            When they do not go together.
        """
        entries = [prompt.tensors for prompt in prompts] if entries is None else entries
        cache = self.encoder_cache
        with contextlib.ExitStack() as stack:
            took = stack.enter_context(self.budget.measured())
            with self.part("encoder"):
                rows = cache.rows_of(prompts, self) if cache is not None else None
            if cache is not None and rows is not None:
                entries = [
                    cache.without_audio(prompt, entry, self.loading)
                    for prompt, entry in zip(prompts, entries, strict=True)
                ]
            tensors = self.collate(entries, side)
            if rows is None:
                self.counts.encoded += sum(sum(prompt.blocks) for prompt in prompts)
            self.counts.prefilled(tensors["input_ids"].shape)
            if cache is not None and rows is not None:
                stack.enter_context(cache.put_in(tensors["input_ids"], rows))
            took(tensors["input_ids"].numel())
            yield tensors

    def collate(self, entries: Sequence[Inputs], side: Literal["left", "right"] = "left") -> Inputs:
        """Return the inputs of several prompts as one batch, where the model is."""
        return self.to_device(
            batching.collate(entries, self.pad_token_id, side=side, loading=self.loading)
        )

    def to_device(self, tensors: Inputs) -> Inputs:
        """Return inputs where the model is, in its dtype."""
        dtype = self.model.dtype
        return {
            name: value.to(self.device, dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }
