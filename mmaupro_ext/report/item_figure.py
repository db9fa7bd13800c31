"""One item as a picture: question and choices, waveforms, and the windows that a model is given."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext import benchmarks
from mmaupro_ext.data import text
from mmaupro_ext.data.schema import CHOICE_LETTERS, Doc
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.report import figures
from mmaupro_ext.report.figures import BLUE, FAINT, INK, ORANGE, SOFT, VERMILION
from mmaupro_ext.report.item import Item

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

WAVE_COLUMNS = 2000  # more than the pixels of a picture's width
MEL_FLOOR_DB = -80.0
SILENT_MEL = -1.499  # log_mel gives (log10(1e-10) + 4) / 4 = -1.5 for digital silence
# The picture is Whisper's log-mel, whatever the model makes of its windows: bands, Hz, and samples
# between two columns.
N_MELS, MEL_RATE, HOP_LENGTH = 128, 16_000, 160


def draw(item: Item, target: Path) -> None:
    """Draw question, choices, waveforms and the mel spectrogram of each window that a model is given.

    All clips share one time axis, in the order in which the model hears them.

    Parameters
    ----------
    item : Item
        What `item.show` returned; clips that cannot be used get an empty place.
    target : pathlib.Path
        Picture to write.

    Raises
    ------
    ConfigError
        When the item has no clip (its row is broken), or the file cannot be written.
    """
    from mmaupro_ext import audio

    doc, clips = item.doc, item.clips

    if not clips:
        raise ConfigError(f"item {doc['id']} has no clip to draw. Leave out --figure.")
    lines = _caption(doc)
    tracks = max([clip.get("channels", 1) for clip in clips])
    tracks = min(tracks, 4)
    caption_height = 0.5 + 0.235 * len(lines)
    wave_height, mel_height = 1.15, 2.9
    height = caption_height + wave_height * tracks + mel_height + 0.9
    with figures.canvas(target, 12.5, height, pad=0.07) as figure:
        ratios = (caption_height, height - caption_height)
        parts: Any = figure.subfigures(2, 1, height_ratios=ratios)
        above, below = parts
        _write_caption(above, lines)
        axes = below.subplots(
            tracks + 1, 1, sharex=True, height_ratios=[wave_height] * tracks + [mel_height]
        )
        start = 0.0
        image = None
        spans: list[tuple[float, float]] = []
        for clip in clips:
            seconds = clip.get("seconds", 1.0)
            spans.append((start, start + seconds))
            try:
                if "problem" in clip:
                    raise AudioError(clip["problem"])
                kept = audio.load(clip["file"], sampling_rate=None, channels="keep")
                _draw_waves(axes[:-1], kept, clip["sampling_rate"], start)
                heard = audio.load(clip["file"], sampling_rate=MEL_RATE)
                image = _draw_mel(axes[-1], heard, start, clip["windows"])
            except AudioError as error:
                clip.setdefault("problem", str(error))
                _draw_problem(axes, start, seconds)
            start += seconds
        _finish_axes(axes, clips, spans)
        if image is not None:
            bar = below.colorbar(image, ax=axes[-1], pad=0.01, fraction=0.025)
            bar.set_label("dB below the loudest\npoint of the window", fontsize=8.5)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=8, length=0)


def _caption(doc: Doc) -> list[tuple[str, str, str]]:
    """Return (text, colour, weight) of the lines above the picture."""
    lines = [(line, INK, "bold") for line in textwrap.wrap(text.visible(doc["question"]), 105)][:6]
    for letter, choice in zip(CHOICE_LETTERS, doc["choices"], strict=False):
        if not choice:
            continue  # it holds the place of a letter that no choice has
        right = choice == doc["answer"]
        body = textwrap.shorten(choice, 115, placeholder=" …")
        mark = "\u2713" if right else "   "
        lines.append(
            (f"{mark} ({letter}) {body}", BLUE if right else SOFT, "bold" if right else "normal")
        )
    if doc["answer"] is not None and doc["answer"] not in doc["choices"]:
        answer = textwrap.shorten(str(doc["answer"]), 115, placeholder=" …")
        lines.append((f"answer: {answer}", BLUE, "bold"))
    if doc.get("task_identifier"):
        arguments = ", ".join(f"{key} = {value!r}" for key, value in doc["kwargs"].items())
        lines.append((f"rule: {doc['task_identifier']} {arguments}", BLUE, "bold"))
    where = "embedded sample" if doc.get("dataset") == "sample" else benchmarks.of(doc).title
    about = [where, doc["category"], doc.get("sub-cat"), doc.get("length_type"), doc["id"]]
    lines.append(("   ·   ".join(part for part in about if part), SOFT, "normal"))
    return lines


def _write_caption(figure: SubFigure, lines: list[tuple[str, str, str]]) -> None:
    step = 1.0 / (len(lines) + 0.6)
    for number, (line, colour, weight) in enumerate(lines):
        last = number == len(lines) - 1
        figure.text(
            0.015,
            1 - step * (number + 0.75 + (0.25 if last else 0)),
            line,
            color=colour,
            fontweight=weight,
            fontsize=9 if last else 11,
            va="center",
        )


def _draw_waves(
    axes: npt.NDArray[Any], kept: npt.NDArray[np.float32], sampling_rate: int, start: float
) -> None:
    """Draw the envelope of each channel; a track without a channel stays empty."""
    for axis, channel, colour in zip(axes, kept, (BLUE, ORANGE, BLUE, ORANGE), strict=False):
        low, high = _envelope(channel)
        times = start + np.arange(len(low)) * (len(channel) / len(low)) / sampling_rate
        axis.fill_between(times, low, high, color=colour, linewidth=0.6, step="mid")


def _envelope(
    channel: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the lowest and highest sample of at most WAVE_COLUMNS stretches."""
    edges = np.linspace(0, len(channel), min(WAVE_COLUMNS, len(channel)) + 1).astype(int)[:-1]
    return np.minimum.reduceat(channel, edges), np.maximum.reduceat(channel, edges)


