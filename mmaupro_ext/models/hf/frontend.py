"""Who turns clips into features: this package, or soxr and the model's own extractor."""

from __future__ import annotations

import copy
from typing import Any

from mmaupro_ext import features
from mmaupro_ext.audio.decoding import AudioReader
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.hf.preparing import Preparer

RESAMPLERS = {"native": "native", "stock": "soxr"}  # of each frontend


class Frontend:
    """The feature extractor of a processor, native or stock.

    Parameters
    ----------
    name : {"native", "stock"}
        The one that is wanted; the extractor of the processor is replaced where it is the native one.
    processor : transformers.ProcessorMixin
        Of the checkpoint.
    attribute : str
        What it calls its extractor.
    described : bool
        Whether the family is described here: otherwise an extractor without a native one stays.

    Attributes
    ----------
    name : str
        The frontend in use.
    note : str or None
        Why it is not the one that was wanted.

    Raises
    ------
    ConfigError
        When the frontend cannot be had.
    """

    def __init__(self, name: str, processor: Any, attribute: str, described: bool) -> None:
        self.name, self.note = name, None
        self._attribute = attribute
        self._stock = getattr(processor, attribute)
        try:
            self._put(name, processor)
        except ConfigError as error:
            if described or name == "stock":
                raise
            self.name, self.note = "stock", f"frontend=stock: {error}"

    @property
    def sampling_rate(self) -> int:
        """At which the model hears, in Hz."""
        return int(self._stock.sampling_rate)

    @property
    def resampler(self) -> str:
        """What resamples for it."""
        return RESAMPLERS[self.name]

    def of(self, name: str, preparer: Preparer) -> Preparer:
        """Return a copy of a preparer with this or the other frontend, to compare the two."""
        if preparer.placer is None:
            raise ConfigError("a model that takes no audio has no frontend")
        other = preparer.clone()
        self._put(name, other.processor)
        reader = preparer.placer.reader
        other.placer = copy.copy(preparer.placer)
        other.placer.reader = AudioReader(
            reader.sampling_rate, RESAMPLERS[name], 0, reader.channels
        )
        return other

    def _put(self, name: str, processor: Any) -> None:
        extractor = self._stock
        if name == "native":
            extractor = features.native_extractor(extractor)
        elif features.is_native(extractor):
            raise ConfigError(
                f"frontend=stock: {type(extractor).__name__} of transformers cannot be made here. "
                "Install what it asks for (torchaudio), or leave frontend out for the native one."
            )
        setattr(processor, self._attribute, extractor)
