"""What `mmaupro frontend` measures: the response of the resampler, and the time of each stage.

Nothing is printed or drawn here.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio.decoding import SAMPLE_TYPES
from mmaupro_ext.audio.resampling import plan_for
from mmaupro_ext.errors import AudioError
from mmaupro_ext.features import log_mel
from mmaupro_ext.native import resample as native
from mmaupro_ext.native.resample_plan import PASS_EDGE, ResamplePlan

TARGET = 16000  # Hz
USUAL_RATES = (8000, 11025, 22050, 24000, 32000, 44100, 48000, 96000)  # Hz
N_MELS = 128
STAGES = ("decode", "mix", "resample", "features")
WHOLE = "file to features"
MOST_ROUNDS, LEAST_ROUNDS = 25, 3
SHORTEST_S = 0.1
FINER = 16  # points of a response between two bins of the plan's transform

Float32 = npt.NDArray[np.float32]
Floats = npt.NDArray[np.floating]


# --- response of the resampler -----------------------------------------------------------------


@dataclass(frozen=True)
class Response:
    """Gain of the resampler over frequency, from the filter that its plan holds.

    Attributes
    ----------
    orig_sr, target_sr : int
        Rates in Hz.
    hz : numpy.ndarray
        Frequencies from 0 to half the higher rate.
    gain_db : numpy.ndarray
        Gain at `hz`.
    ripple_db : float
        Largest deviation from 0 dB up to 0.913 of the lower Nyquist frequency.
    pass_hz, tenth_hz, three_hz : float
        Lowest frequencies at which the gain is 1e-4, 0.1 and 3 dB off.
    alias_db : float
        Highest gain from the lower Nyquist frequency on: what folds down when samples get fewer, and
        what stays of the mirror image when they get more.
    """

    orig_sr: int
    target_sr: int
    hz: Floats
    gain_db: Floats
    ripple_db: float
    pass_hz: float
    tenth_hz: float
    three_hz: float
    alias_db: float


def resampler_response(orig_sr: int, target_sr: int = TARGET) -> Response | None:
    """Return the response of the native resampler for a pair of rates.

    The filter is read back from the plan that the kernel runs: float32, at the bins of one block,
    zero above the lower Nyquist frequency. Its impulse response, padded with zeros, gives the gain
    between the bins.

    Parameters
    ----------
    orig_sr, target_sr : int
        Different rates in Hz.

    Returns
    -------
    Response or None
        None where the pair has no plan (soxr HQ resamples it).

    Raises
    ------
    AudioError
        If a rate is out of range.
    """
    audio.resampler_used(orig_sr, target_sr)  # checks the rates
    plan = plan_for(orig_sr, target_sr, "native")
    if plan is None:
        return None
    impulse = _impulse_response(plan)
    points = FINER * len(impulse)
    gain_db = 20 * np.log10(np.maximum(np.abs(np.fft.rfft(impulse, points)), 1e-12))
    hz = np.fft.rfftfreq(points, 1 / max(orig_sr, target_sr))
    nyquist = min(orig_sr, target_sr) / 2
    return Response(
        orig_sr,
        target_sr,
        hz,
        gain_db,
        ripple_db=float(np.abs(gain_db[hz <= PASS_EDGE * nyquist]).max()),
        pass_hz=_first_hz(hz, gain_db, 1e-4),
        tenth_hz=_first_hz(hz, gain_db, 0.1),
        three_hz=_first_hz(hz, gain_db, 3.0),
        alias_db=float(gain_db[hz >= nyquist].max()),
    )


def _impulse_response(plan: ResamplePlan) -> Floats:
    """Return the impulse response at the higher of the two rates, centred, of one block."""
    n_in, n_out = plan.forward.points, plan.inverse.points
    rows = np.flatnonzero(plan.bin_row >= 0)
    bins = (plan.bin_row[rows] + n_out // 2) % n_out - n_out // 2  # -n_out/2 .. n_out/2
    # The plan shifts a block by less than a sample, so that its first output lies on the grid.
    skip = -(-plan.half_length * plan.up // plan.down)
    delay = plan.context - skip * plan.down / plan.up
    gain = n_in * (plan.response[rows] @ np.array([1, 1j]))
    spectrum = np.zeros(max(n_in, n_out), complex)
    spectrum[bins] = gain * np.exp(-2j * np.pi * bins * delay / n_in)
    return np.fft.fftshift(np.fft.ifft(spectrum).real)


def _first_hz(hz: Floats, gain_db: Floats, off_db: float) -> float:
    """Return the lowest frequency at which the gain is `off_db` away from 0 dB."""
    after = int(np.argmax(np.abs(gain_db) > off_db))
    low, high = np.abs(gain_db[after - 1 : after + 1])
    return float(np.interp(off_db, (low, high), hz[after - 1 : after + 1]))


# --- time of each stage ------------------------------------------------------------------------


@dataclass
class Rivals:
    """The libraries to compare with, and what is missing of them."""

    librosa: Any
    extractor: Any
    missing: list[str]


def find_rivals() -> Rivals:
    """Import librosa and transformers; what cannot be imported is named in `missing`."""
    librosa: Any = None
    extractor: Any = None
    missing = []
    try:
        import librosa
    except ImportError:
        missing.append("librosa")
    try:
        from transformers import WhisperFeatureExtractor

        extractor = WhisperFeatureExtractor(feature_size=N_MELS)
    except ImportError:
        missing.append("transformers")
    return Rivals(librosa, extractor, missing)


def bench_clip(path: str, rivals: Rivals, seconds: float) -> dict[str, Any]:
    """Time one file, stage by stage: ours and the rivals' in turns, on one thread.

    Parameters
    ----------
    path : str
        Audio file.
    rivals : Rivals
        From `find_rivals`.
    seconds : float
        No new round starts after so many; at least `LEAST_ROUNDS` are run.

    Returns
    -------
    dict
        `path`, `seconds`, `sampling_rate`, `channels`, `format`, `rounds`, `largest_difference`
        (of our features to the rival's of the same 16-kHz samples; None without a rival) and
        `stages`: for each of `STAGES` and `WHOLE`, `ours` and `theirs` as milliseconds for a second
        of audio (`median`, `fastest`; `theirs` is None where the library is missing) and `ratio` of
        the medians.

    Raises
    ------
    AudioError
        If the file cannot be used, or is shorter than 0.1 s.
    """
    info = audio.probe(path)
    if info.seconds < SHORTEST_S:
        raise AudioError(
            f"lasts {info.seconds:.3f} s, too little to time",
            path=path,
            fix="Name a clip of at least 0.1 s",
        )
    audio.load(path)  # a broken file is found now, and the file is in the system's cache
    works = _works(info, rivals)
    taken: dict[tuple[str, str], list[float]] = {key: [] for key in works}
    with one_thread():
        results = {key: work() for key, work in works.items()}  # what is built at the first call
        started = time.perf_counter()
        rounds = 0
        while rounds < LEAST_ROUNDS or (
            rounds < MOST_ROUNDS and time.perf_counter() - started < seconds
        ):
            # A machine that slows down within a round hits both sides alike in the long run.
            for key in list(works) if rounds % 2 == 0 else reversed(list(works)):
                before = time.perf_counter()
                works[key]()
                taken[key].append(time.perf_counter() - before)
            rounds += 1
    difference = None
    if ("features", "theirs") in results:
        ours, theirs = results["features", "ours"], results["features", "theirs"]
        difference = float(np.abs(ours - theirs[:, : ours.shape[1]]).max())
    return {
        "path": str(path),
        "seconds": round(info.seconds, 4),
        "sampling_rate": info.sampling_rate,
        "channels": info.channels,
        "format": f"{info.format} {info.subtype}",
        "rounds": rounds,
        "largest_difference": difference,
        "stages": {
            stage: _summary(stage, taken, info.seconds)
            for stage in (*STAGES, WHOLE)
            if (stage, "ours") in taken
        },
    }


def _works(info: audio.AudioInfo, rivals: Rivals) -> dict[tuple[str, str], Callable[[], Any]]:
    """Return what to time, by stage and side; each stage starts from the same samples for both."""
    path, rate = info.path, info.sampling_rate
    dtype = SAMPLE_TYPES.get(info.subtype, "float32")
    raw = soundfile.read(path, dtype=dtype, always_2d=True)[0]
    floats = soundfile.read(path, dtype="float32")[0].T
    mono = native.mean(raw)
    heard = audio.resample(mono, rate, TARGET)

    works: dict[tuple[str, str], Callable[[], Any]] = {
        ("decode", "ours"): lambda: soundfile.read(path, dtype=dtype, always_2d=True),
        ("mix", "ours"): lambda: native.mean(raw),
        ("features", "ours"): lambda: log_mel(heard, N_MELS),
        (WHOLE, "ours"): lambda: log_mel(audio.load(path), N_MELS),
    }
    if rate != TARGET:
        works["resample", "ours"] = lambda: audio.resample(mono, rate, TARGET)
    if rivals.librosa is not None:
        librosa = rivals.librosa
        works["decode", "theirs"] = lambda: soundfile.read(path, dtype="float32")
        works["mix", "theirs"] = lambda: librosa.to_mono(floats)
        if rate != TARGET:
            works["resample", "theirs"] = lambda: librosa.resample(
                mono, orig_sr=rate, target_sr=TARGET
            )
    if rivals.extractor is not None:
        works["features", "theirs"] = lambda: _their_features(rivals, heard)
    if not rivals.missing:
        works[WHOLE, "theirs"] = lambda: _their_features(
            rivals, rivals.librosa.load(path, sr=TARGET)[0]
        )
    return works


def _their_features(rivals: Rivals, samples: Float32) -> Float32:
    """Return the stock features of the whole clip, neither cut nor padded to 30 s."""
    call = {"sampling_rate": TARGET, "padding": "longest", "truncation": False}
    return rivals.extractor(samples, return_tensors="np", **call)["input_features"][0]


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch, which the stock extractor uses, to one thread; the rest has no pool."""
    try:
        import torch
    except ImportError:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _summary(
    stage: str, taken: dict[tuple[str, str], list[float]], seconds: float
) -> dict[str, Any]:
    sides: dict[str, Any] = {}
    for side in ("ours", "theirs"):
        times = [1000 * t / seconds for t in taken.get((stage, side), [])]
        sides[side] = {"median": statistics.median(times), "fastest": min(times)} if times else None
    theirs = sides["theirs"]
    sides["ratio"] = theirs["median"] / sides["ours"]["median"] if theirs else None
    return sides


def generate_clips(folder: Path, seconds: float) -> list[str]:
    """Write the clips that are timed where the user names none.

    Parameters
    ----------
    folder : pathlib.Path
        Where to write.
    seconds : float
        Length of each.

    Returns
    -------
    list of str
        44.1-kHz stereo as WAV, FLAC, OGG and MP3 (where libsndfile writes it), 16-kHz mono as WAV.
    """
    formats = soundfile.available_formats()
    kinds = [("44.1k-stereo.wav", 44100, 2), ("44.1k-stereo.flac", 44100, 2)]
    if "OGG" in formats:
        kinds.append(("44.1k-stereo.ogg", 44100, 2))
    if "MP3" in formats:
        kinds.append(("44.1k-stereo.mp3", 44100, 2))
    kinds.append(("16k-mono.wav", 16000, 1))
    paths = []
    for name, rate, channels in kinds:
        wave = music(rate, channels, seconds)
        with soundfile.SoundFile(folder / name, "w", rate, channels) as file:
            # libvorbis overflows the stack when it is given minutes at once.
            for start in range(0, len(wave), 1 << 16):
                file.write(wave[start : start + (1 << 16)])
        paths.append(str(folder / name))
    return paths


def music(rate: int, channels: int, seconds: float) -> Float32:
    """Return a made-up recording: gliding chords in changing noise, shape (frames, channels)."""
    rng = np.random.default_rng(0)
    t = np.arange(round(rate * seconds)) / rate
    chord = sum(np.sin(2 * np.pi * f * t + 5 * np.sin(0.3 * t)) for f in (220, 330, 550, 1900))
    chord *= 0.1 * (1 + np.sin(2.1 * t)) / 2
    noise = rng.standard_normal((len(t), channels)) * (0.02 + 0.05 * np.sin(0.7 * t) ** 2)[:, None]
    return (chord[:, None] + noise).astype(np.float32)
