"""Files of a dataset on a Hugging Face hub: what there is, and byte ranges that outlive failures.

`huggingface_hub` does the talking: its file list, URLs, headers, session and errors, so `HF_ENDPOINT`,
`HF_TOKEN`, `hf auth login`, proxies, certificates and `HF_HUB_OFFLINE` work as everywhere. Added is
what a file of 47.5 GB on a throttling host needs: a range goes on at the byte where its connection
broke, a pause that the host asks for holds for all connections, each answer is checked against
the file that was announced, and a host that is never heard is given up in seconds. (`hf_hub_download`
begins a file anew in each process, and `HfFileSystem` loses what had arrived of a broken range.)
"""

from __future__ import annotations

import fnmatch
import os
import random
import re
import threading
import urllib.parse
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import constants, errors
from huggingface_hub.hf_api import RepoSibling
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status, parse_ratelimit_headers

from mmaupro_ext import __version__
from mmaupro_ext.benchmarks import File
from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.data.remote_file import Digest, identity, sha256_of
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError
from mmaupro_ext.fan_out import Pace, StoppedError
from mmaupro_ext.util import retry_after

RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
ATTEMPTS = 3  # for bytes that arrive and are wrong
PROGRESS = 64 << 10  # bytes after which a connection counts as having made headway
LONGEST_PAUSE_S = 3600.0  # a host that asks for more ends the fetch with a message
SILENCE_S = 6.0  # so long a host may say nothing at all before there is taken to be no network
_NAME: Any = {"library_name": "mmaupro-ext", "library_version": __version__}
_WAYS_OUT = "HTTPS_PROXY sets a proxy, HF_ENDPOINT the host, HF_HUB_DOWNLOAD_TIMEOUT (s) patience."


class _Again(Exception):  # noqa: N818 - a reason to try again
    """A failure that may pass: why, and the answer where there was one."""

    def __init__(self, why: str, response: Any = None) -> None:
        super().__init__(why)
        self.response = response


