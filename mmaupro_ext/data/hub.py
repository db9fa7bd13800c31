"""Files of a dataset on a Hugging Face hub: what there is, and byte ranges that outlive failures.

Everything goes through `huggingface_hub`'s own session, URLs and headers, so that `HF_ENDPOINT`,
`HF_TOKEN`, `hf auth login`, proxies, certificates and `HF_HUB_OFFLINE` work as everywhere. What is
added is what a 47.5 GB file on a throttling host needs and `hf_hub_download` does not give: a
range that goes on where the connection broke, waits that the host asked for shared by all
connections, and a check of every answer against the file that was announced.
"""

from __future__ import annotations

import email.utils
import io
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import huggingface_hub
from huggingface_hub import errors as hub_errors
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from mmaupro_ext import __version__
from mmaupro_ext.errors import DataError

# Base class of the HTTP library's errors; the library itself differs between hub 1.x and 2.x.
HTTPError: type[Exception] = hub_errors.HTTPError

RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
PROGRESS = 64 << 10  # bytes after which a connection counts as having made headway
LARGEST_READ = 64 << 20  # bytes; the central directory of 5,787 members takes less than 1 MB
API_TIMEOUT = 30.0  # seconds


class Stopped(Exception):  # noqa: N818 - not an error: someone asked for it
    """The fetch was told to stop."""


class ChangedFileError(DataError):
    """A file is not the one that was announced, or that was there when the fetch began."""


@dataclass(frozen=True)
class RetryPolicy:
    """How long to try again.

    Parameters
    ----------
    attempts : int
        Failures in a row, without headway, after which a request is given up.
    base, longest : float
        Seconds before the second attempt, and the bound of the doubling.
    longest_pause : float
        Seconds; a host that asks for more ends the fetch with a message instead.
    """

    attempts: int = 8
    base: float = 1.0
    longest: float = 60.0
    longest_pause: float = 3600.0


