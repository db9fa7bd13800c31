"""The clips of a report: where a browser finds them, and what they look like."""

from __future__ import annotations

import base64
import io
import mimetypes
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from mmaupro_ext import audio
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.data import SAMPLE_DIR
from mmaupro_ext.data.locate import benchmark_folder
from mmaupro_ext.errors import AudioError
from mmaupro_ext.util import usable_cores

# Clips go into the page while they are fewer bytes than this in all; the sample's are 7 MB.
EMBEDDED_BYTES = 16_000_000
# More clips than this are not read for their waveforms unless asked.
WAVES = 500
_COLUMNS = 240
# What the browsers play; other kinds go in as FLAC.
_PLAYED = {".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a", ".webm"}


@dataclass(frozen=True)
class Media:
    """What a page holds of one clip.

    Attributes
    ----------
    path : Path or None
        The file; None where it was not found.
    link : str or None
        Its address relative to the page, percent-encoded.
    content : str or None
        Its bytes in base64, where it goes into the page.
    mime : str
        What they are.
    wave : str or None
        Base64 of pairs of signed bytes: lowest and highest sample of each column, 127 full scale.
    """

    path: Path | None
    link: str | None = None
    content: str | None = None
    mime: str = ""
    wave: str | None = None


def media_of(
    clips: Sequence[Mapping[str, Any]],
    folder: Path,
    data_dir: str | Path | None = None,
    waves: bool | None = None,
    show_progress: bool = True,
) -> list[Media]:
    """Return what a page in `folder` holds of each clip, in their order.

    Parameters
    ----------
    clips : sequence of mapping
        With `name` and `file`, and `sample`, the benchmark, where they are of its generated sample.
    folder : Path
        Where the page will stand.
    data_dir : path, optional
        Where clips are looked for whose file is not where the run read it.
    waves : bool, optional
        Whether all clips are read for their waveforms; None: if they are at most `WAVES`.
    show_progress : bool
        Whether a bar is shown.

    Notes
    -----
    A file goes into the page only if it decodes as sound, so that a log that names another file puts
    nothing else into it.
    """
    from tqdm import tqdm

    paths = [_find(clip, data_dir) for clip in clips]
    known = sorted({path for path in paths if path is not None})
    sizes = {path: path.stat().st_size for path in known}
    embed = bool(known) and sum(sizes.values()) <= EMBEDDED_BYTES
    read = embed or (waves if waves is not None else len(known) <= WAVES)
    made: dict[Path, Media] = {}
    with ThreadPoolExecutor(usable_cores()) as pool:
        work = pool.map(lambda path: _medium(path, folder, embed, read), known)
        bar = tqdm(
            work,
            total=len(known),
            desc="clips",
            unit="clip",
            disable=None if show_progress else True,
        )
        for path, medium in zip(known, bar, strict=True):
            made[path] = medium
    return [made.get(path, Media(None)) if path is not None else Media(None) for path in paths]


def _find(clip: Mapping[str, Any], data_dir: str | Path | None) -> Path | None:
    places = [clip.get("file")]
    if clip.get("sample"):  # of which benchmark
        ours = clip["sample"] == MMAUPRO
        folder = SAMPLE_DIR if ours else benchmark_folder(BENCHMARKS[clip["sample"]], sample=True)
        places.insert(0, folder / clip["name"])
    if data_dir is not None:
        places.append(Path(data_dir) / clip["name"])
    for place in places:
        try:
            if place and Path(place).is_file():
                return Path(place).resolve()
        except (OSError, ValueError):  # no name that a file can have
            continue
    return None


def _medium(path: Path, folder: Path, embed: bool, read: bool) -> Media:
    link = quote(Path(os.path.relpath(path, folder)).as_posix())
    if not read:
        return Media(path, link)
    try:
        found = audio.decode(path, sampling_rate=None, channels="keep")
    except (AudioError, OSError):
        return Media(path, link)
    mixed = found.samples.mean(axis=0) if found.samples.ndim == 2 else found.samples
    wave = base64.b64encode(_envelope(mixed).tobytes()).decode()
    if not embed:
        return Media(path, link, wave=wave)
    content, mime = path.read_bytes(), mimetypes.guess_type(path.name)[0] or "audio/wav"
    if path.suffix.lower() not in _PLAYED:
        content, mime = _as_flac(found.samples, found.info.sampling_rate), "audio/flac"
    return Media(path, link, base64.b64encode(content).decode(), mime, wave)


def _envelope(samples: np.ndarray) -> np.ndarray:
    """Return the lowest and highest sample of each of some hundred columns, as int8 pairs."""
    columns = min(_COLUMNS, max(1, samples.size))
    if not samples.size:
        return np.zeros(2, np.int8)
    edges = np.linspace(0, samples.size, columns, endpoint=False).astype(np.intp)
    pairs = np.stack(
        [np.minimum.reduceat(samples, edges), np.maximum.reduceat(samples, edges)], axis=1
    )
    return np.round(np.clip(pairs, -1, 1) * 127).astype(np.int8)


def _as_flac(samples: np.ndarray, rate: int) -> bytes:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples.T, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()
