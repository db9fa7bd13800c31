"""Native drop-ins for the feature extractors of transformers.

:func:`native_extractor` takes a stock extractor and returns one that behaves the same (class,
attributes, keyword arguments, keys, shapes, types, masks) with the arithmetic done by the native
kernel. Only what is known to be equal is replaced; anything else is refused with the way out
(``frontend=stock``).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import families
from mmaupro_ext.features.whisper import (
    HOP_LENGTH,
    N_FFT,
    SAMPLING_RATE,
    SHORTEST,
    extract_into,
    plan_of_filters,
)
from mmaupro_ext.native.logmel import Plan

if TYPE_CHECKING:
    from transformers import WhisperFeatureExtractor
    from transformers.feature_extraction_utils import BatchFeature

_log = logging.getLogger(__name__)

_STOCK_WAY_OUT = "use frontend=stock to keep the library's own extractor"
# Settings of a stock extractor that the kernel has built in.
_SETTINGS = {
    "n_fft": N_FFT,
    "hop_length": HOP_LENGTH,
    "sampling_rate": SAMPLING_RATE,
    "dither": 0.0,
}
# Methods whose behaviour the drop-in repeats; a subclass that changes one is another extractor.
_REPEATED = (
    "__call__",
    "pad",
    "_pad",
    "_truncate",
    "_get_padding_strategies",
    "_torch_extract_fbank_features",
    "_np_extract_fbank_features",
    "zero_mean_unit_var_norm",
)


def native_extractor(stock: Any) -> Any:
    """Return a drop-in for a stock feature extractor that computes with the native kernel.

    Parameters
    ----------
    stock : transformers.SequenceFeatureExtractor
        The extractor of a checkpoint: Whisper's, with any number of mel bands, chunk length and
        padding options, or one of :data:`mmaupro_ext.features.families.MODULES`. It is not changed.

    Returns
    -------
    transformers.SequenceFeatureExtractor
        An instance of a subclass of ``type(stock)`` with the same attributes. Calling it gives the
        stock keys, shapes, types and masks; features differ from the stock ones by float32 rounding
        (at most 1e-4, about 3e-8 on average). Samples are taken by value, as the stock extractor
        takes them: integers are not scaled. It differs on purpose in refusing what the stock
        extractor would turn into nonsense: NaN and infinite samples, several channels in one audio,
        an empty batch. It can be pickled, copied and saved (under the stock name).

    Raises
    ------
    ConfigError
        If the class, or a setting of the extractor (frame, hop, sampling rate, dither, filter
        bank), is one that the kernel does not compute.
    """
    from transformers import WhisperFeatureExtractor

    if isinstance(stock, _NativeWhisper):
        return stock
    kind = type(stock)
    repeats_whisper = isinstance(stock, WhisperFeatureExtractor) and all(
        getattr(kind, name) is getattr(WhisperFeatureExtractor, name) for name in _REPEATED
    )
    if not repeats_whisper:
        return families.drop_in(stock)  # of another family, or the error that there is none
    _check_settings(stock)
    try:
        plan = plan_of_filters(stock.mel_filters)
    except ConfigError as error:
        raise ConfigError(f"{kind.__qualname__}.mel_{error}; {_STOCK_WAY_OUT}") from error
    # The class keeps its name: save_pretrained writes it, and the loader looks it up.
    native_kind: Any = type(
        kind.__name__,
        (_NativeWhisper, kind),
        {"__module__": kind.__module__, "__doc__": kind.__doc__, "native_plan": plan},
    )
    native = object.__new__(native_kind)
    native.__dict__.update(copy.copy(stock.__dict__))
    return native


def is_native(extractor: Any) -> bool:
    """Tell whether an extractor computes with the native kernel."""
    return isinstance(extractor, (_NativeWhisper, families.NativeFamily))


class _NativeWhisper:
    """The part of the drop-in that stands before WhisperFeatureExtractor."""

    native_plan: Plan  # on the class, so that to_dict does not find it

    def __call__(
        self: Any,
        raw_speech: Any,
        truncation: bool = True,
        pad_to_multiple_of: int | None = None,
        return_tensors: Any = None,
        return_attention_mask: bool | None = None,
        padding: Any = "max_length",
        max_length: int | None = None,
        sampling_rate: int | None = None,
        do_normalize: bool | None = None,
        device: str | None = "cpu",
        **kwargs: Any,
    ) -> BatchFeature:
        """Return the features of one audio or a batch; arguments as in WhisperFeatureExtractor.

        ``device`` is ignored: the work is done on the processor.
        """
        from transformers.feature_extraction_utils import BatchFeature
        from transformers.utils import PaddingStrategy

        _check_settings(self)
        if sampling_rate is None:
            _log.warning(
                "%s was called without sampling_rate; audio at another rate than %d Hz gives wrong "
                "features unnoticed",
                type(self).__name__,
                self.sampling_rate,
            )
        elif sampling_rate != self.sampling_rate:
            raise AudioError(
                f"{type(self).__name__} is defined at {self.sampling_rate} Hz, but the audio is at "
                f"{sampling_rate} Hz",
                fix=f"Convert it first: mmaupro_ext.audio.resample(x, {sampling_rate}, "
                f"{self.sampling_rate})",
            )
        waves = _waves(raw_speech)

        virtual_padding = self.padding_value == 0.0 and self.padding_side == "right"
        if do_normalize or not virtual_padding:
            # Rare: the padding is not the zeros that the kernel adds for nothing. Let the stock
            # code pad, and only the features be native.
            stock: Any = super()
            return stock.__call__(
                waves,
                truncation=truncation,
                pad_to_multiple_of=pad_to_multiple_of,
                return_tensors=return_tensors,
                return_attention_mask=return_attention_mask,
                padding=padding,
                max_length=max_length,
                sampling_rate=self.sampling_rate,
                do_normalize=do_normalize,
            )

        limit = _round_up(max_length or self.n_samples, pad_to_multiple_of)
        if truncation:
            waves = [wave[:limit] for wave in waves]
        strategy = self._get_padding_strategies(padding=padding, max_length=limit)
        if strategy == PaddingStrategy.LONGEST:
            limit = _round_up(max(wave.size for wave in waves), pad_to_multiple_of)
        elif strategy == PaddingStrategy.DO_NOT_PAD:
            limit = 0
        lengths = {max(wave.size, limit) for wave in waves}
        if len(lengths) > 1:
            raise AudioError(
                f"the audios of this call have {len(lengths)} different lengths (in samples, from "
                f"{min(lengths)} to {max(lengths)}), which make no array",
                fix="Pass padding='longest', or truncation=True with padding='max_length'",
            )
        (length,) = lengths
        data: dict[str, Any] = {"input_features": self._native_features(waves, length)}

        # The stock rule to the letter: False with do_normalize=None means "as configured", and
        # a mask that was not asked for by argument counts samples, not frames.
        masked = return_attention_mask or do_normalize
        if self.return_attention_mask if masked is None else masked:
            step = HOP_LENGTH if return_attention_mask else 1
            positions = np.arange(length // step) * step
            sizes = np.array([wave.size for wave in waves])
            data["attention_mask"] = (positions < sizes[:, None]).astype(np.int32)
        return BatchFeature(data, tensor_type=return_tensors)

    def _native_features(
        self: Any, waves: Sequence[npt.NDArray[np.float32]], length: int
    ) -> npt.NDArray[np.float32]:
        """Return the features of each audio, zero-padded to ``length`` samples."""
        if length < SHORTEST:
            raise AudioError(
                f"a buffer of {length} samples is too short: mirroring its ends takes at least "
                f"{SHORTEST} samples (12.6 ms)",
                fix="Pass padding='max_length'",
            )
        plan = self.native_plan
        features = np.empty((len(waves), plan.n_mels, length // HOP_LENGTH), np.float32)
        for number, (wave, out) in enumerate(zip(waves, features, strict=True), start=1):
            try:
                extract_into(plan, wave, length, out)
            except AudioError as error:
                if len(waves) == 1:
                    raise
                raise AudioError(
                    f"audio {number} of {len(waves)} in this call: {error.problem}", fix=error.fix
                ) from error
        return features

    def _torch_extract_fbank_features(
        self: Any, waveform: npt.NDArray[Any], device: str = "cpu"
    ) -> npt.NDArray[np.float32]:
        """Return the features of padded audios, shape (batch, samples): the stock inner step."""
        rows = [np.require(row, np.float32, ["C", "A"]) for row in waveform]
        return self._native_features(rows, waveform.shape[1])

    _np_extract_fbank_features = _torch_extract_fbank_features

    def __reduce__(self: Any) -> Any:  # the class is made at run time: pickle what makes it
        return _rebuild, (type(self).__mro__[2], self.__dict__)


def _rebuild(kind: type[WhisperFeatureExtractor], state: dict[str, Any]) -> Any:
    stock = kind.__new__(kind)
    stock.__dict__.update(state)
    return native_extractor(stock)


def _check_settings(extractor: Any) -> None:
    for name, built_in in _SETTINGS.items():
        if getattr(extractor, name) != built_in:
            raise ConfigError(
                f"{type(extractor).__name__} has {name}={getattr(extractor, name)!r}, and the "
                f"native frontend computes {name}={built_in!r} only; {_STOCK_WAY_OUT}"
            )


def _waves(raw_speech: Any) -> list[npt.NDArray[np.float32]]:
    """Return the audios of a call as float32 arrays, by the stock rule of what a batch is."""
    if isinstance(raw_speech, (list, tuple)):
        if not raw_speech:
            raise AudioError("no audio was passed", fix="Pass one waveform or a list of waveforms")
        is_batch = np.ndim(raw_speech[0]) > 0
    else:
        is_batch = np.ndim(raw_speech) > 1
    audios = list(raw_speech) if is_batch else [raw_speech]
    return [_wave(audio, number, len(audios)) for number, audio in enumerate(audios, start=1)]


def _wave(audio: Any, number: int, count: int) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(audio)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AudioError(
            f"audio {number} of {count} cannot be read as an array ({error})",
            fix="Pass one-dimensional numpy arrays",
        ) from error
    if array.dtype.kind not in "fiub" or array.ndim != 1:
        raise AudioError(
            f"audio {number} of {count} has shape {array.shape} and type {array.dtype}, not one "
            "channel of real samples",
            fix="Mix the channels first (mmaupro_ext.audio.load does) and pass shape (n,)",
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is found
        return np.require(array, np.float32, ["C", "A"])


def _round_up(length: int, multiple: int | None) -> int:
    return length if multiple is None else -(-length // multiple) * multiple