def _draw_mel(
    axis: Axes,
    heard: npt.NDArray[np.float32],
    start: float,
    bounds: list[list[float]],
) -> Any:
    """Draw each window's log-mel picture as the frontend computes it, each window alone."""
    from mmaupro_ext.features import log_mel

    image = None
    rate = MEL_RATE
    for begin, end in bounds:
        window = heard[round(begin * rate) : round(end * rate)]
        if not len(window):
            continue
        # Whisper's frontend needs 201 samples where nothing is filled up.
        mel = log_mel(window, N_MELS, pad_to=max(len(window), 201))
        frames = max(1, -(-len(window) // HOP_LENGTH))
        # log_mel is (log10 of energy + 4) / 4; ten times log10 is dB.
        level = 40.0 * (mel[:, :frames] - mel.max())
        if mel.max() < SILENT_MEL:
            level = np.full_like(level, MEL_FLOOR_DB)
        image = axis.imshow(
            level,
            origin="lower",
            aspect="auto",
            extent=(start + begin, start + begin + len(window) / rate, 0, N_MELS),
            vmin=MEL_FLOOR_DB,
            vmax=0.0,
            cmap="magma",
            interpolation="antialiased",
        )
    return image


def _draw_problem(axes: npt.NDArray[Any], start: float, seconds: float) -> None:
    for axis in axes:
        axis.axvspan(start, start + seconds, color=FAINT, alpha=0.5, linewidth=0)
    middle = start + seconds / 2
    axes[-1].text(
        middle, 0.5, "cannot be used", transform=axes[-1].get_xaxis_transform(), ha="center"
    )


def _finish_axes(
    axes: npt.NDArray[Any],
    clips: list[dict[str, Any]],
    spans: list[tuple[float, float]],
) -> None:
    """Draw clip boundaries and windows, and name the axes."""
    end = spans[-1][1]
    waves, mel = axes[:-1], axes[-1]
    tracks = len(waves)
    # One scale for all channels, or their difference in level could not be seen.
    loudest = max(max(abs(v) for v in axis.dataLim.intervaly) for axis in waves)
    limit = 1.1 * loudest if 0 < loudest < np.inf else 1.0
    for number, axis in enumerate(waves, 1):
        axis.set_ylim(-limit, limit)
        axis.set_ylabel(_channel_name(number, tracks))
        axis.axhline(0, color=FAINT, linewidth=0.6, zorder=0)
        axis.tick_params(axis="x", length=0)
        axis.tick_params(axis="y", colors=SOFT)
        axis.spines["bottom"].set_visible(False)
    _name_frequencies(mel)
    mel.set_xlim(0, end)
    mel.set_xlabel("seconds, clips in the order in which the model hears them")
    for clip, (left, _) in zip(clips, spans, strict=True):
        for begin, _ in clip.get("windows", [])[1:]:
            for axis in axes:
                axis.axvline(left + begin, color=VERMILION, linewidth=1.0, linestyle=(0, (4, 3)))
    for left, _ in spans[1:]:
        for axis in axes:
            axis.axvline(left, color="white" if axis is mel else INK, linewidth=2.0)
    _name_spans(waves[0], mel, clips, spans)


def _channel_name(number: int, tracks: int) -> str:
    if tracks == 1:
        return "amplitude"
    if tracks == 2:
        return f"channel {number}\n({'left' if number == 1 else 'right'})"
    return f"channel {number}"


def _name_frequencies(axis: Axes) -> None:
    """Label the mel axis in Hz at the centres of the bands."""
    from mmaupro_ext.features import mel_filters

    filters = mel_filters(N_MELS)
    bins_hz = np.linspace(0, MEL_RATE / 2, len(filters))
    centres = (bins_hz @ filters) / np.maximum(filters.sum(axis=0), 1e-12)
    wanted = [250, 500, 1000, 2000, 4000, 7000]
    axis.set_yticks(
        [float(np.interp(hz, centres, np.arange(N_MELS) + 0.5)) for hz in wanted],
        [f"{hz / 1000:g}" for hz in wanted],
    )
    axis.set_ylim(0, N_MELS)
    axis.set_ylabel("kHz (mel scale)")


def _name_spans(
    top: Axes,
    mel: Axes,
    clips: list[dict[str, Any]],
    spans: list[tuple[float, float]],
) -> None:
    """Write what each clip is above the waveforms, and number the windows above the mel."""
    end = spans[-1][1]
    for number, (clip, (left, right)) in enumerate(zip(clips, spans, strict=True), 1):
        name = f"clip {number}"
        if "problem" not in clip:
            wide = (right - left) / end > 0.3
            name += f": {clip['seconds']:.2f} s"
            if wide:
                channels = {1: "mono", 2: "stereo"}.get(clip["channels"], f"{clip['channels']} ch")
                name += f", {clip['sampling_rate'] / 1000:g} kHz, {channels}, {clip['format']}"
        top.annotate(
            name,
            (left, 1),
            xycoords=("data", "axes fraction"),
            xytext=(2, 5),
            textcoords="offset points",
            fontsize=9.5,
            fontweight="bold",
        )
    numbered = [
        (left + begin, left + finish)
        for clip, (left, _) in zip(clips, spans, strict=True)
        for begin, finish in clip.get("windows", [])
    ]
    every = max(1, len(numbered) // 25)
    for number, (left, right) in enumerate(numbered, 1):
        if (number - 1) % every == 0:
            mel.annotate(
                f"window {number}" if len(numbered) <= 8 else str(number),
                ((left + right) / 2, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=VERMILION,
            )
