"""All levels and stand-ins against each other, within the table of docs/frontend.md."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest
from feature_cases import CASES, RATE, features_of, stock_of
from hard_signals import hard_signals
from tolerances import FAMILIES, MIXED, RESAMPLED, WHISPER, Tolerance

from mmaupro_ext import audio, native
from mmaupro_ext.features import log_mel, native_extractor
from mmaupro_ext.native import choose

# Every level that this processor runs, whatever tests/levels.py leaves out: that is what is compared.
CORES = [*(("c", level) for level in choose.levels()), ("numba", "auto"), ("scipy", "auto")]
SECONDS = 1.0
# Divided by a deviation that they hardly have: see docs/frontend.md.
ILL_CONDITIONED = {"quiet", "last bit of int16"}


@functools.cache
def extractor(name: str):
    return native_extractor(stock_of(name))


def signals() -> dict[str, np.ndarray]:
    return hard_signals(SECONDS)


def family(name: str) -> list[np.ndarray]:
    return [
        features_of(name, extractor(name), x)
        for signal, x in signals().items()
        if not (name == "parakeet" and signal in ILL_CONDITIONED)
    ]


def mixed() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    found = []
    for channels in (1, 2, 3, 6):
        for kind in (np.int16, np.int32):
            info = np.iinfo(kind)
            x = random.integers(info.min, info.max, (1001, channels), dtype=kind)
            found.append(native.mean(x))
        sound = random.standard_normal((1001, channels)).astype(np.float32)
        # The smallest numbers that there are: half of one is rounded.
        found += [
            native.mean(sound),
            native.mean(np.abs(sound * 5).astype(np.int32).view(np.float32)),
        ]
    return found


QUANTITIES: dict[str, tuple[Tolerance, Callable[[], list[np.ndarray]]]] = {
    "whisper": (WHISPER, lambda: [log_mel(x, 80) for x in signals().values()]),
    **{
        name: (WHISPER if name == "dots3" else FAMILIES, functools.partial(family, name))
        for name in CASES
    },
    "resample": (
        RESAMPLED,
        lambda: [
            audio.resample(signals()["noise"], rate, RATE) for rate in (8000, 11024, 44100, 48000)
        ],
    ),
    "mix": (MIXED, mixed),
}


@pytest.mark.parametrize("name", QUANTITIES)
def test_all_cores_and_levels_agree_within_the_table(name, monkeypatch):
    if name == "granite":  # the stock class asks for torchaudio by name
        from transformers.models.granite_speech import feature_extraction_granite_speech as module

        monkeypatch.setattr(module, "requires_backends", lambda *_: None)
    tolerance, compute = QUANTITIES[name]
    found = {}
    for backend, level in CORES:
        monkeypatch.setenv("MMAUPRO_NATIVE", backend)
        monkeypatch.setenv("MMAUPRO_SIMD", level)
        found[f"{backend}-{level}"] = compute()
    assert len(found) == len(CORES) > 3
    first, *others = found
    for other in others:
        for one, two in zip(found[first], found[other], strict=True):
            distance = np.abs(one.astype(np.float64) - two).max()
            assert distance <= tolerance.between, (first, other)


def test_the_table_leaves_room_for_either_side_and_no_more():
    for tolerance in (WHISPER, FAMILIES, RESAMPLED):
        assert tolerance.mean < tolerance.largest
        assert tolerance.between == 2 * tolerance.largest
    assert MIXED.between == 0
