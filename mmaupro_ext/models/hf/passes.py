"""Passes of one model: on its device, in its precision, with the adapters that the media want."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from mmaupro_ext.models.families.family import Loading
from mmaupro_ext.models.hf.batching import Inputs


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
    """

    def __init__(
        self,
        model: Any,
        device: torch.device,
        pad_token_id: int,
        autocast: torch.dtype | None,
        loading: Loading | None,
    ) -> None:
        self.model, self.device, self.pad_token_id = model, device, pad_token_id
        self.autocast, self.loading = autocast, loading

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
            torch.autocast(
                device_type=self.device.type,
                dtype=self.autocast,
                enabled=self.autocast is not None,
            ),
        ):
            yield

    def to_device(self, tensors: Inputs) -> Inputs:
        """Return inputs where the model is, in its dtype."""
        dtype = self.model.dtype
        return {
            name: value.to(self.device, dtype if value.is_floating_point() else None)
            for name, value in tensors.items()
        }
