"""A block of clips becomes a shard: the frames of all its clips in one array, and what each of them is.

::

    DIR/shards/00007.npy    float32 (frames, bands), for numpy.load(..., mmap_mode="r")
    DIR/shards/00007.jsonl  first a line on the shard, then one for each clip, damaged ones too

The list is written last: a shard without it, or with another array than it says, is torn and made anew.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmaupro_ext import __version__, native
from mmaupro_ext.audio.decoding import decode
from mmaupro_ext.corpus.families import Array, Family
from mmaupro_ext.corpus.sources import Block, Clip, column_of
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.failing import Failed, Streak
from mmaupro_ext.util import sha256_of_file, write_atomically

FOLDER = "shards"
_HEADER = 128  # bytes before the frames: NumPy leaves room in it for the number to grow


@dataclass
class Outcome:
    """What became of the clips of a block, or of a corpus.

    Attributes
    ----------
    clips, frames : int
        How many were served, and their frames.
    seconds : float
        Of sound in them.
    damaged : list of dict
        `path` and `problem` of each clip that was not.
    kept : int
        Shards that were there already.
    """

    clips: int = 0
    frames: int = 0
    seconds: float = 0.0
    damaged: list[dict[str, str]] = field(default_factory=list)
    kept: int = 0

    def add(self, other: Outcome) -> None:
        """Count another one in."""
        self.clips += other.clips
        self.frames += other.frames
        self.seconds += other.seconds
        self.damaged += other.damaged
        self.kept += other.kept


def write_shard(block: Block, folder: Path, family: Family) -> Outcome:
    """Make the shard of a block, unless it is there.

    Memory holds one clip at a time.

    Parameters
    ----------
    block : Block
        Its clips.
    folder : pathlib.Path
        Of the corpus' features.
    family : Family
        What is computed.

    Returns
    -------
    Outcome
        What its list says.

    Raises
    ------
    ConfigError
        When the shard cannot be written, or clip after clip fails alike for no fault of its own.
    """
    known = kept_shard(block, folder, family)
    if known is not None:
        return known
    place = folder / FOLDER / f"{block.number:05}"
    part = place.with_suffix(".npy.part")
    lines: list[dict[str, Any]] = []
    frames = 0
    failures = Streak(
        f"what is computed of clips ({family.name})",
        "`mmaupro info` shows what this installation computes with.",
    )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # What was whole and is made of other clips now is torn from here on.
        place.with_suffix(".jsonl").unlink(missing_ok=True)
        with part.open("wb") as file:
            file.write(b"\0" * _HEADER)
            for clip, path in _files_of(block, place.with_suffix(".clip.part")):
                line, features = _serve(clip, path, family, failures)
                if features is not None:
                    file.write(features.astype("<f4", copy=False).data)
                    line |= {"first": frames, "frames": len(features)}
                    frames += len(features)
                lines.append(line)
            file.seek(0)
            file.write(_header(frames, family.bands))
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, place.with_suffix(".npy"))
        head = _head(block, family) | {"frames": frames, "core": native.info()["simd"]}
        text = "".join(json.dumps(line, ensure_ascii=True) + "\n" for line in [head, *lines])
        write_atomically(place.with_suffix(".jsonl"), text)
    except OSError as error:
        raise ConfigError(
            f"{place.parent}: cannot be written to ({error.strerror or error}). Make room, or make it "
            "writable; the same command then goes on."
        ) from error
    return _outcome(lines)


def kept_shard(block: Block, folder: Path, family: Family) -> Outcome | None:
    """Return what a shard holds that is there, whole and of the same clips; else None."""
    place = folder / FOLDER / f"{block.number:05}"
    try:
        with place.with_suffix(".jsonl").open(encoding="utf-8") as file:
            head, *lines = map(json.loads, file)
        size = place.with_suffix(".npy").stat().st_size
    except (OSError, ValueError):
        return None
    if any(head.get(name) != value for name, value in _head(block, family).items()):
        return None
    if len(lines) != len(block.clips) or size != _HEADER + 4 * head["frames"] * family.bands:
        return None
    found = _outcome(lines)
    found.kept = 1
    return found


def _head(block: Block, family: Family) -> dict[str, Any]:
    return {
        "shard": f"{block.number:05}.npy",
        "family": family.name,
        "version": __version__,
        "dtype": "float32",
        "bands": family.bands,
        "sampling_rate": family.sampling_rate,
        "source": block.digest,
    }


def _outcome(lines: list[dict[str, Any]]) -> Outcome:
    good = [line for line in lines if "problem" not in line]
    return Outcome(
        len(good),
        sum(line["frames"] for line in good),
        sum(line["seconds"] for line in good),
        [{k: line[k] for k in ("path", "problem")} for line in lines if "problem" in line],
    )


def _serve(
    clip: Clip, path: str, family: Family, failures: Streak
) -> tuple[dict[str, Any], Array | None]:
    """Return the line of a clip, and its features where it has any."""
    line: dict[str, Any] = {"path": clip.name}
    try:
        decoded = decode(path, family.sampling_rate)
        features = family.compute(decoded.samples)
        # Its bytes are in the system's memory now.
        digest = sha256_of_file(path)
    except AudioError as error:
        return line | {"problem": f"{error.problem}. {error.fix}"}, None
    except Exception as error:  # one clip, whatever it is
        failed = Failed.of(error)
        if not isinstance(error, OSError):
            failures.add(failed)
        return line | {"problem": failed.problem}, None
    failures.end()
    return line | {"sha256": digest, "seconds": round(decoded.info.seconds, 6)}, features


def _files_of(block: Block, room: Path) -> Iterator[tuple[Clip, str]]:
    """Yield the clips with the files that they are in; sound from a parquet file is put in `room`."""
    rows: Any = None
    for clip in block.clips:
        if clip.row < 0:
            yield clip, clip.place
            continue
        rows = _rows_of(clip) if rows is None else rows
        content, path = rows[clip.row] if rows else (b"", None)
        if content is None and path:
            yield clip, str(Path(clip.place).parent / path)
            continue
        try:
            room.write_bytes(content or b"")
            yield clip, str(room)
        finally:
            room.unlink(missing_ok=True)


def _rows_of(clip: Clip) -> list[tuple[bytes | None, str | None]]:
    """Return content and path of each row of a clip's row group; nothing where it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(clip.place)
        column = column_of(file)
        table = file.read_row_group(clip.row_group, columns=[column])
    except (OSError, pa.ArrowException):
        return []
    rows = table.column(column).to_pylist()
    return [((row or {}).get("bytes"), (row or {}).get("path")) for row in rows]


def _header(frames: int, bands: int) -> bytes:
    """Return what stands before an array in a file of NumPy's format 1.0."""
    buffer = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (frames, bands)}
    np.lib.format.write_array_header_1_0(buffer, shape)
    text = buffer.getvalue()
    assert len(text) == _HEADER, text
    return text