class Hub:
    """One commit of a dataset repository on a hub; its `files` are by path.

    Parameters
    ----------
    request : Request
        Its `repo` and `revision`, if any, its `endpoint`, `retries` and `wait_s`.
    source : File
        Its `repository` and `revision`; `commit` is what that names now.
    tell : callable
        Receives lines for the user. Setting `stop`, an event, ends every request and wait soon.

    Raises
    ------
    DataError
        When the host refuses, or says nothing at all for some seconds.
    """

    def __init__(self, request: Request, source: File, tell: Callable[[str], None]) -> None:
        self.repo = request.repo or source.repository
        self.commit = request.revision or source.revision
        self.endpoint = (request.endpoint or constants.ENDPOINT).rstrip("/")
        self.stop = threading.Event()
        self.request, self.source, self._tell = request, source, tell
        self._retries, self._wait_s = request.retries, request.wait_s
        self._pace = Pace(None, self.stop)
        self.heard = threading.Event()  # the host has answered, be it with a refusal
        self._last_failure = "no answer"
        info = self._unless_silent(self._ask)
        self.commit = str(info.sha)
        self.licence = getattr(info.card_data, "license", None)
        self.files = {f.rfilename: f for f in info.siblings or [] if f.size is not None}

    def file(self, name: str) -> RepoSibling:
        """Return a file of the commit; DataError when there is none of this name."""
        if name not in self.files:
            what = f"{self.repo} at {self.commit} has no {name}; it has {sorted(self.files)}"
            raise DataError(f"{what}. Check --revision and --repo.")
        return self.files[name]

    def introduce(self, stated: File) -> list[RepoSibling]:
        """Return the files that a description means; say what they are, and what others say of them."""
        names = sorted(fnmatch.filter(self.files, stated.path)) or [stated.path]
        files = [self.file(name) for name in names]
        size = sum(file.size or 0 for file in files)
        self._tell(f"{self.repo} at {self.commit}: {', '.join(names)} has {readable(size)}")
        if isinstance(self.licence, str):
            self._tell(f"licence, as its dataset card states: {self.licence}")
        pinned = (self.repo, self.commit) == (stated.repository, stated.revision)
        found = (size, identity(files[0]) if len(files) == 1 else None)
        for mine, theirs in zip(found, (stated.bytes, stated.digest), strict=True):
            if pinned and theirs not in (None, mine):
                note = "Please report it, and compare results with those of others with care."
                self._tell(f"note: {stated.path} is {mine} here and {theirs} to others. {note}")
        return files

    def origin(self, files: list[RepoSibling]) -> dict[str, Any]:
        """Return where files come from, as plain JSON, with what names their content in `files`."""
        content = {f.rfilename: {"size": f.size, "identity": identity(f)} for f in files}
        return {"repo": self.repo, "commit": self.commit, "files": content}

    def info(self) -> Any:
        """Return what the host says of the repository, as `HfApi.dataset_info` does."""
        api = huggingface_hub.HfApi(endpoint=self.endpoint, **_NAME)
        options: Any = {"revision": self.commit, "files_metadata": True, "timeout": 30.0}
        return api.dataset_info(self.repo, **options)

    def _ask(self) -> Any:
        failures = 0
        while True:
            try:
                info = self.info()
                if info.sha:
                    return info
                raise ValueError("without a commit")
            except (errors.HTTPError, OSError) as error:
                failures += 1
                self._try_again(error, failures, f"the file list of {self.repo}")
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                what = f"{self.endpoint} gave no file list of {self.repo}"
                fix = "Check --repo, the proxy, and HF_ENDPOINT (a hub, or a full mirror of one)."
                raise DataError(f"{what} ({type(error).__name__}: {error}). {fix}") from error

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
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        patience = timeout if timeout > 10 else SILENCE_S
        threading.Thread(target=run, daemon=True, name="first-answer").start()
        wait([result], patience)
        if not result.done() and not self.heard.is_set():
            self.stop.set()
            what = f"{self.endpoint} was not reached within {patience:.0f} s"
            raise DataError(f"{what} ({self._last_failure}). Is there a network? {_WAYS_OUT}")
        return result.result()

    def stream(self, file: RepoSibling, start: int, stop: int) -> Generator[bytes]:
        """Yield the bytes from offset `start` to `stop` of a file, going on where a connection breaks.

        Raises
        ------
        DataError
            When the host refuses, serves another file, or fails too often in a row.
        StoppedError
            When `stop`, the event, was set.
        """
        position, milestone, failures = start, start, 0
        while position < stop:
            self.keep_pause()
            try:
                for chunk in self._one_response(file, position, stop):
                    position += len(chunk)
                    if position - milestone >= PROGRESS:
                        milestone, failures = position, 0
                    yield chunk
                if position < stop:
                    raise _Again(f"the connection for {file.rfilename} ended early")
            except (_Again, errors.HTTPError, errors.OfflineModeIsEnabled) as error:
                failures += 1
                self._try_again(error, failures, f"bytes of {file.rfilename}")

    def content(self, file: RepoSibling, largest: int, path: Path) -> bytes:
        """Return the bytes of a small file, checked; from the folder when it is there, at `path`."""
        if path.is_file():
            content = path.read_bytes()
            if Digest(file).agrees(content):
                return content
            raise self._another(path)
        size = file.size or 0
        if not 0 < size <= largest:
            raise DataError(f"the host states {size:,} bytes for {file.rfilename}. Check --repo.")
        for _ in range(ATTEMPTS):
            content = b"".join(self.stream(file, 0, size))
            if Digest(file).agrees(content):
                return content
        what = f"{ATTEMPTS} times with a digest other than {identity(file)}"
        raise DataError(f"{file.rfilename} arrived {what}. {self._between()}")

    def _another(self, path: Path) -> DataError:
        fix = "Move it away to have it fetched, or name another folder with --to."
        return DataError(f"{path} is not that of {self.repo} at {self.commit}. {fix}")

    def download(
        self, file: RepoSibling, path: Path, moved: Callable[[int], object], *, own: bool
    ) -> None:
        """Bring a whole file, going on after the bytes that are there; DataError when it stays wrong.

        Parameters
        ----------
        file : RepoSibling
            One of `files`.
        path : pathlib.Path
            Where to. After an interruption it holds what had arrived.
        moved : callable
            Called with the bytes that were read or written.
        own : bool
            False for a file of the user's, which is compared only.
        """
        size = file.size or 0
        for _ in range(ATTEMPTS):
            digest, have = Digest(file), 0
            with path.open("ab+" if own else "rb") as sink:
                sink.seek(0)
                while block := sink.read(1 << 20):
                    digest.update(block)
                    have += len(block)
                    moved(len(block))
                for chunk in self.stream(file, have, size) if own else ():
                    sink.write(chunk)
                    digest.update(chunk)
                    moved(len(chunk))
                if own:
                    sink.flush()
                    os.fsync(sink.fileno())
            if digest.agrees():
                return
            if not own:
                raise self._another(path)
            path.unlink()
            moved(-max(have, size))
        what = f"{ATTEMPTS} times with a digest other than {identity(file)}"
        raise DataError(f"{file.rfilename} arrived {what}. {self._between()}")

    def place(self, file: RepoSibling) -> tuple[str, dict[str, str]]:
        """Return a file's URL, and the headers that it is asked for with."""
        place: Any = {"revision": self.commit, "endpoint": self.endpoint}
        url = huggingface_hub.hf_hub_url(self.repo, file.rfilename, repo_type="dataset", **place)
        return url, build_hf_headers(**_NAME)

    def _between(self) -> str:
        return f"Look at the mirror or proxy in between ({self.endpoint})."

    def _one_response(self, file: RepoSibling, position: int, stop: int) -> Generator[bytes]:
        url, headers = self.place(file)
        headers |= {"Accept-Encoding": "identity", "Range": f"bytes={position}-{stop - 1}"}
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        with huggingface_hub.get_session().stream(
            "GET", url, headers=headers, timeout=timeout, follow_redirects=True
        ) as response:
            self._check_response(response, file, position, stop)
            left = stop - position
            # Without a chunk size bytes are handed on as they come: what a fixed size would hold
            # back is lost when the connection breaks.
            for chunk in response.iter_bytes():
                self.keep_pause()
                yield chunk[:left]
                left -= len(chunk)
                if left <= 0:
                    return

    def _check_response(self, response: Any, file: RepoSibling, position: int, stop: int) -> None:
        """Raise unless an answer is of the file that was announced, and of the range asked for."""

        def changed(how: str) -> DataError:
            what = f"{file.rfilename} of {self.repo} at {self.commit} is not the file that was announced"
            why = f"({file.size:,} bytes, {identity(file)}): {how}. A commit cannot change"
            return DataError(f"{what} {why}. {self._between()}")

        status, headers = response.status_code, response.headers
        if status in RETRY_STATUS:
            raise _Again(f"the host answered {status}", response)
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
        first, last, size = 0, stop - 1, headers.get("Content-Length", "*")
        if status != 200:
            form = r"bytes (\d+)-(\d+)/(\d+|\*)"
            found = re.fullmatch(form, headers.get("Content-Range", "").strip())
            if status != 206 or found is None:
                raise _Again(f"the host answered {status} without saying which bytes it sends")
            first, last, size = int(found[1]), int(found[2]), found[3]
        if size not in ("*", str(file.size)):
            raise changed(f"it now has {size} bytes")
        if status == 200 and position:
            fix = f"Use another HF_ENDPOINT, or `hf download {self.repo} {file.rfilename} --repo-type "
            fix += "dataset`, unpack it in the folder, and run the same command, which checks it."
            raise DataError(f"{response.url.host} serves no ranges of {file.rfilename}. {fix}")
        if first != position or last >= stop:
            raise _Again(f"the host answered with bytes {first}-{last}")

    def _try_again(self, error: Exception, failures: int, what: str) -> None:
        """Return after the due wait, or raise what the user should read."""
        response = getattr(error, "response", None)
        headers = getattr(response, "headers", {})
        self._last_failure = str(error)
        if isinstance(error, errors.OfflineModeIsEnabled):
            raise DataError("HF_HUB_OFFLINE is set: nothing can be fetched. Unset it.") from error
        if isinstance(error, errors.HfHubHTTPError):
            self.heard.set()
            status = getattr(response, "status_code", None)
            if status not in RETRY_STATUS:
                raise self.refusal(error, status) from error
            self._last_failure = f"the host answered {status}"
        elif isinstance(error, OSError) and error.filename:
            fix = "It belongs to huggingface_hub, as the token: correct its rights, or set HF_HOME."
            raise DataError(f"{error.filename} cannot be read ({error.strerror}). {fix}") from error
        elif not isinstance(error, _Again):
            self._last_failure = f"the connection failed ({type(error).__name__}: {error})"
        pause = retry_after(headers.get("Retry-After"))
        limit = parse_ratelimit_headers(headers) if pause is None else None
        if limit and not limit.remaining:
            pause = float(limit.reset_in_seconds)
        if pause is not None and pause > LONGEST_PAUSE_S:
            fix = "Run the same command later, or use a token (hf auth login), which raises limits."
            raise DataError(f"{self.endpoint} asks for a pause of {pause:.0f} s. {fix}") from error
        if failures >= self._retries:
            why = f"after {failures} attempts without headway: {self._last_failure}"
            fix = f"Run the same command again. {_WAYS_OUT}"
            raise DataError(f"gave up on {what} {why}. {fix}") from error
        if pause is not None:
            self.pause(pause, self._last_failure)
            return
        # Connections that failed together should not come back together.
        pause = min(60.0, self._wait_s * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
        if self.stop.wait(pause):
            raise StoppedError

    def pause(self, seconds: float, why: str) -> None:
        """Let all connections wait, since the host asked one of them to."""
        if self._pace.hold(seconds) and seconds >= 2:
            self._tell(f"{why}; waiting {seconds:.0f} s, then going on")

    def keep_pause(self) -> None:
        """Wait while a pause is on; raise `StoppedError` when the fetch was told to stop."""
        self._pace.wait()
        if self.stop.is_set():
            raise StoppedError

    def refusal(self, error: Exception, status: int | None) -> DataError:
        """Return what the user should read of an answer that no new attempt makes better."""
        page = f"{self.endpoint}/datasets/{self.repo}"
        login = "log in with `hf auth login` or set HF_TOKEN; unset HF_TOKEN when it has expired."
        if isinstance(error, errors.GatedRepoError):
            text = f"asks for its conditions to be accepted ({status}): do so on {page}, then "
        elif isinstance(error, errors.RevisionNotFoundError):
            text = f"has no revision {self.commit!r}. Leave --revision out for the pinned one, or "
            login = "use --revision main for the newest."
        elif status == 401:
            text = "was refused (401): no such name, or not public, or the token is not valid. "
            text += f"Check --repo and HF_ENDPOINT, look at {page}, then "
        elif status == 403:
            text = f"may not be read with this token, or without one (403). Ask on {page}, then "
        else:
            text = f"answered {status}: {error}".partition("\n")[0]
            login = ". Check --repo and HF_ENDPOINT."
        return DataError(f"{self.repo} on {self.endpoint} {text}{login}")
