"""What all drop-ins share: the arguments of a call, its samples checked, padding, and the kernels.

A family is a subclass of :class:`NativeExtractor`; ``drop_in.py`` puts it before the stock class.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mmaupro_ext import native
from mmaupro_ext.audio.validate import check_finite
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.features.placing import moved
from mmaupro_ext.util import usable_cores

_log = logging.getLogger(__name__)

# Samples of a call, ten seconds at 16 kHz, below which starting threads costs more than they save.
WORTH_THREADS = 160_000
_cores = functools.cache(usable_cores)

VIRTUAL_PADDING: Mapping[str, Any] = {"padding_side": "right", "padding_value": 0.0}
"""Settings under which padding is what the kernels add for nothing: zeros behind the signal."""

STOCK_WAY_OUT = "use frontend=stock to keep the library's own extractor"

FloatArray = npt.NDArray[np.float32]

# Full scale of the integer sample formats that sound files hold; dividing by it is exact.
_FULL_SCALE = {np.dtype(np.int16): 2.0**15, np.dtype(np.int32): 2.0**31}


def as_samples(x: npt.ArrayLike, *, pcm: bool = True) -> FloatArray:
    """Return one channel of samples as contiguous float32, copied only where needed.

    Whether all samples are finite is not checked here: the kernels find out on the way.

    Parameters
    ----------
    x : array_like
        Samples, shape (n,): floating point or integers.
    pcm : bool
        Whether integers are PCM, int16 or int32, and are scaled so that full scale is 1 (int16 exactly;
        int32 rounded to float32's 24 bits). Else they are taken by value, as transformers takes them.

    Returns
    -------
    numpy.ndarray
        Float32, shape (n,), C-contiguous and aligned.

    Raises
    ------
    AudioError
        If ``x`` is not one-dimensional or not of such a type.
    """
    try:
        array = np.asarray(x)
    except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors with gradients
        raise AudioError(
            f"the samples cannot be read as an array ({error})",
            fix="Pass a one-dimensional numpy array",
        ) from error
    if array.ndim != 1:
        raise AudioError(
            f"one channel of samples, shape (n,), is needed, but the array has shape {array.shape}",
            fix="Mix the channels first (mmaupro_ext.audio.load does) or pass one of them",
        )
    full_scale = _FULL_SCALE.get(array.dtype) if pcm else None
    if full_scale is not None:
        return (array / np.float64(full_scale)).astype(np.float32)
    if array.dtype.kind not in ("f" if pcm else "fiub"):
        raise AudioError(
            f"samples of type {array.dtype} have no agreed full scale",
            fix="Pass floating-point samples in [-1, 1], or int16 or int32 PCM",
        )
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is found
        return np.require(array, np.float32, ["C", "A"])


def check_rate(sampling_rate: int, wanted_rate: int, what: str = "the features") -> None:
    """Raise AudioError if audio is at another rate, in Hz, than ``what`` is defined at."""
    if sampling_rate != wanted_rate:
        raise AudioError(
            f"{what} is defined at {wanted_rate} Hz, but the audio is at {sampling_rate} Hz",
            fix=f"Convert it first: mmaupro_ext.audio.resample(x, {sampling_rate}, {wanted_rate})",
        )


def raise_unusable(samples: npt.NDArray[Any]) -> None:
    """Raise the AudioError for samples in which a kernel met a NaN, an infinity or an overflow."""
    check_finite(samples, "the audio")
    loudest = int(np.abs(samples).argmax())
    raise AudioError(
        f"the samples are too large for float32 energies (sample {loudest} is "
        f"{samples[loudest]:g})",
        fix="Scale the audio to [-1, 1]",
    )


def write_features(
    plan: native.Plan, samples: FloatArray, out: FloatArray, *, padded: int | None = None
) -> None:
    """Write the features of a plan for the first frames of checked samples.

    Parameters
    ----------
    plan : Plan
        The family.
    samples : numpy.ndarray
        From :func:`as_samples`.
    out : numpy.ndarray
        C-contiguous float32 array of shape (frames, n_mels), or (n_mels, frames) where the plan has bands
        first. Written.
    padded : int, optional
        Length in samples of the buffer that holds ``samples`` followed by zeros, where ends are mirrored.
        With bands first the zeros cost nothing. Default: the length of ``samples``.

    Raises
    ------
    AudioError
        If a sample is not finite, or too large for float32 energies; ``out`` is then worthless.
    """
    if plan.bands_first:
        usable = native.log_mel(plan, samples, samples.size if padded is None else padded, out)
    else:
        usable = not math.isnan(native.stft_mel(plan, samples, out, padded=padded))
    if not usable:
        raise_unusable(samples)


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

    def native_data(self, waves: Sequence[FloatArray], call: dict[str, Any]) -> dict[str, Any]:
        """Return what the stock class returns for these audios; ``call`` holds the other arguments."""
        raise NotImplementedError

    def native_features(self, wave: FloatArray, out: FloatArray, padded: int | None = None) -> None:
        """Write the features of one audio, which is zero-padded to so many samples where that matters."""
        write_features(self.native_plan, wave, out, padded=padded)

    # ---- What all share.

    def __call__(self: Any, *arguments: Any, **options: Any) -> Any:
        """Return the features of one audio or a batch; arguments as in the stock class, and ``dtype``.

        The work is done on the processor, the audios of a batch on as many threads as torch has. With
        ``return_tensors="pt"`` tensors go to ``device`` (a GPU gets them from pinned memory, without
        waiting), and floating-point ones become ``dtype``, such as a model's.
        """
        from transformers.feature_extraction_utils import BatchFeature

        dtype = options.pop("dtype", None)
        bound = self.native_signature.bind(self, *arguments, **options)
        bound.apply_defaults()
        call = {**bound.arguments, **bound.arguments.get("kwargs", {})}
        self.native_check(self)
        rate = call.get("sampling_rate")
        if rate is not None:
            check_rate(rate, self.sampling_rate, type(self).__name__)
        elif "sampling_rate" in bound.arguments:
            _log.warning(
                "%s was called without sampling_rate; audio at another rate than %d Hz gives wrong "
                "features unnoticed",
                type(self).__name__,
                self.sampling_rate,
            )
        waves = self.native_audios(bound.args[1])
        kind = call.get("return_tensors")
        if dtype is not None and str(kind) != "pt":
            raise ConfigError('dtype is for tensors of torch: add return_tensors="pt"')
        features = BatchFeature(self.native_data(waves, call), tensor_type=kind)
        device = str(call.get("device") or "cpu")
        if str(kind) == "pt" and (dtype is not None or device != "cpu"):
            data = features.data
            features.data = {name: moved(data[name], device, dtype) for name in data}
        return features

    @classmethod
    def native_check(cls, extractor: Any) -> None:
        """Raise ConfigError unless an extractor has the settings that the kernel has built in."""
        for name, built_in in cls.native_settings.items():
            if getattr(extractor, name, built_in) != built_in:
                raise ConfigError(
                    f"{type(extractor).__name__} has {name}={getattr(extractor, name)!r}, and the "
                    f"native frontend computes {name}={built_in!r} only; {STOCK_WAY_OUT}"
                )

    def native_refuse(self, option: str) -> NoReturn:
        """Raise ConfigError for an option of a call that has no native form."""
        raise ConfigError(f"{type(self).__name__}: {option} has no native form; {STOCK_WAY_OUT}")

    def native_audios(self, raw: Any) -> list[FloatArray]:
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
                waves.append(as_samples(audio, pcm=False))
            except AudioError as error:
                raise _named(error, number, len(audios)) from error
        return waves

    def native_padded(
        self: Any, waves: Sequence[FloatArray], call: Mapping[str, Any]
    ) -> tuple[list[FloatArray], list[int]]:
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
        waves: Sequence[FloatArray],
        outs: Iterable[FloatArray],
        padded: int | None = None,
    ) -> None:
        """Write the features of each audio; an error says which audio it is about, the first of several."""
        jobs = list(enumerate(zip(waves, outs, strict=True), start=1))

        def write(job: tuple[int, tuple[FloatArray, FloatArray]]) -> None:
            number, (wave, out) = job
            try:
                self.native_features(wave, out, padded)
            except AudioError as error:
                raise _named(error, number, len(waves)) from error

        several = len(jobs) > 1
        threads = compute_threads(sum(wave.size for wave in waves)) if several else 1
        if threads == 1:
            for job in jobs:
                write(job)
            return
        with ThreadPoolExecutor(
            min(threads, len(jobs))
        ) as pool:  # the kernels give up Python's lock
            for _ in pool.map(write, jobs):
                pass


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

    def native_features(self, wave: FloatArray, out: FloatArray, padded: int | None = None) -> None:
        """Raise AudioError if a sample is not finite."""
        check_finite(wave, "the audio")


def compute_threads(samples: int) -> int:
    """Return on how many threads a call may compute: torch's number, where torch is in use.

    That follows ``OMP_NUM_THREADS``, ``torch.set_num_threads`` and the workers of a data loader. A thread
    that is not the main one has others beside it, and computes alone.
    """
    if samples < WORTH_THREADS or threading.current_thread() is not threading.main_thread():
        return 1
    if (torch := sys.modules.get("torch")) is not None:
        wanted = int(torch.get_num_threads())
    else:
        told = os.environ.get("OMP_NUM_THREADS", "")
        wanted = int(told) if told.isdecimal() else _cores()
    return max(1, min(wanted, _cores()))


def _named(error: AudioError, number: int, count: int) -> AudioError:
    """Return the error with the number of the audio in its call, if there are several."""
    if count == 1:
        return error
    return AudioError(f"audio {number} of {count} in this call: {error.problem}", fix=error.fix)


# ---- For families and their definitions.


def reference_samples(x: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return samples for a float64 definition: checked as for the kernels, and finite."""
    samples = as_samples(x)
    check_finite(samples, "the audio")
    return samples.astype(np.float64)


def need_samples(n: int, least: int, why: str) -> None:
    """Raise AudioError if there are fewer samples than features can be made of."""
    if n < least:
        raise AudioError(
            f"{n} samples are too few: {why} takes at least {least}",
            fix="Leave this clip out, or pad it with zeros",
        )


def buffer_length(n: int, pad_to: int | None, shortest: int) -> int:
    """Return the length of a padded buffer whose ends are mirrored, or say why there is none."""
    padded = n if pad_to is None else whole_number("pad_to", pad_to, 0)
    if n > padded:
        raise AudioError(
            f"{n} samples do not fit in pad_to={padded}, and audio is never cut silently",
            fix="Split it with mmaupro_ext.audio.windows, or leave pad_to out",
        )
    need_samples(padded, shortest, "mirroring the ends")
    return padded


def whole_number(name: str, value: Any, lowest: int, highest: int = 1 << 62) -> int:
    """Return a whole number given by the user; raise ConfigError for anything else."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not (whole and lowest <= value <= highest):
        raise ConfigError(f"{name}={value!r}: a whole number from {lowest} to {highest} is needed")
    return int(value)


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
