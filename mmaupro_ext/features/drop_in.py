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
import types
from collections.abc import Callable, Mapping
from typing import Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.features.extractor import STOCK_WAY_OUT, NativeExtractor

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
    "Gemma4UnifiedAudioFeatureExtractor": ("extractor", "Checked"),
    "MuseSparkFeatureExtractor": ("extractor", "Checked"),
}
"""Name of the stock class -> module of this package, and class in it, that stands before it."""


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

    Examples
    --------
    >>> import numpy as np
    >>> from transformers import WhisperFeatureExtractor
    >>> extractor = native_extractor(WhisperFeatureExtractor(feature_size=128))
    >>> batch = extractor(np.zeros(16000), sampling_rate=16000, return_tensors="pt")
    >>> batch["input_features"].shape
    torch.Size([1, 128, 3000])
    """
    if isinstance(stock, NativeExtractor):
        return stock
    kind = type(stock)
    known = _known_class(kind)
    if known is None:
        raise ConfigError(
            f"there is no native form of {kind.__module__}.{kind.__qualname__}; {STOCK_WAY_OUT}"
        )
    family = _family(known.__name__)
    family.native_check(stock)
    try:
        plan = family.native_plan_of(stock)
    except ValueError as error:
        raise ConfigError(f"{kind.__qualname__}: {error}; {STOCK_WAY_OUT}") from error
    # The class keeps its name: save_pretrained writes it, and the loader looks it up. What is native
    # stands on the class, so that to_dict does not find it.
    namespace = {
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
        "native_plan": plan,
        "native_signature": inspect.signature(kind.__call__),
        "__call__": _announced(family.__call__, kind.__call__),
        "__reduce__": _reduce,
    }
    native_kind: Any = type(kind.__name__, (family, kind), namespace)
    native = object.__new__(native_kind)
    native.__dict__.update(stock.__dict__)
    return native


def is_native(extractor: Any) -> bool:
    """Tell whether an extractor computes with the native kernels.

    Examples
    --------
    >>> from transformers import WhisperFeatureExtractor
    >>> is_native(WhisperFeatureExtractor()), is_native(native_extractor(WhisperFeatureExtractor()))
    (False, True)
    """
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

    Examples
    --------
    >>> granite = from_settings({"feature_extractor_type": "GraniteSpeechFeatureExtractor"})
    >>> is_native(granite)  # which asks for torchaudio
    True
    >>> from_settings({"feature_extractor_type": "WhisperFeatureExtractor"}) is None  # which can be made
    True
    """
    name = settings.get("feature_extractor_type", "")
    stock = _family(name).native_stock_of(settings) if name in FAMILIES else None
    return None if stock is None else native_extractor(stock)


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


def _announced(call: Any, stock: Callable[..., Any]) -> types.FunctionType:
    """Return a method that has the signature of the stock one for who asks: vLLM reads defaults there."""
    copied = types.FunctionType(
        call.__code__, call.__globals__, call.__name__, call.__defaults__, call.__closure__
    )
    copied.__kwdefaults__, copied.__doc__ = call.__kwdefaults__, stock.__doc__
    copied.__signature__ = inspect.signature(stock)  # type: ignore[attr-defined]
    return copied


def _reduce(extractor: Any) -> Any:
    """Pickle what makes the extractor: its class is made at run time."""
    stock = next(kind for kind in type(extractor).__mro__ if not issubclass(kind, NativeExtractor))
    return _rebuild, (stock, extractor.__dict__)


def _rebuild(kind: type, state: dict[str, Any]) -> Any:
    stock: Any = object.__new__(kind)
    stock.__dict__.update(state)
    return native_extractor(stock)
