"""Files of a dataset on a Hugging Face hub: what there is, and byte ranges that outlive failures.

`huggingface_hub` does the talking: its file list, URLs, headers, session and errors, so `HF_ENDPOINT`,
`HF_TOKEN`, `hf auth login`, proxies, certificates and `HF_HUB_OFFLINE` work as everywhere. Added is
what a file of 47.5 GB on a throttling host needs: a range goes on at the byte where its connection
broke, a pause that the host asks for holds for all connections, each answer is checked against
the file that was announced, and a host that is never heard is given up in seconds. (`hf_hub_download`
begins a file anew in each process, and `HfFileSystem` loses what had arrived of a broken range.)
"""

from __future__ import annotations

import random
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

import huggingface_hub
from huggingface_hub import errors
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, parse_ratelimit_headers

from mmaupro_ext import __version__
from mmaupro_ext.errors import DataError, MMAUProError
from mmaupro_ext.util import retry_after

RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
PROGRESS = 64 << 10  # bytes after which a connection counts as having made headway
LONGEST_PAUSE_S = 3600.0  # a host that asks for more ends the fetch with a message
SILENCE_S = 6.0  # so long a host may say nothing at all before there is taken to be no network
_NAME: Any = {"library_name": "mmaupro-ext", "library_version": __version__}
_WAYS_OUT = (
    "A proxy is set by HTTPS_PROXY, another host by HF_ENDPOINT, a longer patience by "
    "HF_HUB_DOWNLOAD_TIMEOUT (seconds)."
)


class Stopped(MMAUProError):  # noqa: N818 - not an error: someone asked for it
    """The fetch was told to stop."""


class _Again(Exception):  # noqa: N818 - a reason to try again
    """A failure that may pass, with the headers of the answer where there was one."""

    def __init__(self, why: str, headers: Any = None) -> None:
        super().__init__(why)
        self.headers = headers or {}


def sha256_of(file: RepoSibling) -> str | None:
    """Return the sha256 that the hub states of a file, None for one that is kept in git itself."""
    return file.lfs.sha256 if file.lfs is not None else None


def identity(file: RepoSibling) -> str:
    """Return what names a file's content: the sha256, else the git object id."""
    return sha256_of(file) or file.blob_id or f"size-{file.size}"


