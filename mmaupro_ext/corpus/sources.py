"""Which clips a corpus has, in an order that does not change, in blocks that become shards."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext.errors import ConfigError

# A block ends with the clip that makes it so large.
CLIPS = 512
BYTES = 256 << 20

# fmt: off
SUFFIXES = frozenset({
    ".wav", ".wave", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc",
    ".au", ".snd", ".caf", ".m4a", ".mp4", ".aac", ".webm", ".mka", ".wma",
})
# fmt: on
"""Names of files that are taken for clips; what they hold is told by their first bytes."""

# Columns of a parquet file that may name or hold clips, the first that is there.
COLUMNS = ("audio", "audio_path", "path", "file", "file_name")


@dataclass(frozen=True)
class Clip:
    """A clip of a corpus.

    Attributes
    ----------
    name : str
        How the manifest calls it: its path below the corpus, as the parquet file has it, or
        `FILE.parquet#ROW` where the file holds the sound itself.
    place : str
        The audio file, or the parquet file.
    size : int
        Bytes of the audio file; 0 where it is missing, or in a parquet file.
    row_group, row : int
        Where in the parquet file; -1 for an audio file.
    """

    name: str
    place: str
    size: int = 0
    row_group: int = -1
    row: int = -1


@dataclass(frozen=True)
class Block:
    """Clips that become one shard.

    Attributes
    ----------
    number : int
        From 0.
    clips : tuple of Clip
        In order.
    """

    number: int
    clips: tuple[Clip, ...]

    @property
    def digest(self) -> str:
        """What tells whether a shard was made of the same clips: their names and sizes."""
        told = json.dumps([[one.name, one.size] for one in self.clips])
        return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()

    def to_json(self) -> str:
        """Return the block as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Block:
        """Return the block that `to_json` wrote."""
        content = json.loads(text)
        return cls(content["number"], tuple(Clip(**one) for one in content["clips"]))


@dataclass
class Corpus:
    """The clips of a corpus.

    Attributes
    ----------
    blocks : list of Block
        All of it.
    others : Counter
        Suffix -> how many files of a folder are taken for something else than clips.
    """

    blocks: list[Block] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def read_corpus(sources: Sequence[str | os.PathLike[str]]) -> Corpus:
    """Return the clips of a folder, or of parquet files.

    Parameters
    ----------
    sources : sequence of path
        One folder, which is searched with all below it; or parquet files with a column of `COLUMNS`:
        a path relative to the file, a list of paths, or `{"bytes": ..., "path": ...}`.

    Raises
    ------
    ConfigError
        When there is no such folder or file, or no clip in it.
    """
    corpus = Corpus()
    paths = [Path(source) for source in sources]
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: there is no such folder or file.")
        if path.is_dir() and len(paths) > 1:
            raise ConfigError(f"{path}: give one folder, or parquet files.")
    if paths[0].is_dir():
        clips = _clips_of_folder(paths[0], corpus.others)
    else:
        clips = (clip for path in paths for clip in _clips_of_parquet(path))
    corpus.blocks = list(_blocks(clips))
    if not corpus.blocks:
        raise ConfigError(
            f"{', '.join(map(str, paths))}: there is no clip. Clips of a folder are found by their names "
            f"({', '.join(sorted(SUFFIXES))})."
        )
    return corpus


def _clips_of_folder(folder: Path, others: Counter[str]) -> Iterator[Clip]:
    def fail(error: OSError) -> None:
        raise ConfigError(f"{error.filename}: cannot be read ({error.strerror or error}).")

    for place, folders, names in os.walk(folder, onerror=fail):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in SUFFIXES:
                path = os.path.join(place, name)
                relative = os.path.relpath(path, folder).replace(os.sep, "/")
                yield Clip(relative, path, _size(path))
            else:
                others[suffix or name] += 1


def _clips_of_parquet(path: Path) -> Iterator[Clip]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        column = column_of(file)
        kind = file.schema_arrow.field(column).type
        if pa.types.is_struct(kind) and "bytes" in {one.name for one in kind}:
            first = 0
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                for row in range(rows):
                    yield Clip(f"{path.name}#{first + row}", str(path), 0, group, row)
                first += rows
            return
        seen: set[str] = set()
        for batch in file.iter_batches(columns=[column]):
            for value in batch.column(0).to_pylist():
                for name in value if isinstance(value, list) else [value]:
                    text = _path_in(name, path, column)
                    if text not in seen:
                        seen.add(text)
                        place = str(path.parent / text)
                        yield Clip(text, place, _size(place))
    except (OSError, pa.ArrowException) as error:
        raise ConfigError(f"{path}: not readable as parquet ({error}).") from error


def column_of(file: Any) -> str:
    """Return which column of a parquet file has the clips.

    Raises
    ------
    ConfigError
        When there is none of `COLUMNS`.
    """
    names = file.schema_arrow.names
    for name in COLUMNS:
        if name in names:
            return name
    raise ConfigError(
        f"a parquet file has no column of {', '.join(COLUMNS)}; found {', '.join(names)}. Rename the one "
        "with the clips."
    )


def _path_in(value: Any, path: Path, column: str) -> str:
    text = value.get("path") if isinstance(value, dict) else value
    if not isinstance(text, str) or not text:
        raise ConfigError(
            f"{path}: column {column!r} holds {value!r}, where a path, or a struct of bytes, is needed."
        )
    return text


def _blocks(clips: Iterator[Clip]) -> Iterator[Block]:
    found: list[Clip] = []
    number = size = 0
    before: Clip | None = None
    for clip in clips:
        # A row group is read as a whole.
        apart = before is not None and clip.row_group != before.row_group
        apart = apart or (before is not None and clip.row >= 0 and clip.place != before.place)
        if found and (apart or len(found) >= CLIPS or size >= BYTES):
            yield Block(number, tuple(found))
            number, found, size = number + 1, [], 0
        found.append(clip)
        size += clip.size
        before = clip
    if found:
        yield Block(number, tuple(found))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except (OSError, ValueError):
        return 0
