"""The gain of the resampler over frequency, read back from the filter in its plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmaupro_ext.native.resample_plan import PASS_EDGE, ResamplePlan, resample_plan

FINER = 16  # points of a response between two bins of the plan's transform


@dataclass(frozen=True)
class Response:
    """Gain at `hz`, from 0 to half the higher rate.

    `ripple_db`: largest deviation from 0 dB up to 0.913 of the lower Nyquist frequency. `alias_db`: highest
    gain from the lower Nyquist frequency on, where aliases (or, going up, images) come from.
    """

    hz: npt.NDArray[np.floating]
    gain_db: npt.NDArray[np.floating]
    ripple_db: float
    alias_db: float


def resampler_response(orig_sr: int, target_sr: int = 16000) -> Response:
    """Return the response for a pair of rates that has a plan, without the rounding of float32.

    The plan holds the filter at the bins of one block, zero above the lower Nyquist frequency. Its impulse
    response, padded with zeros, gives the gain between the bins.
    """
    plan = resample_plan(orig_sr, target_sr)
    assert plan is not None
    impulse = impulse_response(plan)
    gain = np.abs(np.fft.rfft(impulse, FINER * len(impulse)))
    gain_db = 20 * np.log10(np.maximum(gain, 1e-12))
    hz = np.fft.rfftfreq(FINER * len(impulse), 1 / max(orig_sr, target_sr))
    nyquist = min(orig_sr, target_sr) / 2
    ripple_db = float(np.abs(gain_db[hz <= PASS_EDGE * nyquist]).max())
    return Response(hz, gain_db, ripple_db, float(gain_db[hz >= nyquist].max()))


def impulse_response(plan: ResamplePlan) -> npt.NDArray[np.floating]:
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
