"""Measure clips: hash each one and decode it to its last sample.

Clips are decoded block by block, so a ten-minute clip costs no more memory than a short one, and
hashed from the same read of the disk (the second pass finds the bytes in the system's page cache).
"""

from __future__ import annotations

import hashlib
import math
import re
import stat
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import soundfile
from tqdm import tqdm

from mmaupro_ext.data.manifest import Entry, unchanged
from mmaupro_ext.data.safe import stat_clip
from mmaupro_ext.util import usable_cores

# A 16-bit file cannot go above 32767/32768 = 0.99997, so this is "at the rail" for every format.
FULL_SCALE = 0.9999
FULL_SCALE_RUN = 3

_HASH_BLOCK = 1 << 20
_DECODE_BLOCK = 1 << 17  # samples of all channels together; fits a core's cache
_SAVE_EVERY_S = 5.0
# Encoders that write to a pipe leave such a size in the header, meaning "unknown".
_UNKNOWN_SIZE = 0x7FFF0000
_SHORT_DATA_CHUNK = re.compile(r"^data\s*:\s*(\d+) \(should be (\d+)\)", re.MULTILINE)


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
        blocks of at most 131,072 samples), and for several channels `identical_channels`.
        `problem`, a sentence, is there when the clip is broken; keys that could not be
        determined are missing. No exception is raised for a broken or missing file.
    """
    entry: Entry = {}
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return {"problem": "not a regular file"}
        entry |= {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
        entry["sha256"] = _sha256(path, stop)
        if not status.st_size:
            return entry | {"problem": "the file is empty"}
        _decode(path, entry, stop)
    except InterruptedError:
        raise
    except FileNotFoundError:
        entry["problem"] = "missing"
    except soundfile.LibsndfileError as error:
        entry["problem"] = f"cannot be decoded ({error.error_string.strip() or error!r})"
    except OSError as error:
        entry["problem"] = f"cannot be read ({error.strerror or error})"
    except (RuntimeError, ValueError, MemoryError) as error:
        entry["problem"] = f"cannot be decoded ({error or type(error).__name__})"
    return entry


def _sha256(path: Path, stop: threading.Event | None) -> str:
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_BLOCK):
            hasher.update(chunk)
            _heed(stop)
    return hasher.hexdigest()


def _heed(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise InterruptedError


def _decode(path: Path, entry: Entry, stop: threading.Event | None) -> None:
    """Decode a clip and fill in its entry; a clip that ends early gets a `problem`."""
    frames = nonfinite = at_full_scale = 0
    peak = energy = 0.0
    identical = True
    with soundfile.SoundFile(path) as clip:
        entry |= {
            "sampling_rate": clip.samplerate,
            "channels": clip.channels,
            "format": clip.format,
            "subtype": clip.subtype,
        }
        promised = clip.frames
        buffer = np.empty((max(1, _DECODE_BLOCK // clip.channels), clip.channels), np.float32)
        try:
            # SoundFile.blocks trusts the frame count of the header, which a cut MP3 overstates.
            while len(block := clip.read(out=buffer)):
                _heed(stop)
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
                if identical and clip.channels > 1:
                    identical = bool((block == block[:, :1]).all())
        except soundfile.LibsndfileError as error:
            entry["problem"] = (
                f"stops decoding at {frames / clip.samplerate:.2f} s "
                f"({error.error_string.strip() or 'no reason given'})"
            )
        samples = frames * clip.channels
        entry |= {
            "seconds": round(frames / clip.samplerate, 4),
            "frames": frames,
            "peak": float(f"{peak:.6g}"),
            "rms": float(f"{math.sqrt(energy / samples) if samples else 0.0:.6g}"),
            "nonfinite": nonfinite,
            "full_scale_share": float(f"{at_full_scale / samples if samples else 0.0:.3g}"),
        }
        if clip.channels > 1:
            entry["identical_channels"] = identical and frames > 0
        if "problem" not in entry:
            problem = _cut_short(clip.extra_info, frames, promised, clip.samplerate)
            if problem:
                entry["problem"] = problem


def _in_full_scale_runs(block: np.ndarray) -> int:
    """Count the samples of a (frames, channels) block in runs of >= FULL_SCALE_RUN at the rail."""
    rail = np.abs(block) >= FULL_SCALE
    edges = np.diff(np.pad(rail, ((1, 1), (0, 0))).astype(np.int8), axis=0)
    # Transposed, the starts and ends of each channel's runs come in matching order.
    starts = np.nonzero(edges.T == 1)[1]
    ends = np.nonzero(edges.T == -1)[1]
    lengths = ends - starts
    return int(lengths[lengths >= FULL_SCALE_RUN].sum())


def _cut_short(log: str, frames: int, promised: int, sampling_rate: int) -> str | None:
    """Return why a clip that decoded without an error is incomplete, or None.

    libsndfile reads a cut WAV or OGG as a shorter clip and only notes the difference in its log.
    """
    if frames == 0:
        return "holds no sound (0 samples)"
    if frames < promised:
        return (
            f"ends at {frames / sampling_rate:.2f} s, its header promises "
            f"{promised / sampling_rate:.2f} s"
        )
    found = _SHORT_DATA_CHUNK.search(log)
    if found and int(found[2]) < int(found[1]) < _UNKNOWN_SIZE:
        return f"cut short: {int(found[2]):,} of {int(found[1]):,} bytes of sound are there"
    if "lacks an end-of-stream bit" in log:
        return f"cut short: the OGG stream stops at {frames / sampling_rate:.2f} s without its end"
    return None


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
