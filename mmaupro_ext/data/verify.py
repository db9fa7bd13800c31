"""Whether a copy is complete, readable and what it is said to be.

Three kinds of answers are kept apart:

* facts: numbers that the paper or others state, beside the numbers found;
* problems: what makes a run on this copy wrong or incomplete (exit status 1);
* notes: what is worth knowing about the data itself, such as questions whose answer is not among
  their choices. They are listed and change nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO
from mmaupro_ext.data import clips, facts, findings, item_findings, items, manifest
from mmaupro_ext.data.facts import FactCheck
from mmaupro_ext.data.findings import Difference
from mmaupro_ext.data.locate import PARQUET, ROWS, SAMPLE_DIR, locate
from mmaupro_ext.data.manifest import Entry
from mmaupro_ext.data.rows import broken_doc, normalise_row
from mmaupro_ext.data.safe import stat_clip
from mmaupro_ext.data.schema import Doc, LoadReport
from mmaupro_ext.data.selection import Selection, read_selection
from mmaupro_ext.data.table import read_rows
from mmaupro_ext.errors import ConfigError, DataError
from mmaupro_ext.util import write_json

logger = logging.getLogger(__name__)


@dataclass
class VerifyReport:
    """What `verify` found.

    Parameters
    ----------
    dataset : str
        What `items.dataset_title` says.
    folder : str
        Where it is.
    quick : bool
        Whether clips were compared by size and time only.
    facts : list of FactCheck
        The stated numbers.
    differences : list of Difference
        Problems first, then notes.
    clips : dict
        Totals: `referenced`, `present`, `broken`, `read` (in this run), `bytes`, `seconds`.
    manifest : str or None
        Where the manifest was written; None with `quick`.
    elapsed_s : float
        Wall-clock time.
    """

    dataset: str
    folder: str
    quick: bool
    facts: list[FactCheck] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    clips: dict[str, Any] = field(default_factory=dict)
    manifest: str | None = None
    elapsed_s: float = 0.0

    @property
    def problems(self) -> list[Difference]:
        """Return the differences that make the exit status 1."""
        return [found for found in self.differences if found.severity == "problem"]

    @property
    def notes(self) -> list[Difference]:
        """Return what is worth knowing and changes nothing."""
        return [found for found in self.differences if found.severity == "note"]

    @property
    def ok(self) -> bool:
        """Return whether everything is as stated and no problem was found."""
        return not self.problems and all(fact.verdict != "DIFFERS" for fact in self.facts)

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON, with every example."""
        return {
            "mmaupro_ext": __version__,
            "ok": self.ok,
            **{key: value for key, value in asdict(self).items() if key != "facts"},
            "facts": [{**asdict(fact), "verdict": fact.verdict} for fact in self.facts],
        }


def read_every_row(path: Path) -> tuple[list[Doc], LoadReport, list[str]]:
    """Read test.parquet row by row, so that one bad row does not hide the others.

    Parameters
    ----------
    path : pathlib.Path
        The parquet file.

    Returns
    -------
    docs : list of dict
        The rows as `rows.normalise_row` returns them, or as `rows.broken_doc` does.
    report : LoadReport
        What is unusual about them.
    errors : list of str
        One message per row that breaks the schema.

    Raises
    ------
    DataError
        When the file is not readable as parquet or lacks a needed column.
    """
    report = LoadReport(source=str(path))
    docs: list[Doc] = []
    errors: list[str] = []
    seen: dict[str, int] = {}
    for number, row in enumerate(read_rows(path, report)):
        try:
            doc = normalise_row(row, number, report)
        except DataError as error:
            errors.append(str(error))
            broken = broken_doc(row, error)
            if broken is None:
                continue
            doc = broken
        first = seen.setdefault(doc["id"], number)
        if first != number:
            errors.append(f"row {number} (id {doc['id']}): the id is there already in row {first}")
        docs.append(doc)
    return docs, report, errors


