"""Measure clips: hash each one and decode it to its last sample.

Clips are decoded block by block, so a ten-minute clip costs no more memory than a short one, and
hashed from the same read of the disk (the second pass finds the bytes in the system's page cache).
"""

from __future__ import annotations

import math
import stat
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmaupro_ext.audio.opening import Clip, open_clip
from mmaupro_ext.data.manifest import Entry, unchanged
from mmaupro_ext.data.safe import stat_clip
from mmaupro_ext.errors import AudioError
from mmaupro_ext.util import sha256_of_file, usable_cores

# A 16-bit file cannot go above 32767/32768 = 0.99997, so this is "at the rail" for every format.
FULL_SCALE = 0.9999
FULL_SCALE_RUN = 3
# Full scale of the types that a clip is decoded to.
FULL_SCALES = {"int16": np.float32(2**15), "int32": np.float32(2**31), "float32": None}

_SAVE_EVERY_S = 5.0


class ScanInterruptedError(Exception):
    """Ctrl-C during a scan; what was measured until then has been saved."""

    def __init__(self, done: int, total: int) -> None:
        self.done, self.total = done, total
        super().__init__(f"interrupted after {done:,} of {total:,} clips")


def measure(path: Path, stop: threading.Event | None = None) -> Entry:
    """Hash one clip and decode it to its last sample.

    Parameters
    ----------
    path : pathlib.Path
        An audio file.
    stop : threading.Event, optional
        When it is set, measuring ends early with `InterruptedError`.

    Returns
    -------
    dict
        `bytes`, `mtime_ns`, `sha256`; from decoding `seconds` and `frames` (samples per channel
        that were really decoded), `sampling_rate` (Hz), `channels`, `format`, `subtype`; `peak`
        and `rms` (1.0 is full scale, over all channels), `nonfinite` (number of NaN and infinite
        samples, which peak and rms leave out), `full_scale_share` (share of samples that lie in
        runs of at least three at full scale, the trace of clipping; runs are counted within
        blocks of at most 262,144 samples), and for several channels `identical_channels`.
        `problem`, a sentence, is there when the clip is broken; keys that could not be
        determined are missing. No exception is raised for a broken or missing file.
    """
    entry: Entry = {}
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):  # anything else is refused before it is opened
            entry |= {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
            entry["sha256"] = sha256_of_file(path, between_blocks=lambda: _heed(stop))
        with open_clip(path) as clip:
            _decode(clip, entry, stop)
    except InterruptedError:
        raise
    except FileNotFoundError:
        entry["problem"] = "missing"
    except AudioError as error:
        entry["problem"] = error.problem
    except OSError as error:
        entry["problem"] = f"cannot be read ({error.strerror or error})"
    except MemoryError:
        entry["problem"] = "cannot be decoded (not enough memory)"
    return entry


def _heed(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise InterruptedError


def _decode(clip: Clip, entry: Entry, stop: threading.Event | None) -> None:
    """Decode a clip and fill in its entry, also where damage ends the decoding with an AudioError."""
    info = clip.info
    entry |= {
        "sampling_rate": info.sampling_rate,
        "channels": info.channels,
        "format": info.format,
        "subtype": info.subtype,
    }
    full_scale = FULL_SCALES[clip.dtype]
    frames = nonfinite = at_full_scale = 0
    peak = energy = 0.0
    identical = True
    buffer = np.empty((min(clip.block_frames, info.frames), info.channels), clip.dtype)
    try:
        for decoded in clip.blocks(buffer):
            _heed(stop)
            block = decoded if full_scale is None else decoded.astype(np.float32) / full_scale
            frames += len(block)
            finite = block
            block_peak = float(np.abs(block).max())
            if not math.isfinite(block_peak):
                good = np.isfinite(block)
                nonfinite += block.size - int(good.sum())
                finite = np.where(good, block, np.float32(0))
                block_peak = float(np.abs(finite).max())
            peak = max(peak, block_peak)
            flat = finite.reshape(-1).astype(np.float64)
            energy += float(flat @ flat)
            if block_peak >= FULL_SCALE:
                at_full_scale += _in_full_scale_runs(finite)
            if identical and info.channels > 1:
                identical = bool((block == block[:, :1]).all())
    finally:
        samples = frames * info.channels
        entry |= {
            "seconds": round(frames / info.sampling_rate, 4),
            "frames": frames,
            "peak": float(f"{peak:.6g}"),
            "rms": float(f"{math.sqrt(energy / samples) if samples else 0.0:.6g}"),
            "nonfinite": nonfinite,
            "full_scale_share": float(f"{at_full_scale / samples if samples else 0.0:.3g}"),
        }
        if info.channels > 1:
            entry["identical_channels"] = identical and frames > 0


def _in_full_scale_runs(block: np.ndarray) -> int:
    """Count the samples of a (frames, channels) block in runs of >= FULL_SCALE_RUN at the rail."""
    rail = np.abs(block) >= FULL_SCALE
    edges = np.diff(np.pad(rail, ((1, 1), (0, 0))).astype(np.int8), axis=0)
    # Transposed, the starts and ends of each channel's runs come in matching order.
    starts = np.nonzero(edges.T == 1)[1]
    ends = np.nonzero(edges.T == -1)[1]
    lengths = ends - starts
    return int(lengths[lengths >= FULL_SCALE_RUN].sum())


def scan(
    root: Path,
    clips: Iterable[str],
    *,
    known: dict[str, Entry] | None = None,
    jobs: int | None = None,
    save: Callable[[dict[str, Entry]], None] | None = None,
    progress: bool = True,
) -> dict[str, Entry]:
    """Measure many clips on all cores.

    Decoding and hashing release Python's lock, so threads use every core and share one cache.

    Parameters
    ----------
    root : pathlib.Path
        Folder that the clips are relative to.
    clips : iterable of str
        Relative paths.
    known : dict, optional
        Entries of an earlier scan; a clip whose size and time still agree is not read again.
    jobs : int, optional
        Threads; by default the cores that this process may use.
    save : callable, optional
        Called with all entries so far every few seconds, and when the scan is interrupted.
    progress : bool
        Show a progress bar over bytes on stderr.

    Returns
    -------
    dict
        Relative path to entry, in the order of `clips`.

    Raises
    ------
    ScanInterruptedError
        On Ctrl-C, after `save`.
    """
    order = list(dict.fromkeys(clips))
    earlier = known or {}
    done = {clip: earlier[clip] for clip in order if _can_reuse(root / clip, earlier.get(clip))}
    sizes = {clip: _size(root / clip) for clip in order}
    stop = threading.Event()
    bar = tqdm(
        total=sum(sizes.values()),
        initial=sum(sizes[clip] for clip in done),
        unit="B",
        unit_scale=True,
        desc="reading clips",
        disable=None if progress else True,  # None: no bar where stderr is not a terminal
    )
    pool = ThreadPoolExecutor(max_workers=jobs or usable_cores())
    pending: dict[Future[Entry], str] = {
        pool.submit(_measure_clip, root, clip, stop): clip for clip in order if clip not in done
    }
    saved_at = time.monotonic()
    try:
        while pending:
            # Waiting with a timeout lets Ctrl-C through on every system.
            finished, _ = wait(pending, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in finished:
                clip = pending.pop(future)
                done[clip] = future.result()
                bar.update(sizes[clip])
            if save is not None and time.monotonic() - saved_at > _SAVE_EVERY_S:
                save(done)
                saved_at = time.monotonic()
    except KeyboardInterrupt:
        stop.set()
        pool.shutdown(cancel_futures=True)
        for future, clip in pending.items():
            if not future.cancelled() and future.exception() is None:
                done[clip] = future.result()
        if save is not None:
            save(done)
        raise ScanInterruptedError(len(done), len(order)) from None
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        bar.close()
    return {clip: done[clip] for clip in order}


def _measure_clip(root: Path, clip: str, stop: threading.Event) -> Entry:
    """Measure a clip, unless it is none that should be opened."""
    try:
        stat_clip(root, clip)
    except FileNotFoundError:
        return {"problem": "missing"}
    except OSError as error:
        return {"problem": f"is not opened: {error.strerror}"}
    return measure(root / clip, stop)


def _can_reuse(path: Path, entry: Entry | None) -> bool:
    return entry is not None and "mtime_ns" in entry and unchanged(path, entry)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