class Hub:
    """One commit of a dataset repository on a hub; its `files` are by path.

    Parameters
    ----------
    repo, revision : str
        `owner/name`, and a commit, branch or tag; `commit` is what that names now.
    endpoint : str, optional
        Base URL; `HF_ENDPOINT` or the public hub by default.
    retries : int
        Failures in a row, without headway, after which a request is given up.
    wait_s : float
        Seconds before the second attempt; they double, up to a minute.
    tell : callable
        Receives lines for the user. Setting `stop`, an event, ends every request and wait soon.

    Raises
    ------
    DataError
        When the host refuses, or says nothing at all for some seconds.
    """

    def __init__(
        self,
        repo: str,
        revision: str,
        endpoint: str | None = None,
        retries: int = 8,
        wait_s: float = 1.0,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.repo, self.commit = repo, revision
        self.endpoint = (endpoint or huggingface_hub.constants.ENDPOINT).rstrip("/")
        self.stop = threading.Event()
        self._retries, self._wait_s, self._tell = retries, wait_s, tell
        self._lock, self._paused_until = threading.Lock(), 0.0
        self._heard = threading.Event()  # the host has answered, be it with a refusal
        self._last_failure = "no answer"
        info = self._unless_silent(self._ask)
        self.commit = str(info.sha)
        self.licence = getattr(info.card_data, "license", None)
        self.files: dict[str, RepoSibling] = {
            file.rfilename: file for file in info.siblings or [] if file.size is not None
        }

    def file(self, name: str) -> RepoSibling:
        """Return a file of the commit; DataError when there is none of this name."""
        if name not in self.files:
            raise DataError(
                f"{self.repo} at {self.commit} has no {name}; it has {sorted(self.files)}. "
                "Check --revision and --repo."
            )
        return self.files[name]

    def _ask(self) -> Any:
        api = huggingface_hub.HfApi(endpoint=self.endpoint, **_NAME)
        options: Any = {"revision": self.commit, "files_metadata": True, "timeout": 30.0}
        failures = 0
        while True:
            try:
                info = api.dataset_info(self.repo, **options)
                if info.sha:
                    return info
                raise ValueError("without a commit")
            except (errors.HTTPError, OSError) as error:
                failures += 1
                self._try_again(error, failures, f"the file list of {self.repo}")
            except errors.HFValidationError as error:
                raise DataError(
                    f"{self.repo!r} is not the name of a repository: {error}"
                ) from error
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise DataError(
                    f"{self.endpoint} gave a file list of {self.repo} that is not a hub's "
                    f"({type(error).__name__}: {error}). Check HF_ENDPOINT, which must name a hub or "
                    "a full mirror of one, and the proxy settings."
                ) from error

    def _unless_silent(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns, unless the host says nothing at all for some seconds.

        Without a network a name is looked up, or a connection awaited, for minutes; neither can be
        interrupted, so `work` has a thread of its own, which is left behind then.
        """
        result: Future[Any] = Future()

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:  # handed to the caller
                result.set_exception(error)

        # More than its default of 10 s is set by those whose network is slow.
        timeout = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
        patience = timeout if timeout > 10 else SILENCE_S
        deadline = time.monotonic() + patience
        threading.Thread(target=run, daemon=True, name="first-answer").start()
        while not result.done():
            time.sleep(0.02)
            if time.monotonic() > deadline and not self._heard.is_set():
                self.stop.set()
                raise DataError(
                    f"{self.endpoint} was not reached within {patience:.0f} s "
                    f"({self._last_failure}). Is there a network? {_WAYS_OUT}"
                )
        return result.result()

    def stream(
        self, file: RepoSibling, start: int, stop: int, *, whole: bool = False
    ) -> Generator[bytes]:
        """Yield the bytes of a range, going on where a connection breaks.

        Parameters
        ----------
        file : RepoSibling
            One of `files`.
        start, stop : int
            Offsets in bytes, `0 <= start < stop <= file.size`.
        whole : bool
            True accepts a host that ignores ranges: bytes before `start` are then read and thrown
            away.

        Raises
        ------
        DataError
            When the host refuses, serves another file, or fails too often in a row.
        Stopped
            When `stop` was set.
        """
        position, milestone, failures = start, start, 0
        while position < stop:
            self.keep_pause()
            try:
                for chunk in self._one_response(file, position, stop, whole):
                    position += len(chunk)
                    if position - milestone >= PROGRESS:
                        milestone, failures = position, 0
                    yield chunk
                if position < stop:
                    raise _Again(f"the connection for {file.rfilename} ended early")
            except (_Again, errors.HTTPError, errors.OfflineModeIsEnabled) as error:
                failures += 1
                self._try_again(error, failures, f"bytes of {file.rfilename}")

    def _one_response(
        self, file: RepoSibling, position: int, stop: int, whole: bool
    ) -> Generator[bytes]:
        place: Any = {"revision": self.commit, "endpoint": self.endpoint}
        url = huggingface_hub.hf_hub_url(self.repo, file.rfilename, repo_type="dataset", **place)
        headers = build_hf_headers(**_NAME)
        headers |= {"Accept-Encoding": "identity", "Range": f"bytes={position}-{stop - 1}"}
        timeout = huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT
        with huggingface_hub.get_session().stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            self._check_response(response, file, position, stop)
            skip = position if response.status_code == 200 else 0
            if skip and not whole:
                raise DataError(
                    f"{response.url.host} does not serve ranges of {file.rfilename}. Use --archive, "
                    "which downloads it from the beginning, or another HF_ENDPOINT."
                )
            left = stop - position
            # Without a chunk size bytes are handed on as they come: what a fixed size would hold
            # back is lost when the connection breaks.
            for chunk in response.iter_bytes():
                dropped = min(skip, len(chunk))
                skip -= dropped
                chunk = chunk[dropped : dropped + left]
                left -= len(chunk)
                self.keep_pause()
                if chunk:
                    yield chunk
                if not left:
                    return

    def _check_response(self, response: Any, file: RepoSibling, position: int, stop: int) -> None:
        """Raise unless an answer is of the file that was announced, and of the range asked for."""

        def changed(how: str) -> DataError:
            return DataError(
                f"{file.rfilename} of {self.repo} at {self.commit} is not the file that was "
                f"announced ({file.size:,} bytes, {identity(file)}): {how}. A commit cannot change "
                f"on the original host, so look at the mirror or proxy in between ({self.endpoint})."
            )

        status, headers = response.status_code, response.headers
        if status in RETRY_STATUS:
            raise _Again(f"the host answered {status}", headers)
        hosts = {urllib.parse.urlsplit(url).netloc for url in (str(response.url), self.endpoint)}
        if status in (401, 403, 404, 410) and len(hosts) > 1:
            # The storage behind the hub: its signed address has expired. The hub gives a new one.
            raise _Again(f"the storage host answered {status}")
        if status == 416:
            raise changed("it is shorter than it was announced to be")
        hf_raise_for_status(response)
        for step in (*response.history, response):
            etag = step.headers.get("X-Linked-Etag", "").removeprefix("W/").strip('"')
            if etag and sha256_of(file) not in (None, etag):
                raise changed(f"the host now names it {etag}")
            if step.headers.get("X-Repo-Commit", self.commit) != self.commit:
                raise changed(f"the host answers with commit {step.headers['X-Repo-Commit']}")
        first, last, size = position, stop - 1, headers.get("Content-Length", "*")
        if status != 200:
            form = r"bytes (\d+)-(\d+)/(\d+|\*)"
            found = re.fullmatch(form, headers.get("Content-Range", "").strip())
            if status != 206 or found is None:
                raise _Again(f"the host answered {status} without saying which bytes it sends")
            first, last, size = int(found[1]), int(found[2]), found[3]
        if size not in ("*", str(file.size)):
            raise changed(f"it now has {int(size):,} bytes")
        if first != position or last >= stop:
            raise _Again(f"the host answered with bytes {first}-{last}")

    def _try_again(self, error: Exception, failures: int, what: str) -> None:
        """Return after the due wait, or raise what the user should read."""
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", getattr(error, "headers", {}))
        self._last_failure = str(error)
        if isinstance(error, errors.OfflineModeIsEnabled):
            raise DataError(
                "HF_HUB_OFFLINE is set, so nothing can be fetched. Unset it, or name a folder that "
                "has the dataset already."
            ) from error
        if isinstance(error, errors.HfHubHTTPError):
            self._heard.set()
            status = getattr(response, "status_code", None)
            if status not in RETRY_STATUS:
                raise self._refusal(error, status) from error
            self._last_failure = f"the host answered {status}"
        elif isinstance(error, OSError) and error.filename:
            raise DataError(
                f"{error.filename} cannot be read ({error.strerror}). It is a file that "
                "huggingface_hub keeps, such as the token; correct its rights, or set HF_HOME."
            ) from error
        elif not isinstance(error, _Again):
            self._last_failure = f"the connection failed ({type(error).__name__}: {error})"
        pause = retry_after(headers.get("Retry-After"))
        limit = parse_ratelimit_headers(headers) if pause is None else None
        if limit and not limit.remaining:
            pause = float(limit.reset_in_seconds)
        if pause is not None and pause > LONGEST_PAUSE_S:
            raise DataError(
                f"{self.endpoint} asks for a pause of {pause:.0f} s. Run the same command again "
                "later, or use a token (hf auth login): limits are higher for known users."
            ) from error
        if failures >= self._retries:
            raise DataError(
                f"gave up on {what} after {failures} attempts without headway: "
                f"{self._last_failure}. Run the same command again. {_WAYS_OUT}"
            ) from error
        if pause is not None:
            self.pause(pause, self._last_failure)
            return
        # Connections that failed together should not come back together.
        wait = min(60.0, self._wait_s * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
        if self.stop.wait(wait):
            raise Stopped

    def pause(self, seconds: float, why: str) -> None:
        """Let all connections wait, since the host asked one of them to."""
        with self._lock:
            now = time.monotonic()
            if seconds >= 2 and now >= self._paused_until:
                self._tell(f"{why}; waiting {seconds:.0f} s, then going on")
            self._paused_until = max(self._paused_until, now + seconds)

    def keep_pause(self) -> None:
        """Wait while a pause is on; raise `Stopped` when the fetch was told to stop."""
        if self.stop.wait(max(0.0, self._paused_until - time.monotonic())):
            raise Stopped

    def _refusal(self, error: Exception, status: int | None) -> DataError:
        where, page = f"{self.repo} on {self.endpoint}", f"{self.endpoint}/datasets/{self.repo}"
        first = str(error).partition("\n")[0]
        login = "log in with `hf auth login` or set HF_TOKEN; unset HF_TOKEN when it has expired."
        if isinstance(error, errors.GatedRepoError):
            text = f"asks for its conditions to be accepted ({status}). Accept them on {page}, then"
        elif isinstance(error, errors.RevisionNotFoundError):
            text = f"has no revision {self.commit!r}. Leave --revision out for the pinned one, or"
            return DataError(f"{where} {text} use --revision main for the newest.")
        elif status == 401:
            text = (
                "was refused (401): there is none of this name, or it is not public, or the token"
            )
            text += f" is not valid. Check --repo and HF_ENDPOINT, look at {page}, then"
        elif status == 403:
            text = f"may not be read with this token, or without one (403). Ask on {page}, then"
        elif status == 404:
            return DataError(f"there is no {where} (404: {first}). Check --repo and HF_ENDPOINT.")
        else:
            return DataError(f"{where} answered {status}: {first}")
        return DataError(f"{where} {text} {login}")
