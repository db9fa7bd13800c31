"""Native drop-ins for the feature extractors of transformers.

:func:`native_extractor` takes a stock extractor and returns one that behaves the same (class,
attributes, keyword arguments, keys, shapes, types, masks) with the arithmetic done by the native
kernels. Only what is known to be equal is replaced; anything else is refused with the way out
(``frontend=stock``).

To add a family: a module beside this one with its constants and their source, ``log_mel_reference`` (float64,
by the letter) and a subclass of :class:`NativeExtractor`; and a line in :data:`FAMILIES`.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features import compute

_log = logging.getLogger(__name__)

FAMILIES: Mapping[str, tuple[str, str]] = {
    "WhisperFeatureExtractor": ("whisper", "NativeWhisper"),
    "Dots3NoteFeatureExtractor": ("dots3", "NativeDots3"),
    "Gemma3nAudioFeatureExtractor": ("gemma", "NativeGemma3n"),
    "Gemma4AudioFeatureExtractor": ("gemma", "NativeGemma4"),
    "GraniteSpeechFeatureExtractor": ("granite", "NativeGranite"),
    "InklingFeatureExtractor": ("inkling", "NativeInkling"),
    "ParakeetFeatureExtractor": ("parakeet", "NativeParakeet"),
    "Phi4MultimodalFeatureExtractor": ("phi4", "NativePhi4"),
    # These only pad samples: there is nothing to compute faster, and samples are checked.
    "Gemma4UnifiedAudioFeatureExtractor": ("drop_in", "Checked"),
    "MuseSparkFeatureExtractor": ("drop_in", "Checked"),
}
"""Name of the stock class -> module of this package, and class in it, that stands before it."""

VIRTUAL_PADDING: Mapping[str, Any] = {"padding_side": "right", "padding_value": 0.0}
"""Settings under which padding is what the kernels add for nothing: zeros behind the signal."""


def native_extractor(stock: Any) -> Any:
    """Return a drop-in for a stock feature extractor that computes with the native kernels.

    Parameters
    ----------
    stock : transformers.SequenceFeatureExtractor
        The extractor of a checkpoint, of a class in :data:`FAMILIES` or a subclass that changes no
        method. It is not changed.

    Returns
    -------
    transformers.SequenceFeatureExtractor
        An instance of a subclass of ``type(stock)`` with the same attributes. Calling it gives the
        stock keys, shapes, types and masks; features differ from the stock ones by float32 rounding
        (at most 1e-4, about 3e-8 on average, for Whisper). Samples are taken by value, as the stock
        extractor takes them: integers are not scaled. It differs on purpose in refusing what the stock
        extractor would turn into nonsense: NaN and infinite samples, several channels in one audio,
        an empty batch. It can be pickled, copied and saved (under the stock name).

    Raises
    ------
    ConfigError
        If the class, or a setting of the extractor (frame, hop, sampling rate, dither, filter
        bank, ...), is one that the kernels do not compute.
    """
    if isinstance(stock, NativeExtractor):
        return stock
    kind = type(stock)
    known = _known_class(kind)
    if known is None:
        raise ConfigError(
            f"there is no native form of {kind.__module__}.{kind.__qualname__}; {_STOCK_WAY_OUT}"
        )
    family = _family(known.__name__)
    family.native_check(stock)
    try:
        plan = family.native_plan_of(stock)
    except ValueError as error:
        raise ConfigError(f"{kind.__qualname__}: {error}; {_STOCK_WAY_OUT}") from error
    # The class keeps its name: save_pretrained writes it, and the loader looks it up. What is native
    # stands on the class, so that to_dict does not find it.
    namespace = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "native_plan": plan,
        "native_signature": inspect.signature(kind.__call__),
    }
    native_kind: Any = type(kind.__name__, (family, kind), namespace)
    native = object.__new__(native_kind)
    native.__dict__.update(stock.__dict__)
    return native


def is_native(extractor: Any) -> bool:
    """Tell whether an extractor computes with the native kernels."""
    return isinstance(extractor, NativeExtractor)


def from_settings(settings: Mapping[str, Any]) -> Any | None:
    """Return the native extractor of a checkpoint whose stock one cannot be made here.

    Parameters
    ----------
    settings : mapping
        The checkpoint's preprocessor_config.json, or its part of processor_config.json.

    Returns
    -------
    transformers.SequenceFeatureExtractor or None
        None where the stock class has no native form that does without the packages it asks for.

    Raises
    ------
    ConfigError
        If a setting is one that the kernels do not compute.
    """
    name = settings.get("feature_extractor_type", "")
    stock = _family(name).native_stock_of(settings) if name in FAMILIES else None
    return None if stock is None else native_extractor(stock)


_STOCK_WAY_OUT = "use frontend=stock to keep the library's own extractor"


def _known_class(kind: type) -> type | None:
    """Return the class in FAMILIES that a class is, or inherits all methods from; None if there is none."""
    for at, base in enumerate(kind.__mro__):
        if base.__name__ in FAMILIES and base.__module__.startswith("transformers."):
            own = {name for child in kind.__mro__[:at] for name in vars(child)}
            stock = {name for name in own & set(dir(base)) if callable(getattr(base, name))}
            return None if stock - set(dir(object)) else base
    return None


def _family(name: str) -> type[NativeExtractor]:
    module, family = FAMILIES[name]
    found: type[NativeExtractor] = getattr(
        importlib.import_module(f"mmaupro_ext.features.{module}"), family
    )
    return found


class NativeExtractor:
    """What stands before the stock class in a drop-in; a family fills in what it does otherwise.

    All names begin with ``native_``, so that none hides one of the stock class.
    """

    native_plan: Any
    native_signature: inspect.Signature  # of the stock __call__, for its names and defaults
    native_settings: Mapping[str, Any] = VIRTUAL_PADDING  # that the kernel has built in
    native_may_cut = True  # whether truncation may cut an audio

    # ---- What a family says.

    @classmethod
    def native_plan_of(cls, stock: Any) -> Any:
        """Return the kernel's plan for a stock extractor's settings; raise ValueError if there is none."""
        raise NotImplementedError

    @classmethod
    def native_stock_of(cls, settings: Mapping[str, Any]) -> Any | None:
        """Return a stock extractor made of settings without the packages that its class asks for."""
        return None

    def native_data(
        self, waves: Sequence[compute.FloatArray], call: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what the stock class returns for these audios; ``call`` holds the other arguments."""
        raise NotImplementedError

    def native_features(
        self, wave: compute.FloatArray, out: compute.FloatArray, padded: int | None = None
    ) -> None:
        """Write the features of one audio, which is zero-padded to so many samples where that matters."""
        compute.features(self.native_plan, wave, out, padded=padded)

    # ---- What all share.

    def __call__(self: Any, *arguments: Any, **options: Any) -> Any:
        """Return the features of one audio or a batch; arguments as in the stock class.

        The work is done on the processor, whatever ``device`` says.
        """
        from transformers.feature_extraction_utils import BatchFeature

        bound = self.native_signature.bind(self, *arguments, **options)
        bound.apply_defaults()
        call = {**bound.arguments, **bound.arguments.get("kwargs", {})}
        self.native_check(self)
        rate = call.get("sampling_rate")
        if rate is not None:
            compute.check_rate(rate, self.sampling_rate, type(self).__name__)
        elif "sampling_rate" in bound.arguments:
            _log.warning(
                "%s was called without sampling_rate; audio at another rate than %d Hz gives wrong "
                "features unnoticed",
                type(self).__name__,
                self.sampling_rate,
            )
        waves = self.native_audios(bound.args[1])
        return BatchFeature(self.native_data(waves, call), tensor_type=call.get("return_tensors"))

    @classmethod
    def native_check(cls, extractor: Any) -> None:
        """Raise ConfigError unless an extractor has the settings that the kernel has built in."""
        for name, built_in in cls.native_settings.items():
            if getattr(extractor, name, built_in) != built_in:
                raise ConfigError(
                    f"{type(extractor).__name__} has {name}={getattr(extractor, name)!r}, and the "
                    f"native frontend computes {name}={built_in!r} only; {_STOCK_WAY_OUT}"
                )

    def native_refuse(self, option: str) -> NoReturn:
        """Raise ConfigError for an option of a call that has no native form."""
        raise ConfigError(f"{type(self).__name__}: {option} has no native form; {_STOCK_WAY_OUT}")

    def native_audios(self, raw: Any) -> list[compute.FloatArray]:
        """Return the audios of a call as float32 arrays, by the stock rule of what a batch is."""
        if isinstance(raw, (list, tuple)):
            if not raw:
                raise AudioError(
                    "no audio was passed", fix="Pass one waveform or a list of waveforms"
                )
            is_batch = np.ndim(raw[0]) > 0
        else:
            is_batch = np.ndim(raw) > 1
        audios = list(raw) if is_batch else [raw]
        waves = []
        for number, audio in enumerate(audios, start=1):
            try:
                waves.append(compute.as_samples(audio, pcm=False))
            except AudioError as error:
                raise _named(error, number, len(audios)) from error
        return waves

    def native_padded(
        self: Any, waves: Sequence[compute.FloatArray], call: Mapping[str, Any]
    ) -> tuple[list[compute.FloatArray], list[int]]:
        """Return the audios, cut where the caller asked for it, and the length that each is padded to.

        The rules are those of ``SequenceFeatureExtractor.pad``; nothing is copied.
        """
        from transformers.utils import PaddingStrategy

        max_length, multiple = call["max_length"], call["pad_to_multiple_of"] or 1
        strategy = self._get_padding_strategies(padding=call["padding"], max_length=max_length)
        cut = list(waves)
        if call["truncation"]:
            if max_length is None:
                raise ConfigError("truncation=True needs max_length (in samples)")
            cut = [wave[: -(-max_length // multiple) * multiple] for wave in waves]
        for number, (whole, wave) in enumerate(zip(waves, cut, strict=True), start=1):
            if wave.size < whole.size and not self.native_may_cut:
                # The stock extractor keeps the lengths from before the cut: it normalises over, counts
                # and masks frames that are not there.
                error = AudioError(
                    f"an audio has {whole.size} samples, and truncation to {wave.size} gives wrong "
                    "features in this extractor",
                    fix="Cut the audio before the call, or leave truncation out",
                )
                raise _named(error, number, len(waves))
        sizes = [wave.size for wave in cut]
        if strategy == PaddingStrategy.DO_NOT_PAD:
            return cut, sizes
        least = max(sizes) if strategy == PaddingStrategy.LONGEST else max_length
        return cut, [max(size, -(-least // multiple) * multiple) for size in sizes]

    def native_each(
        self,
        waves: Sequence[compute.FloatArray],
        outs: Iterable[compute.FloatArray],
        padded: int | None = None,
    ) -> None:
        """Write the features of each audio; an error says which audio it is about."""
        for number, (wave, out) in enumerate(zip(waves, outs, strict=True), start=1):
            try:
                self.native_features(wave, out, padded)
            except AudioError as error:
                raise _named(error, number, len(waves)) from error

    def __reduce__(self: Any) -> Any:  # the class is made at run time: pickle what makes it
        stock = next(kind for kind in type(self).__mro__ if not issubclass(kind, NativeExtractor))
        return _rebuild, (stock, self.__dict__)


class Checked(NativeExtractor):
    """A drop-in that checks the samples and is the stock extractor otherwise."""

    @classmethod
    def native_plan_of(cls, stock: Any) -> None:
        """Return None: nothing is computed."""

    def __call__(self: Any, *arguments: Any, **options: Any) -> Any:
        """Return what the stock class returns, for samples that are finite."""
        bound = self.native_signature.bind(self, *arguments, **options)
        waves = self.native_audios(bound.args[1])
        self.native_each(waves, waves)
        stock: Any = super(NativeExtractor, self)
        return stock.__call__(*arguments, **options)

    def native_features(
        self, wave: compute.FloatArray, out: compute.FloatArray, padded: int | None = None
    ) -> None:
        """Raise AudioError if a sample is not finite."""
        compute.check_finite(wave, "the audio")


def _rebuild(kind: type, state: dict[str, Any]) -> Any:
    stock: Any = object.__new__(kind)
    stock.__dict__.update(state)
    return native_extractor(stock)


def one_length(lengths: Iterable[int]) -> int:
    """Return the length that all have, or raise AudioError: they make no array."""
    found = set(lengths)
    if len(found) > 1:
        raise AudioError(
            f"the audios of this call have {len(found)} different lengths (in samples, from "
            f"{min(found)} to {max(found)}), which make no array",
            fix="Pass padding='longest'",
        )
    return found.pop()


def _named(error: AudioError, number: int, count: int) -> AudioError:
    """Return the error with the number of the audio in its call, if there are several."""
    if count == 1:
        return error
    return AudioError(f"audio {number} of {count} in this call: {error.problem}", fix=error.fix)
