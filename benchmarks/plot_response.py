"""Measure the resampler's response with tones, against soxr HQ; write the figure and its table.

Run: ``python benchmarks/plot_response.py`` (half a minute). Each tone of one second goes through the
resampler; its ends are left out. In the pass band the gain is that of the tone in the output (least
squares); from the output's Nyquist frequency on it is the level of everything that comes out.
"""

from __future__ import annotations

import documenting
import numpy as np

from mmaupro_ext import audio
from mmaupro_ext.native.resample_plan import PASS_EDGE
from mmaupro_ext.report import figures

TARGET = 16000
NYQUIST = TARGET / 2
RATES = (44100, 48000, 22050, 96000)
RESAMPLERS = {"native": figures.BLUE, "soxr": figures.ORANGE}
NAMES = {"native": "mmaupro-ext", "soxr": "soxr HQ"}


def tone(hz: float, rate: int) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(rate) / rate + 0.4).astype(np.float32)


def output(hz: float, rate: int, resampler: str) -> np.ndarray:
    y = audio.resample(tone(hz, rate), rate, TARGET, resampler=resampler)
    return y[TARGET // 5 : -TARGET // 5].astype(np.float64)


def gain_db(hz: float, rate: int, resampler: str) -> float:
    """Return the gain of a tone under the Nyquist frequency."""
    y = output(hz, rate, resampler)
    angle = 2 * np.pi * hz * np.arange(len(y)) / TARGET
    basis = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return float(20 * np.log10(np.linalg.norm(np.linalg.lstsq(basis, y, rcond=None)[0])))


def level_db(hz: float, rate: int, resampler: str) -> float:
    """Return the level of all that a tone leaves, against the tone."""
    return float(10 * np.log10(2 * np.mean(output(hz, rate, resampler) ** 2)))


def main() -> None:
    started = documenting.load()
    rows = []
    target = documenting.FIGURES / "resampler_response.png"
    with figures.canvas(target, 16.0, 9.6, pad=0.1) as figure:
        figure.suptitle(
            "Resampling to 16 kHz, measured with tones",
            x=0.013,
            ha="left",
            fontsize=15,
            fontweight="bold",
        )
        axes = figure.subplots(3, len(RATES))
        for column, rate in enumerate(RATES):
            rows.append(draw_rate(axes[:, column], rate))
        for axis, name in zip(
            axes[:, 0],
            (
                "gain in the pass band (dB)",
                "gain around the edge (dB)",
                "what is left of a tone\nover 8 kHz (dB)",
            ),
            strict=True,
        ):
            axis.set_ylabel(name)
        axes[0][0].legend(loc="lower left")
    header = ("rate (Hz)", "ripple to 7,304 Hz (dB)", "soxr HQ", "-0.1 dB at (Hz)", "soxr HQ")
    header += ("-3 dB at (Hz)", "soxr HQ", "worst from 8,000 Hz on (dB)", "soxr HQ")
    documenting.put(
        "response", documenting.table(header, rows), documenting.DOCS / "performance.md"
    )
    print(f"load {started}; wrote {target} and the table in {documenting.PAGE}")


def draw_rate(axes: np.ndarray, rate: int) -> list[str]:
    """Draw one column of panels; return the row of the table."""
    flat = np.linspace(50, PASS_EDGE * NYQUIST, 90)
    edge = np.linspace(PASS_EDGE * NYQUIST, NYQUIST - 15, 110)
    stop = np.concatenate(
        [np.linspace(NYQUIST, NYQUIST + 120, 25), np.linspace(NYQUIST + 150, rate / 2 - 40, 110)]
    )
    cells = {}
    for resampler, colour in RESAMPLERS.items():
        measure = {"rate": rate, "resampler": resampler}
        in_pass = np.array([gain_db(hz, **measure) for hz in flat])
        falling = np.array([gain_db(hz, **measure) for hz in edge])
        left = np.array([level_db(hz, **measure) for hz in stop])
        style = {"color": colour, "label": NAMES[resampler], "linewidth": 1.4}
        axes[0].plot(flat / 1000, in_pass, **style)
        axes[1].plot(np.append(edge, stop) / 1000, np.append(falling, left), **style)
        axes[2].plot(stop / 1000, left, **style)
        crossing = [np.interp(level, falling[::-1], edge[::-1]) for level in (-0.1, -3.0)]
        cells[resampler] = [
            f"{np.abs(in_pass).max():.1e}",
            *(f"{hz:,.0f}" for hz in crossing),
            f"{left.max():.1f}",
        ]
    for axis in axes:
        axis.grid()
    axes[0].set_title(f"{rate / 1000:g} kHz → 16 kHz")
    axes[0].set_ylim(-0.0105, 0.0015)
    axes[1].set_xlim(PASS_EDGE * NYQUIST / 1000, 8.2)
    axes[1].set_ylim(-150, 8)
    axes[1].axvline(NYQUIST / 1000, color=figures.SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
    axes[2].set_ylim(-150, -120)
    axes[2].set_xlabel("kHz")
    pairs = zip(cells["native"], cells["soxr"], strict=True)
    return [f"{rate:,}", *(cell for pair in pairs for cell in pair)]


if __name__ == "__main__":
    main()