@dataclass(frozen=True)
class RemoteFile:
    """A file of the repository.

    Parameters
    ----------
    name : str
        Path in the repository.
    size : int
        Bytes.
    sha256 : str or None
        Of the bytes, when the host stores the file as a large file.
    blob_id : str or None
        Git object id of the bytes; of a pointer to them when `sha256` is given.
    """

    name: str
    size: int
    sha256: str | None
    blob_id: str | None

    @property
    def identity(self) -> str:
        """What names the content: the sha256, else the git object id."""
        return self.sha256 or self.blob_id or f"size-{self.size}"


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository.

    Parameters
    ----------
    repo : str
        `owner/name`.
    commit : str
        40 hexadecimal digits.
    files : dict
        Path to `RemoteFile`.
    licence : str or None
        What the dataset card states.
    """

    repo: str
    commit: str
    files: dict[str, RemoteFile]
    licence: str | None

    def file(self, name: str) -> RemoteFile:
        """Return one file.

        Raises
        ------
        DataError
            When the commit has no such file.
        """
        if name not in self.files:
            raise DataError(
                f"{self.repo} at {self.commit} has no {name}; it has {sorted(self.files)}. "
                "Check --revision and --repo."
            )
        return self.files[name]


class Gate:
    """A pause that every connection keeps when the host asks one of them to wait.

    Parameters
    ----------
    stop : threading.Event
        Ends every wait at once.
    tell : callable
        Receives a line for the user when a wait begins.
    """

    def __init__(self, stop: threading.Event, tell: Callable[[str], None]) -> None:
        self.stop, self._tell = stop, tell
        self._lock = threading.Lock()
        self._until = 0.0
        self._told_until = 0.0

    def check(self) -> None:
        """Raise `Stopped` when the fetch was told to stop, else wait while a pause is on."""
        while not self.stop.is_set():
            left = self._until - time.monotonic()
            if left <= 0:
                return
            self.stop.wait(left)
        raise Stopped

    def pause(self, seconds: float, why: str) -> None:
        """Let all connections wait."""
        with self._lock:
            now = time.monotonic()
            self._until = max(self._until, now + seconds)
            if seconds >= 2 and now >= self._told_until:
                self._told_until = self._until
                self._tell(f"{why}; waiting {seconds:.0f} s, then going on")

    def sleep(self, seconds: float, why: str) -> None:
        """Let this connection wait."""
        if seconds >= 8:
            self._tell(f"{why}; trying again in {seconds:.0f} s")
        if self.stop.wait(seconds):
            raise Stopped


class Hub:
    """A dataset repository on a hub.

    Parameters
    ----------
    repo : str
        `owner/name`.
    endpoint : str, optional
        Base URL; `HF_ENDPOINT` or the public hub by default.
    policy : RetryPolicy, optional
        How long to try again.
    stop : threading.Event, optional
        Set it to end every request soon.
    tell : callable, optional
        Receives lines for the user.
    """

    def __init__(
        self,
        repo: str,
        *,
        endpoint: str | None = None,
        policy: RetryPolicy | None = None,
        stop: threading.Event | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.repo = repo
        self.endpoint = (endpoint or huggingface_hub.constants.ENDPOINT).rstrip("/")
        self.policy = policy or RetryPolicy()
        self.gate = Gate(stop or threading.Event(), tell or (lambda line: None))
        self._jitter = random.Random()

    def snapshot(self, revision: str) -> Snapshot:
        """Ask what a revision holds.

        Parameters
        ----------
        revision : str
            Commit, branch or tag.

        Returns
        -------
        Snapshot
            With the commit that the revision names now.

        Raises
        ------
        DataError
            When the host refuses or cannot be reached.
        """
        api = huggingface_hub.HfApi(
            endpoint=self.endpoint, library_name="mmaupro-ext", library_version=__version__
        )

        def ask() -> Any:
            return api.dataset_info(
                self.repo, revision=revision, files_metadata=True, timeout=API_TIMEOUT
            )

        info = self._retry(ask, f"the file list of {self.repo}", revision)
        files = {}
        for entry in info.siblings or []:
            if entry.size is None:
                continue
            sha256 = entry.lfs.sha256 if entry.lfs is not None else None
            files[entry.rfilename] = RemoteFile(
                entry.rfilename, int(entry.size), sha256, entry.blob_id
            )
        if not info.sha:
            raise DataError(
                f"{self.endpoint} did not say which commit {revision!r} is. Check that HF_ENDPOINT "
                "names a hub or a full mirror of one."
            )
        licence = getattr(info.card_data, "license", None)
        return Snapshot(self.repo, info.sha, files, licence if isinstance(licence, str) else None)

    def stream(
        self, snapshot: Snapshot, file: RemoteFile, start: int, stop: int, *, whole: bool = False
    ) -> Iterator[bytes]:
        """Yield the bytes of a range, going on where a connection breaks.

        Parameters
        ----------
        snapshot : Snapshot
            The commit.
        file : RemoteFile
            One of its files.
        start, stop : int
            Offsets in bytes, `0 <= start < stop <= file.size`.
        whole : bool
            True accepts a host that ignores ranges: bytes before `start` are then read and thrown
            away.

        Yields
        ------
        bytes
            Together exactly `stop - start` bytes.

        Raises
        ------
        DataError
            When the host refuses, serves another file, or fails too often in a row.
        Stopped
            When the stop event was set.
        """
        url = huggingface_hub.hf_hub_url(
            self.repo,
            file.name,
            repo_type="dataset",
            revision=snapshot.commit,
            endpoint=self.endpoint,
        )
        position, milestone, failures = start, start, 0
        while position < stop:
            self.gate.check()
            try:
                for chunk in self._one_response(url, snapshot, file, position, stop, whole):
                    position += len(chunk)
                    if position - milestone >= PROGRESS:
                        milestone, failures = position, 0
                    yield chunk
                    self.gate.check()
                if position < stop:
                    raise _Again(f"the connection for {file.name} ended early")
            except (_Again, HTTPError, hub_errors.OfflineModeIsEnabled) as error:
                failures += 1
                self._after_failure(error, failures, f"bytes of {file.name}", snapshot.commit)

    def _one_response(
        self,
        url: str,
        snapshot: Snapshot,
        file: RemoteFile,
        position: int,
        stop: int,
        whole: bool,
    ) -> Iterator[bytes]:
        headers = build_hf_headers(library_name="mmaupro-ext", library_version=__version__)
        headers["Accept-Encoding"] = "identity"
        headers["Range"] = f"bytes={position}-{stop - 1}"
        session = huggingface_hub.get_session()
        timeout = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
        with session.stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            self._check_response(response, snapshot, file, position, stop)
            skip = 0
            if response.status_code == 200 and position > 0:
                if not whole:
                    raise DataError(
                        f"{response.url.host} does not serve ranges of {file.name}. Use --archive, "
                        "which downloads it from the beginning, or another HF_ENDPOINT."
                    )
                skip = position
            left = stop - position
            # Without a chunk size bytes are handed on as they come: what a fixed size would hold
            # back is lost when the connection breaks.
            for chunk in response.iter_bytes():
                if skip:
                    dropped = min(skip, len(chunk))
                    chunk, skip = chunk[dropped:], skip - dropped
                    self.gate.check()
                if chunk and left:
                    chunk = chunk[:left]
                    left -= len(chunk)
                    yield chunk
                if not left:
                    return

    def _check_response(
        self, response: Any, snapshot: Snapshot, file: RemoteFile, position: int, stop: int
    ) -> None:
        status = response.status_code
        if status in RETRY_STATUS:
            raise _Again(f"the host answered {status}", _wanted_pause(response.headers))
        elsewhere = _netloc(str(response.url)) != _netloc(self.endpoint)
        if status in (401, 403, 404, 410) and elsewhere:
            # The storage behind the hub: its signed address has expired. The hub gives a new one.
            raise _Again(f"the storage host answered {status}")
        if status == 416:
            raise self._changed(snapshot, file, "it is shorter than it was announced to be")
        hf_raise_for_status(response)
        if status not in (200, 206):
            raise _Again(f"the host answered {status}")
        for step in (*response.history, response):
            etag = step.headers.get("X-Linked-Etag")
            commit = step.headers.get("X-Repo-Commit")
            if etag is not None and file.sha256 and _plain_etag(etag) != file.sha256:
                raise self._changed(snapshot, file, f"the host now names it {_plain_etag(etag)}")
            if commit is not None and commit != snapshot.commit:
                raise self._changed(snapshot, file, f"the host answers with commit {commit}")
        if status == 200:
            length = response.headers.get("Content-Length")
            if length is not None and int(length) != file.size:
                raise self._changed(snapshot, file, f"it now has {int(length):,} bytes")
            return
        found = re.fullmatch(
            r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip()
        )
        if found is None:
            raise _Again("the host answered a range without saying which")
        if found[3] != "*" and int(found[3]) != file.size:
            raise self._changed(snapshot, file, f"it now has {int(found[3]):,} bytes")
        if int(found[1]) != position or int(found[2]) >= stop:
            raise _Again(f"the host answered with bytes {found[1]}-{found[2]}")

    def _changed(self, snapshot: Snapshot, file: RemoteFile, how: str) -> ChangedFileError:
        return ChangedFileError(
            f"{file.name} of {self.repo} at {snapshot.commit} is not the file that was announced "
            f"({file.size:,} bytes, {file.identity}): {how}. A commit cannot change on the "
            f"original host, so look at the mirror or proxy in between ({self.endpoint}). What "
            "was fetched before is kept."
        )

    def _retry(self, ask: Callable[[], Any], what: str, revision: str) -> Any:
        failures = 0
        while True:
            self.gate.check()
            try:
                return ask()
            except (HTTPError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                # The last four: an answer that is no file list, such as a proxy's web page.
                failures += 1
                self._after_failure(error, failures, what, revision)

    def _after_failure(self, error: Exception, failures: int, what: str, revision: str) -> None:
        """Return after the due wait, or raise what the user should read."""
        if self.gate.stop.is_set():
            raise Stopped
        pause = None
        if isinstance(error, hub_errors.HfHubHTTPError):
            response = error.response
            if response is None or response.status_code not in RETRY_STATUS:
                raise self._refusal(error, revision) from error
            pause = _wanted_pause(response.headers)
            why = f"the host answered {response.status_code}"
        elif isinstance(error, hub_errors.OfflineModeIsEnabled):
            raise DataError(
                "HF_HUB_OFFLINE is set, so nothing can be fetched. Unset it, or name a folder that "
                "has the dataset already."
            ) from error
        elif isinstance(error, _Again):
            pause, why = error.pause, str(error)
        elif isinstance(error, HTTPError | ConnectionError | TimeoutError):
            why = f"the connection failed ({type(error).__name__}: {error})".replace(": )", ")")
        elif isinstance(error, OSError) and error.filename:
            raise DataError(
                f"{error.filename} cannot be read ({error.strerror}). It is a file that "
                "huggingface_hub keeps, such as the token; correct its rights, or set HF_HOME."
            ) from error
        elif isinstance(error, hub_errors.HFValidationError):
            raise DataError(f"{self.repo!r} is not the name of a repository: {error}") from error
        else:
            raise DataError(
                f"{self.endpoint} gave an answer for {what} that is not a hub's "
                f"({type(error).__name__}: {error}). Check HF_ENDPOINT and the proxy settings."
            ) from error
        if pause is not None and pause > self.policy.longest_pause:
            raise DataError(
                f"{self.endpoint} asks for a pause of {pause:.0f} s. What was fetched is kept; run "
                "the same command again later, or use a token (hf auth login): limits are higher "
                "for known users."
            ) from error
        if failures >= self.policy.attempts:
            raise DataError(
                f"gave up on {what} after {failures} attempts without headway: {why}. What was "
                "fetched is kept; run the same command again. A proxy is set by HTTPS_PROXY, "
                "another host by HF_ENDPOINT, a longer patience by HF_HUB_DOWNLOAD_TIMEOUT "
                "(seconds)."
            ) from error
        if pause is not None:
            self.gate.pause(pause, why)
        else:
            wait = min(self.policy.longest, self.policy.base * 2 ** (failures - 1))
            self.gate.sleep(wait * self._jitter.uniform(0.75, 1.25), why)

    def _refusal(self, error: hub_errors.HfHubHTTPError, revision: str) -> DataError:
        status = error.response.status_code if error.response is not None else "no status"
        where = f"{self.repo} on {self.endpoint}"
        token = "Log in with `hf auth login` or set HF_TOKEN; unset HF_TOKEN when it has expired."
        if isinstance(error, hub_errors.GatedRepoError):
            return DataError(
                f"{where} asks for its conditions to be accepted ({status}). Accept them on the "
                f"dataset's page with your account. {token}"
            )
        if isinstance(error, hub_errors.RevisionNotFoundError):
            return DataError(
                f"{where} has no revision {revision!r} ({status}). Leave --revision out for the "
                "pinned one, or use --revision main for the newest."
            )
        if isinstance(error, hub_errors.EntryNotFoundError):
            return DataError(
                f"{where} has no such file at {revision!r} ({status}: {error.response.url}). "
                "Check --revision."
            )
        if status == 401:
            return DataError(
                f"{where} was refused (401): it does not exist under this name, or it is not "
                f"public, or the token is not valid. Check --repo and HF_ENDPOINT. {token}"
            )
        if status == 403:
            return DataError(
                f"{where} may not be read with this token, or without one (403). {token}"
            )
        if status == 404:
            return DataError(f"there is no {where} (404). Check --repo and HF_ENDPOINT.")
        return DataError(f"{where} answered {status}: {error}")


class _Again(Exception):  # noqa: N818 - a reason to try again
    """A failure that may pass, with the pause that the host asked for (seconds)."""

    def __init__(self, why: str, pause: float | None = None) -> None:
        super().__init__(why)
        self.pause = pause


def _netloc(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _plain_etag(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _wanted_pause(headers: Any) -> float | None:
    """Return the seconds that a host asks to wait, or None.

    Read are `Retry-After` (seconds or a date, RFC 9110 section 10.2.3) and the hub's own
    `ratelimit: "api";r=0;t=55` (IETF draft ratelimit-headers).
    """
    text = (headers.get("Retry-After") or "").strip()
    if text.isdigit():
        return float(text)
    if text:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            return None
    found = re.search(r";\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d+)", headers.get("ratelimit") or "")
    return float(found[1]) if found else None


class RangeReader(io.RawIOBase):
    """A seekable file whose bytes are read from the hub, for the end of an archive.

    Parameters
    ----------
    hub : Hub
        Where it is.
    snapshot : Snapshot
        The commit.
    file : RemoteFile
        One of its files.
    tail : int
        Bytes at the end that are read with the first request and kept.
    """

    def __init__(self, hub: Hub, snapshot: Snapshot, file: RemoteFile, tail: int = 1 << 20) -> None:
        super().__init__()
        self._hub, self._snapshot, self._file = hub, snapshot, file
        self._position = 0
        self._kept_from = max(0, file.size - tail)
        self._kept: bytes | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position in bytes."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._file.size}[whence]
        if base + offset < 0:
            raise OSError(22, "position before the beginning of the archive")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Return `size` bytes, fewer only at the end of the file."""
        stop = self._file.size if size is None or size < 0 else self._position + size
        start, stop = self._position, min(stop, self._file.size)
        if stop <= start:
            return b""
        if stop - start > LARGEST_READ:
            raise DataError(
                f"{self._file.name} claims a directory of {stop - start:,} bytes, which is beyond "
                "reason. Nothing was extracted from it."
            )
        data = self._range(start, stop)
        self._position = stop
        return data

    def _range(self, start: int, stop: int) -> bytes:
        if start >= self._kept_from:
            if self._kept is None:
                self._kept = self._fetch(self._kept_from, self._file.size)
            return self._kept[start - self._kept_from : stop - self._kept_from]
        return self._fetch(start, stop)

    def _fetch(self, start: int, stop: int) -> bytes:
        return b"".join(self._hub.stream(self._snapshot, self._file, start, stop))
