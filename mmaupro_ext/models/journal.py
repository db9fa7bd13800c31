"""The answers of a model, kept on disk as they come, in files that are only added to.

A journal is a folder with a folder for each identity (`identity`), and in it a file for each process that
ever answered there, one line an answer (`journal_lines`)::

    PLACE/3f2a11bb00cc/20260731T221504.120344Z-node7-4711.jsonl

A line is written by one call, so that a process that is killed leaves at most its last line unfinished. A
new process adds a file of its own and reads all of them.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmaupro_ext.errors import ConfigError, MMAUProError
from mmaupro_ext.models.identity import Identity, differences
from mmaupro_ext.models.journal_lines import Address, Kept, files_of, is_failure, line_of, read

logger = logging.getLogger(__name__)

FOLDER = "journal"  # beside the outputs

# Seconds between two calls that have the disk itself, and not only the system, hold what was written.
_SYNC_S = 1.0
_SHOWN = 8  # differing fields in a message


class NotKeptError(MMAUProError):
    """An answer could not be written: the run ends before more of them are lost."""


# ---- one identity --------------------------------------------------------------------------------


class Journal:
    """What is kept of the answers of one identity.

    Parameters
    ----------
    place : path-like
        Folder of the journal; it is made when the first answer comes.
    identity : Identity
        Whose answers.

    Raises
    ------
    ConfigError
        When a file of it cannot be read.

    Notes
    -----
    Where another identity has answers at this place and this one has none, the log says what differs.
    """

    def __init__(self, place: str | os.PathLike[str], identity: Identity) -> None:
        self.place, self.identity = Path(place), identity
        self.folder = self.place / identity.id
        self.since: str | None = None  # when the youngest process began whose answers were found
        self.path: Path | None = None
        self._answers: dict[str, dict[Address, dict[str, Any]]] = {}
        self._file: Any = None
        self._synced = 0.0
        for file in _read_all(self.folder):
            for address, entry in file.answers:
                self._note(address, entry)
            if file.answers and file.start is not None:
                self.since = file.start["started"]
        if self._answers:
            return
        self._say_what_is_left_alone()

    def __len__(self) -> int:
        """Return how many answers there are."""
        return sum(map(len, self._answers.values()))

    def find(self, address: Address, *, alike: bool) -> dict[str, Any] | None:
        """Return an answer as `encode` made it, None where there is none.

        Parameters
        ----------
        address : Address
            Where it belongs.
        alike : bool
            Whether the answer to the same request for another document will do: it does where
            nothing is sampled.
        """
        known = self._answers.get(address.request, {})
        if address in known or not alike:
            return known.get(address)
        return next(iter(known.values()), None)

    def start(self, facts: Mapping[str, Any]) -> None:
        """Begin the file of this process.

        Parameters
        ----------
        facts : mapping
            What `mmaupro runs` shows of it, as plain JSON.

        Raises
        ------
        ConfigError
            When it cannot be written.
        """
        started = datetime.now(UTC)
        entry = {
            "started": started.isoformat(timespec="seconds"),
            "identity": self.identity.as_dict(),
            **facts,
        }
        host = re.sub(r"[^\w.-]", "-", socket.gethostname()) or "host"
        name = f"{started:%Y%m%dT%H%M%S.%f}Z-{host}-{os.getpid()}.jsonl"
        self.path = self.folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "xb", buffering=0)  # noqa: SIM115 - open as long as this is
            with contextlib.suppress(OSError):  # some file systems do not sync folders
                folder = os.open(self.folder, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)
        except OSError as error:
            raise ConfigError(
                f"{self.folder}: answers cannot be kept there ({error.strerror or error}). Give "
                "--output_path a folder that can be written to."
            ) from error
        self._write({"start": entry})
        self.sync()

    def keep(self, address: Address, entry: dict[str, Any]) -> None:
        """Keep an answer: when this returns, the system has it, whatever becomes of this process.

        Parameters
        ----------
        address : Address
            Where it belongs.
        entry : dict
            As `encode` makes it.

        Raises
        ------
        NotKeptError
            When it cannot be written; what was written before is whole.
        """
        self._write({**address._asdict(), **entry})
        self._note(address, entry)
        if time.monotonic() - self._synced >= _SYNC_S:
            self.sync()

    def sync(self) -> None:
        """Have the disk hold what was written."""
        self._synced = time.monotonic()
        if self._file is not None:
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._not_kept(error) from error

    def _write(self, entry: Mapping[str, Any]) -> None:
        line = line_of(entry)
        end = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(line) != len(line):  # as much as the disk could take
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), end)
            raise self._not_kept(error) from error

    def _not_kept(self, error: OSError) -> NotKeptError:
        return NotKeptError(
            f"{self.folder}: an answer could not be written ({error.strerror or error}). "
            f"{len(self)} answers are kept there. Make room, and the same command goes on."
        )

    def _note(self, address: Address, entry: dict[str, Any]) -> None:
        known = self._answers.setdefault(address.request, {})
        # Of a failure and an answer, the answer counts, whichever clock wrote the names of the files.
        if address not in known or not is_failure(entry) or is_failure(known[address]):
            known[address] = entry

    def _say_what_is_left_alone(self) -> None:
        others = []
        for folder in _identities(self.place):
            files = _read_all(folder)
            starts = [file.start for file in files if file.start is not None]
            count = sum(len(file.answers) for file in files)
            if starts and count:
                fields = dict(starts[-1]["identity"])
                others.append((count, fields.pop("id"), fields))
        # The nearest first: it is the one that was probably meant.
        others.sort(key=lambda other: len(differences(self.identity.fields, other[2])))
        for count, name, fields in others[:1]:
            found = differences(self.identity.fields, fields)
            more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            logger.warning(
                "%s holds %d answers of another identity, %s (%s): they are left alone and not used. "
                "Identity of this run: %s (%s). What differs: %s%s",
                *(self.place, count, name, fields.get("model")),
                *(self.identity.id, self.identity.fields.get("model")),
                *("; ".join(found[:_SHOWN]), more),
            )
        if len(others) > 1:
            logger.info("%s holds the answers of %d more identities", self.place, len(others) - 1)


def _identities(place: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        for folder in sorted(place.iterdir()):
            if folder.is_dir() and files_of(folder):
                yield folder


def _read_all(folder: Path) -> list[Kept]:
    """Read all files of an identity; say which lines are not whole."""
    found: list[Kept] = []
    path = folder
    try:
        for path in files_of(folder):
            found.append(read(path))
    except OSError as error:
        raise ConfigError(
            f"{path}: answers that were kept cannot be read ({error.strerror or error}). Make it "
            "readable, or delete it, and its answers are asked for again."
        ) from error
    for kept in found:
        if kept.damaged:
            which = "its last line" if kept.torn else f"line {kept.damaged[0]}"
            if len(kept.damaged) > 1:
                which += f" and {len(kept.damaged) - 1} more"
            logger.warning(
                "%s: not whole and left out: %s. What stood there is asked for again, all else is kept",
                kept.path,
                which,
            )
    return found
