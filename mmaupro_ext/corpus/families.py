"""What is computed of a clip, by name: the features of a family, or those of a checkpoint."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.features import from_settings, log_mel, native_extractor
from mmaupro_ext.features.whisper import SAMPLING_RATE

Array = npt.NDArray[np.float32]

DEFAULT = "whisper-128"
WHISPER = {"whisper-128": 128, "whisper-80": 80}
# As the class of transformers is without the settings of a checkpoint.
STOCK = {
    "dots3": "Dots3NoteFeatureExtractor",
    "gemma3n": "Gemma3nAudioFeatureExtractor",
    "gemma4": "Gemma4AudioFeatureExtractor",
    "granite": "GraniteSpeechFeatureExtractor",
    "inkling": "InklingFeatureExtractor",
    "parakeet": "ParakeetFeatureExtractor",
    "phi4": "Phi4MultimodalFeatureExtractor",
}
# Extractors that put longer clips into chunks by themselves: each chunk is then asked for alone, so that
# none is padded to the longest.
_CHUNK_S = {"Dots3NoteFeatureExtractor": 60}
_FEATURES = ("input_features", "audio_input_features")
_MASKS = ("input_features_mask", "attention_mask")


@dataclass(frozen=True)
class Family:
    """What is computed of a clip.

    Attributes
    ----------
    name : str
        As it was asked for.
    sampling_rate : int
        Hz, of the samples that it takes.
    bands : int
        Numbers in a frame.
    compute : callable
        float32 samples of shape (n,) -> float32 features of shape (frames, bands), C-contiguous; it
        raises AudioError for samples that it cannot use.
    settings : dict
        Of the extractor, as plain JSON; empty for Whisper's by name.
    """

    name: str
    sampling_rate: int
    bands: int
    compute: Callable[[Array], Array]
    settings: dict[str, Any] = field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def family_of(name: str) -> Family:
    """Return a family; once per process.

    Parameters
    ----------
    name : str
        A name of `WHISPER` or `STOCK`, or a checkpoint: its folder, or its name on the hub.

    Raises
    ------
    ConfigError
        When there is no such family or checkpoint, or its extractor computes no features here.
    """
    if name in WHISPER:
        bands = WHISPER[name]
        return Family(
            name,
            SAMPLING_RATE,
            bands,
            lambda samples: np.ascontiguousarray(log_mel(samples, bands).T),
        )
    extractor = _stock_extractor(STOCK[name]) if name in STOCK else _extractor_of(name)
    rate = int(getattr(extractor, "sampling_rate", None) or SAMPLING_RATE)
    chunk = rate * _CHUNK_S.get(type(extractor).__name__, 0)

    def compute(samples: Array) -> Array:
        if not chunk or len(samples) <= chunk:
            return _features(extractor, samples, rate)
        parts = [samples[at : at + chunk] for at in range(0, len(samples), chunk)]
        return np.concatenate([_features(extractor, part, rate) for part in parts])

    try:
        bands = compute(np.zeros(rate, np.float32)).shape[1]
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"--family {name}: {type(extractor).__name__} makes no frames of features of a clip ({error}). "
            f"Families: {', '.join([*WHISPER, *STOCK])}."
        ) from error
    return Family(name, rate, bands, compute, _plain(extractor.to_dict()))


def _stock_extractor(kind: str) -> Any:
    import transformers

    made = from_settings({"feature_extractor_type": kind})
    return made if made is not None else native_extractor(getattr(transformers, kind)())


def _extractor_of(checkpoint: str) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        stock = AutoFeatureExtractor.from_pretrained(checkpoint)
    except (OSError, ValueError, ImportError, KeyError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            f"--family {checkpoint}: no such family, and no checkpoint with a feature extractor ({said}). "
            f"Families: {', '.join([*WHISPER, *STOCK])}; or a checkpoint's folder or name on the hub."
        ) from error
    return native_extractor(stock)


def _features(extractor: Any, samples: Array, rate: int) -> Array:
    """Return all frames of one clip: unpadded, uncut, time first."""
    known = extractor.native_signature.parameters
    wanted = {
        "sampling_rate": rate,
        "padding": "longest",
        "truncation": False,
        "return_attention_mask": True,
        "return_tensors": "np",
    }
    options = {name: value for name, value in wanted.items() if name in known}
    given = extractor(samples, **options)
    name = next(name for name in _FEATURES if name in given)
    (features,) = np.asarray(given[name], np.float32)
    if getattr(extractor.native_plan, "bands_first", False):
        features = features.T
    for mask in _MASKS:
        # Of some, the mask counts the tokens that are made of frames.
        if mask in given and np.shape(given[mask])[-1] == len(features):
            features = features[np.asarray(given[mask])[0].astype(bool)]
    return np.ascontiguousarray(features)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as JSON takes them, without what follows from others."""
    return {
        name: value
        for name, value in sorted(settings.items())
        if isinstance(value, (str, int, float, bool, type(None)))
    }
