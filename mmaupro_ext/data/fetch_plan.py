"""What a fetch has to do: which rows, which members of the archive, and how much space they need."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmaupro_ext.data import archive as zips
from mmaupro_ext.data.fetch_state import Screen, size_of
from mmaupro_ext.data.hub import Hub, identity, sha256_of
from mmaupro_ext.data.locate import ARCHIVE, AUDIO_FOLDER, PARQUET
from mmaupro_ext.data.safe import stat_clip
from mmaupro_ext.data.schema import Doc, LoadReport
from mmaupro_ext.data.selection import Selection, make_selection, read_selection, select
from mmaupro_ext.data.table import read_documents
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import RepoSibling

    from mmaupro_ext.data.fetch_request import Request

PART_SUFFIX = ".mmaupro-part"  # of clips and archives that are still being written
ATTEMPTS = 3  # for bytes that arrive and are wrong
STEP = 1 << 20  # bytes that are read of a file at once
# Bytes at the archive's end that are read for its directory; the released one takes half a MiB.
_TAILS = (1 << 20, 64 << 20)
_BLOCK = 4096  # bytes; what a file system rounds a file's size up to
_MARGIN = 16 << 20  # bytes of free space beyond the clips: parquet, journal, folders
_LARGEST_PARQUET = 256 << 20


@dataclass(frozen=True)
class Plan:
    """What a fetch has to do.

    Parameters
    ----------
    docs, asked : list of dict
        All rows, and those that this fetch asks for.
    selection : Selection
        What the folder is to hold from now on.
    was_complete : bool
        Whether it held every clip before.
    wanted, absent : list
        The archive's members that are asked for, and the names of clips that it has not.
    members : dict
        Every member by name.
    """

    docs: list[Doc]
    asked: list[Doc]
    selection: Selection
    was_complete: bool
    wanted: list[zips.Member]
    absent: list[str]
    members: dict[str, zips.Member]

    def space_needed(self, request: Request, todo: list[zips.Member], archive_size: int) -> int:
        """Return how many bytes the disk must have free for the members in `todo`."""
        if not todo:
            return 0
        size = sum(_on_disk(member.size) for member in todo)
        if not request.archive:
            return size + _MARGIN
        have = max(size_of(request.root / name) for name in (ARCHIVE, ARCHIVE + PART_SUFFIX))
        if request.keep_archive:
            return archive_size - have + size + _MARGIN
        # Members are unpacked from the last to the first, and each leaves the archive's end.
        peak, unpacked = archive_size, 0
        names = {member.name for member in todo}
        for member in sorted(self.wanted, key=lambda item: -item.start):
            if member.name in names:
                unpacked += _on_disk(member.size)
                peak = max(peak, member.stop + unpacked)
        return peak - have + _MARGIN


def make_plan(request: Request, hub: Hub, screen: Screen, content: bytes) -> Plan:
    """Compare what is asked for with what the archive and the folder hold.

    Parameters
    ----------
    request, hub, screen
        Of the fetch.
    content : bytes
        Of test.parquet.

    Raises
    ------
    DataError
        When the parquet or the archive cannot be used, or the folder holds another revision.
    ConfigError
        When the selection cannot be made.
    """
    criteria, root = request.criteria, request.root
    report = LoadReport(source=f"{PARQUET} at {hub.commit}")
    docs = read_documents(content, report, expect_counts=False)
    earlier = read_selection(root)
    asked = select(docs, criteria)
    selection = make_selection(docs, criteria, hub.commit, earlier)
    members = {member.name: member for member in _directory(request, hub, screen)}
    names = dict.fromkeys(clip for doc in asked for clip in doc["audio_path"])
    if criteria.everything:
        names = dict.fromkeys([*members, *names])
    # A folder without selection.json that has every clip is a whole dataset, also when it was
    # unpacked by hand: fetching a part of it must not make it a partial one.
    clips = {clip for doc in docs for clip in doc["audio_path"]} & members.keys()
    whole = bool(clips) and all(has_size(root, members[clip]) for clip in clips)
    was_complete = earlier is None and whole
    if earlier is not None and not request.dry_run:
        screen.say(
            f"the folder has a {earlier.describe()}. This fetch adds "
            f"{len(selection.ids - earlier.ids):,} items to the selection."
        )
    elif was_complete and not criteria.everything:
        screen.say("the folder holds every clip of the dataset already")
    wanted = [members[name] for name in names if name in members]
    absent = [name for name in names if name not in members]
    return Plan(docs, asked, selection, was_complete, wanted, absent, members)


def dry_run(request: Request, hub: Hub, screen: Screen) -> bool:
    """Say what a fetch would do, write nothing, and return whether there is enough space for it."""
    plan, say = make_plan(request, hub, screen, parquet(request.root, hub)), screen.say
    todo = [member for member in plan.wanted if not has_size(request.root, member)]
    counts = Counter(doc["category"] for doc in plan.asked)
    need = plan.space_needed(request, todo, hub.file(ARCHIVE).size or 0)
    folder = next(path for path in (request.root, *request.root.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    say(f"selection: {request.criteria.describe()}")
    say("items: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    say(
        f"clips: {len(plan.wanted):,}, of which {len(plan.wanted) - len(todo):,} are there by size; "
        f"to download: {readable(sum(m.stop - m.start for m in todo))}; on disk: "
        f"{readable(sum(m.size for m in todo))} more"
    )
    report_absent(plan, say)
    say(f"space in {folder}: {readable(free)} free, {readable(need)} needed")
    say("dry run: nothing was written")
    return free >= need


def report_absent(plan: Plan, say: Callable[[str], None]) -> None:
    """Say which clips the archive has not."""
    if plan.absent:
        say(
            f"{len(plan.absent):,} clips that {PARQUET} names are not in {ARCHIVE} (first: "
            f"{plan.absent[0]}); their items cannot be answered"
        )


def check_space(folder: Path, need: int, what: str) -> None:
    """Raise DataError when a disk has fewer than `need` bytes free."""
    free = shutil.disk_usage(folder).free
    if free < need:
        raise DataError(
            f"{folder} has {readable(free)} free, and {what} need {readable(need)}. Free some "
            "space, name another folder with --to, or fetch a part (--category, --limit). "
            "Nothing more was downloaded."
        )


def parquet(root: Path, hub: Hub) -> bytes:
    """Return the bytes of test.parquet, from the folder when they are those of the commit."""
    remote, path = hub.file(PARQUET), root / PARQUET
    if path.is_file():
        content = path.read_bytes()
        if _is_content(content, remote):
            return content
        raise DataError(
            f"{path} is not the file of {hub.repo} at {hub.commit}. Move it away to have it "
            "fetched, or name another folder with --to."
        )
    size = remote.size or 0
    if not 0 < size <= _LARGEST_PARQUET:
        raise DataError(f"the host states {size:,} bytes for {PARQUET}. Check --repo.")
    for _ in range(ATTEMPTS):
        content = b"".join(hub.stream(remote, 0, size, whole=True))
        if _is_content(content, remote):
            return content
    raise DataError(
        f"{PARQUET} arrived {ATTEMPTS} times with a digest other than {identity(remote)}. Look at "
        f"the mirror or proxy in between ({hub.endpoint})."
    )


def _is_content(content: bytes, remote: RepoSibling) -> bool:
    """Return whether bytes are those of a remote file, by the strongest name that the host gave."""
    if len(content) != remote.size:
        return False
    if sha256_of(remote):
        return hashlib.sha256(content).hexdigest() == sha256_of(remote)
    blob = b"blob %d\0" % len(content) + content
    digest = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    return remote.blob_id in (None, digest)


def _directory(request: Request, hub: Hub, screen: Screen) -> list[zips.Member]:
    """Read the table of contents at the archive's end, in the folder where the archive is whole."""
    path, remote = request.root / ARCHIVE, hub.file(ARCHIVE)
    size = remote.size or 0
    local = request.archive and size_of(path) == size
    for length in _TAILS:
        begin = max(0, size - length)
        source = pieces(path, begin, size) if local else hub.stream(remote, begin, size)
        tail = b"".join(source)
        try:
            members, ignored = zips.read_directory(tail, size, str(path) if local else ARCHIVE)
            break
        except DataError:
            if length == _TAILS[-1] or len(tail) == size:
                raise
    if ignored:
        screen.say(
            f"{len(ignored)} names of {ARCHIVE} outside {AUDIO_FOLDER} are not extracted (first: "
            f"{ignored[0]!r})"
        )
    return members


def has_size(root: Path, member: zips.Member) -> bool:
    """Return whether a clip is in the folder itself, with the size that the archive states."""
    try:
        return stat_clip(root, member.name).st_size == member.size
    except OSError:
        return False


def pieces(path: Path, start: int, stop: int) -> Iterator[bytes]:
    """Yield the bytes of a file from offset `start` to `stop`, or to its end."""
    with path.open("rb") as stream:
        stream.seek(start)
        while start < stop and (piece := stream.read(min(stop - start, STEP))):
            start += len(piece)
            yield piece


def _on_disk(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
