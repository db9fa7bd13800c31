"""A made-up dataset in the layout of the real one, for the tests of `mmaupro data fetch`."""

from __future__ import annotations

import io
import random
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
from hub_standin import File

import fullsize
from synth.build import PARQUET_SCHEMA

PER_CATEGORY = 4


@dataclass(frozen=True)
class Dataset:
    """Rows, the clips' bytes by name, and the files of the repository."""

    rows: list[dict]
    clips: dict[str, bytes]
    parquet: bytes
    archive: bytes

    def files(self) -> dict[str, File]:
        """Return fresh files for a stand-in hub."""
        return {
            "README.md": File(b"---\nlicense: cc-by-nc-4.0\n---\n", large=False),
            "test.parquet": File(self.parquet, large=True),
            "data.zip": File(self.archive, large=True),
        }

    def clips_of(self, ids: set[str]) -> set[str]:
        """Return the clip names of some rows."""
        return {clip for row in self.rows if row["id"] in ids for clip in row["audio_path"]}

    def span(self, name: str) -> tuple[int, int]:
        """Return the offsets of a clip's packed bytes in the archive."""
        with zipfile.ZipFile(io.BytesIO(self.archive)) as archive:
            info = archive.getinfo(name)
        header = self.archive[info.header_offset : info.header_offset + 30]
        start = info.header_offset + 30
        start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return start, start + info.compress_size


def make_dataset(seed: int = 0, largest_clip: int = 130_000) -> Dataset:
    """Return some rows of each category and an archive of made-up clips.

    Every third clip is deflated, every seventh has zip64 fields, and the order in the archive is
    not that of the rows.
    """
    rng = random.Random(seed)
    taken: dict[str, int] = {}
    rows = []
    for row in fullsize.rows():
        taken[row["category"]] = taken.get(row["category"], 0) + 1
        if taken[row["category"]] <= PER_CATEGORY:
            rows.append(row)
    names = [clip for row in rows for clip in row["audio_path"]]
    clips = {}
    for number, name in enumerate(names):
        size = rng.randint(1, largest_clip)
        # Half of each clip is compressible, so that deflated ones are shorter in the archive.
        clips[name] = rng.randbytes(size // 2) + bytes(size - size // 2)
        if number == 5:
            clips[name] = b""
    rng.shuffle(names)
    return Dataset(rows, clips, make_parquet(rows), make_archive(clips, names))


def make_parquet(rows: list[dict]) -> bytes:
    """Return rows as the bytes of a parquet file."""
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows, schema=PARQUET_SCHEMA), sink)
    return sink.getvalue()


def make_archive(clips: dict[str, bytes], names: list[str]) -> bytes:
    """Return a zip with a folder entry and the clips in the given order."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("data/", b"")
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(name, (2025, 8, 28, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED if number % 3 == 0 else zipfile.ZIP_STORED
            info.external_attr = 0o100644 << 16
            with archive.open(info, "w", force_zip64=number % 7 == 0) as member:
                member.write(clips[name])
    return sink.getvalue()


def folder_clips(root: Path) -> dict[str, bytes]:
    """Return every file under data/ of a folder, unfinished ones included."""
    audio = root / "data"
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(audio.rglob("*"))
        if path.is_file()
    }