def verify(
    data_dir: str | os.PathLike[str] | None = None,
    sample: bool = False,
    *,
    jobs: int | None = None,
    quick: bool = False,
    accept_changes: bool = False,
    progress: bool = False,
    name: str = MMAUPRO,
) -> VerifyReport:
    """Check a dataset against what is stated about it, and every clip to its last sample.

    Parameters
    ----------
    data_dir : path, optional
        Folder of the dataset; see `locate`.
    sample : bool
        Check the embedded sample instead.
    jobs : int, optional
        Threads that read clips; by default every core that may be used.
    quick : bool
        Read no clip: compare size and modification time with the manifest.
    accept_changes : bool
        Take the present bytes of clips that differ from the manifest as right from now on.
    progress : bool
        Show a progress bar on stderr where that is a terminal.
    name : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    VerifyReport
        Facts, problems, notes.

    Raises
    ------
    DataError
        When there is no dataset, or its file of rows cannot be read at all.
    clips.ScanInterruptedError
        On Ctrl-C; the next call goes on where this one stopped.
    """
    started = time.monotonic()
    if sample and data_dir is not None:
        raise ConfigError("the sample is part of the package: give a folder or --sample, not both")
    benchmark = BENCHMARKS[name]
    if benchmark.read_row is None:
        root = SAMPLE_DIR if sample else locate(data_dir)
        docs, load_report, row_errors = read_every_row(root / PARQUET)
        stated = facts.check_facts(docs, None if sample else "MMAU-Pro")
        if sample:
            stated = facts.sample_facts(stated, root)
        of_rows = list(findings.row_differences(docs, load_report, row_errors))
    else:
        root, docs = items.all_documents(name, data_dir, sample)
        stated = facts.described_facts(benchmark, docs, sample)
        rows = items.released_rows(root / ROWS)
        of_rows = list(item_findings.item_differences(docs, rows))
    report = VerifyReport(items.dataset_title(name, sample), str(root), quick, stated)
    selection = None if sample else read_selection(root)
    referenced = _wanted_clips(root, docs, selection)
    promised = manifest.known_clips(root)
    if quick:
        entries = {clip: quick_entry(root, clip, promised.get(clip)) for clip in referenced}
        read = 0
    else:
        entries, read, report.manifest = _scan(
            root, report.dataset, referenced, promised, jobs, accept_changes, progress, sample
        )
    report.differences = [
        *of_rows,
        *_partial_note(selection),
        *findings.clip_differences(docs, entries, promised, quick, accept_changes),
        *findings.audio_notes(docs, entries),
        *item_findings.format_notes(entries),
        *findings.unreferenced(root, {clip for doc in docs for clip in doc["audio_path"]}),
    ]
    report.differences.sort(key=lambda found: found.severity != "problem")
    present = {clip: entry for clip, entry in entries.items() if entry.get("problem") != "missing"}
    report.clips = {
        "referenced": len(referenced),
        "present": len(present),
        "broken": sum("problem" in entry for entry in present.values()),
        "read": read,
        "bytes": sum(entry.get("bytes", 0) for entry in present.values()),
        "seconds": round(sum(entry.get("seconds", 0.0) for entry in present.values()), 3),
    }
    report.elapsed_s = round(time.monotonic() - started, 3)
    return report


def _wanted_clips(root: Path, docs: list[Doc], selection: Selection | None) -> list[str]:
    """Return the clips that the folder should hold, and those that it holds beyond a selection."""
    return list(
        dict.fromkeys(
            clip
            for doc in docs
            for clip in doc["audio_path"]
            if selection is None or doc["id"] in selection.ids or (root / clip).exists()
        )
    )


def _partial_note(selection: Selection | None) -> Iterator[Difference]:
    if selection is None:
        return
    yield Difference(
        "partial",
        "note",
        "this folder holds a part of the dataset on purpose; clips of other rows are not missed",
        [selection.describe()],
        "Results on it are results on this part. `mmaupro data fetch` without a selection "
        "completes the folder.",
        "selections",
    )


def quick_entry(root: Path, clip: str, promised: Entry | None) -> Entry:
    """Return what the manifest says of a clip, as long as size and time still agree."""
    try:
        status = stat_clip(root, clip)
    except FileNotFoundError:
        return {"problem": "missing"}
    except OSError as error:
        return {"problem": f"is not opened: {error.strerror}"}
    now = {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    if promised is None:
        return {**now, "unread": True}
    if promised.get("bytes", status.st_size) != status.st_size:
        return {**now, "problem": f"{status.st_size:,} bytes, manifest: {promised['bytes']:,}"}
    touched = promised.get("mtime_ns", status.st_mtime_ns) != status.st_mtime_ns
    return {**promised, **now, **({"touched": True} if touched else {})}


def _scan(
    root: Path,
    dataset: str,
    referenced: list[str],
    promised: dict[str, Entry],
    jobs: int | None,
    accept_changes: bool,
    progress: bool,
    sample: bool,
) -> tuple[dict[str, Entry], int, str | None]:
    """Measure the clips; return entries, how many were read, and where the manifest went."""
    # The package's own folder is never written, even where it could be.
    own = manifest.cached_manifest_dir(root)
    folders = [own] if sample else [root, own]
    resumed: dict[str, Entry] = {}
    for folder in folders:
        resumed |= (manifest.read_manifest(folder / manifest.PARTIAL) or {"files": {}})["files"]
    head = {"name": dataset, "written_by": f"mmaupro-ext {__version__}"}

    def save(entries: dict[str, Entry]) -> None:
        _write_first(folders, manifest.PARTIAL, {**head, "complete": False, "files": entries})

    reused = sum(
        clip in resumed and manifest.unchanged(root / clip, resumed[clip]) for clip in referenced
    )
    if reused:
        logger.info("%d of %d clips were read by an earlier run", reused, len(referenced))
    entries = clips.scan(root, referenced, known=resumed, jobs=jobs, save=save, progress=progress)

    files = {}
    for clip, entry in entries.items():
        earlier = promised.get(clip)
        lost = earlier is not None and "sha256" not in entry
        changed = findings.bytes_differ(entry, earlier) and not accept_changes
        if earlier is not None and (lost or changed):
            files[clip] = earlier  # what it should be, until it is repaired or accepted
        elif "sha256" in entry:
            files[clip] = entry
    content = {**head, "complete": len(files) == len(referenced), "files": files}
    written = _write_first(folders, manifest.MANIFEST, content)
    for folder in folders:
        with contextlib.suppress(OSError):
            (folder / manifest.PARTIAL).unlink()
    read = sum("bytes" in entry for entry in entries.values()) - reused
    return entries, read, None if written is None else str(written)


def _write_first(folders: list[Path], name: str, content: dict[str, Any]) -> Path | None:
    """Write a file into the first folder that takes it; no folder is no reason to stop."""
    reasons = []
    for folder in folders:
        try:
            write_json(folder / name, content)
        except OSError as error:
            reasons.append(str(error))
        else:
            return folder / name
    logger.warning("%s was not written: %s", name, "; ".join(reasons))
    return None
