"""Made-up releases of MMAU, MMAR and MMSU in the form in which the hosts have them, for tests of fetching."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
from hub_standin import File, StandInHub

from mmaupro_ext.benchmarks import BENCHMARKS, Benchmark
from mmaupro_ext.data.locate import SAMPLES_DIR

NAMES = ("mmau", "mmsu", "mmar")


@dataclass
class Release:
    """A benchmark whose description fits these files; `rows` and `clips` are what a fetch should make."""

    benchmark: Benchmark
    rows: list[dict[str, Any]]
    clips: dict[str, bytes]
    files: dict[str, File]
    raw: dict[str, File]

    def hub(self) -> StandInHub:
        """Return a stand-in that serves them."""
        stated = next(file for file in self.benchmark.files if file.host == "hub")
        hub = StandInHub(dict(self.files), repo=stated.repository, commit=stated.revision)
        hub.raw = dict(self.raw)
        return hub

    @property
    def largest(self) -> str:
        """Path of the largest file that holds clips."""
        return max(self.files, key=lambda name: self.files[name].size)


def released(
    name: str,
    rows: list[dict[str, Any]] | None = None,
    clips: dict[str, bytes] | None = None,
    longest: int = 0,
    paths: str | None = "{}",
) -> Release:
    """Return a release of the sample's rows and clips, or of others.

    `longest` puts so many random bytes in place of a clip; `paths` is what a parquet calls its clips.
    """
    folder = SAMPLES_DIR / name
    if rows is None:
        lines = (folder / "rows.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
    if clips is None:
        clips = {f"data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()}
    rng = random.Random(15)
    if longest:
        clips = {clip: rng.randbytes(rng.randint(longest // 2, longest)) for clip in clips}
    benchmark = BENCHMARKS[name]
    if name == "mmar":
        return _tar_release(benchmark, rows, clips)
    shards = [rows] if name == "mmau" else [rows[:7], rows[7:12], rows[12:]]
    files = {}
    for number, shard in enumerate(shards):
        path = benchmark.files[0].path.replace("*", f"{number:05}-of-{len(shards):05}")
        files[path] = File(_parquet(benchmark, shard, clips, paths), large=True)
    return Release(benchmark, rows, clips, files, {})


def _parquet(benchmark: Benchmark, rows: list, clips: dict[str, bytes], paths: str | None) -> bytes:
    column, released = benchmark.clip_column, []
    for row in rows:
        cell = None
        if row[column] is not None:
            path = None if paths is None else paths.format(Path(row[column]).name)
            cell = {"bytes": clips[row[column]], "path": path}
        released.append({**row, column: cell})
    sink = io.BytesIO()
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.Table.from_pylist(released)
    table = table.set_column(
        table.schema.get_field_index(column), column, pa.array([r[column] for r in released], kind)
    )
    pyarrow.parquet.write_table(table, sink, row_group_size=4)
    return sink.getvalue()


def _tar_release(benchmark: Benchmark, rows: list, clips: dict[str, bytes]) -> Release:
    column = benchmark.clip_column
    theirs = copy.deepcopy(rows)
    for row in theirs:
        row[column] = row[column].replace("data/", "./audio/")
    content = "\n".join(json.dumps(row) for row in theirs).encode()
    members = {f"audio/{Path(clip).name}": bytes_ for clip, bytes_ in clips.items()}
    return with_archive(Release(benchmark, rows, clips, {}, {}), content, archive(members))


def with_archive(release: Release, rows: bytes, content: bytes) -> Release:
    """Return a release with another file of rows and another archive."""
    metadata, stated = release.benchmark.files
    metadata = replace(metadata, bytes=len(rows), digest=hashlib.sha256(rows).hexdigest())
    url = f"{metadata.repository}/{metadata.revision}/{metadata.path}"
    benchmark = replace(release.benchmark, files=(metadata, stated))
    files = {stated.path: File(content, large=True)}
    return replace(release, benchmark=benchmark, files=files, raw={url: File(rows, large=False)})


def archive(members: dict[str, bytes], *extra: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    """Return a tar archive of some files, and of entries without content."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode=mode) as tar:
        for entry in extra:
            tar.addfile(entry)
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()
