"""Files of a dataset on a Hugging Face hub: what there is, and bytes that outlive failures.

`huggingface_hub` does the talking: its file list, URLs, headers, session, errors and, for a file on
GitHub, its retries; so `HF_ENDPOINT`, `HF_TOKEN`, `hf auth login`, proxies, certificates and
`HF_HUB_OFFLINE` work as everywhere. Added is what files of gigabytes on a throttling host need: a range
goes on at the byte where its connection broke, in another process too; a pause that the host asks for
holds for all connections; each answer is checked against the file that was announced; and a host that
is never heard is given up in seconds. (`hf_hub_download` of 2.4 begins a file anew in each process,
compares no digest, and loses up to 10 MB where a connection breaks; `HfFileSystem` asks for a broken
range anew.)
"""

from __future__ import annotations

import fnmatch
import hashlib
import io
import random
import re
import threading
import urllib.parse
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, BinaryIO

import huggingface_hub
from huggingface_hub import constants, errors, utils

from mmaupro_ext import __version__
from mmaupro_ext.benchmarks import File
from mmaupro_ext.data.fetch_request import Request
from mmaupro_ext.data.text import size as readable
from mmaupro_ext.errors import DataError
from mmaupro_ext.fan_out import Pace, StoppedError
from mmaupro_ext.util import retry_after

GITHUB = "https://raw.githubusercontent.com"
RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
ATTEMPTS = 3  # for bytes that arrive and are wrong
PROGRESS = 64 << 10  # bytes after which a connection counts as having made headway
LONGEST_PAUSE_S = 3600.0  # a host that asks for more ends the fetch with a message
SILENCE_S = 6.0  # so long a host may say nothing at all before there is taken to be no network
_NAME: Any = {"library_name": "mmaupro-ext", "library_version": __version__}
_WAYS_OUT = "HTTPS_PROXY sets a proxy, HF_ENDPOINT the host, HF_HUB_DOWNLOAD_TIMEOUT (s) patience."


class _Again(Exception): ...  # noqa: N818 - a reason to try again


@dataclass(frozen=True)
class RemoteFile:
    """A file of a commit: path, bytes (0 where nobody states them), and what names its content.

    `identity` is its sha256, or the id that git gives to what it keeps itself; "" where nobody states it.
    """

    path: str
    size: int
    identity: str

    def is_made_of(self, blocks: Iterable[bytes]) -> bool:
        """Return whether blocks, one after the other, are all its bytes."""
        hasher, size = hashlib.sha256(), 0
        if len(self.identity) == 40:  # git counts the bytes before it hashes them
            blocks = blocks if self.size else [b"".join(blocks)]
            stated = self.size or sum(map(len, blocks))
            hasher = hashlib.sha1(b"blob %d\0" % stated, usedforsecurity=False)
        for block in blocks:
            hasher.update(block)
            size += len(block)
        return self.size in (0, size) and self.identity in ("", hasher.hexdigest())

    def wrong(self, host: str) -> DataError:
        """Return what the user should read of a file whose bytes stay wrong."""
        what = f"{ATTEMPTS} times with a digest other than {self.identity}"
        fix = f"Look at the mirror or proxy in between ({host})."
        return DataError(f"{self.path} arrived {what}. {fix}")


def github_content(source: File, file: RemoteFile, retries: int) -> bytes:
    """Return a small file of a repository on GitHub, checked.

    It is not asked for with the hub's headers, whose token is nobody else's business.
    """
    url = f"{GITHUB}/{source.repository}/{source.revision}/{urllib.parse.quote(source.path)}"
    options: Any = {"headers": {"User-Agent": "mmaupro-ext"}, "max_retries": retries}
    fix = "Download it by other means, put it into the folder and run the same command again."
    for _ in range(ATTEMPTS):
        try:
            timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
            answer = utils.http_backoff("GET", url, timeout=timeout, **options)
        except (errors.HTTPError, OSError) as error:
            raise DataError(f"{url} was not reached ({error}). {fix}") from error
        if answer.status_code != 200:
            raise DataError(f"{url} answered {answer.status_code}. {fix}")
        if file.is_made_of([answer.content]):
            return answer.content
    raise file.wrong(GITHUB)


class Hub:
    """One commit of a dataset repository on a hub; its `files` are by path.

    `moved` is called with the number of bytes that arrived. Setting `stop`, an event, ends every
    request and wait soon. DataError when the host refuses, or says nothing at all for some seconds.
    """

    def __init__(self, request: Request, source: File, tell: Callable[[str], None]) -> None:
        self.repo = request.repo or source.repository
        self.commit = request.revision or source.revision
        self.endpoint = (request.endpoint or constants.ENDPOINT).rstrip("/")
        self.stop = threading.Event()
        self.moved: Callable[[int], object] = lambda count: None
        self._retries, self._wait_s, self._tell = request.retries, request.wait_s, tell
        self._pace = Pace(None, self.stop)
        self._heard = threading.Event()  # the host has answered, be it with a refusal
        self._last_failure = "no answer"
        info = self._first_answer()
        self.commit = str(info.sha)
        self._licence = getattr(info.card_data, "license", None)
        self.files: dict[str, RemoteFile] = {}
        for file in info.siblings or []:
            if file.size is not None:
                identity = (file.lfs and file.lfs.sha256) or file.blob_id or ""
                self.files[file.rfilename] = RemoteFile(file.rfilename, file.size, identity)

    def introduce(self, stated: File) -> list[RemoteFile]:
        """Return the files that a description means; say what they are, and what others say of them."""
        files = [self.files[name] for name in sorted(fnmatch.filter(self.files, stated.path))]
        names, size = ", ".join(file.path for file in files), sum(file.size for file in files)
        if not files:
            what = f"{self.repo} at {self.commit} has no {stated.path}; it has {sorted(self.files)}"
            raise DataError(f"{what}. Check --revision and --repo.")
        self._tell(f"{self.repo} at {self.commit}: {names} has {readable(size)}")
        if isinstance(self._licence, str):
            self._tell(f"licence, as its dataset card states: {self._licence}")
        self._licence = None  # once is enough
        pinned = (self.repo, self.commit) == (stated.repository, stated.revision)
        found = (size, files[0].identity if len(files) == 1 else None)
        for mine, theirs in zip(found, (stated.bytes, stated.digest), strict=True):
            if pinned and theirs not in (None, mine):
                note = "Please report it, and compare results with those of others with care."
                self._tell(f"note: {stated.path} is {mine} here and {theirs} to others. {note}")
        return files

    def origin(self, files: list[RemoteFile]) -> dict[str, Any]:
        """Return where files come from, as plain JSON, with what names their content in `files`."""
        content = {file.path: [file.size, file.identity] for file in files}
        return {"repo": self.repo, "commit": self.commit, "files": content}

    def _first_answer(self) -> Any:
        """Return what the host says of the repository, unless it says nothing at all for some seconds.

        Without a network a name is looked up, or a connection awaited, for minutes; neither can be
        interrupted, so the question has a thread of its own, a daemon, which is left behind then.
        """
        # More than its default of 10 s is set by those whose network is slow.
        timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
        patience = timeout if timeout > 10 else SILENCE_S
        answer: Future[Any] = Future()

        def ask() -> None:
            try:
                answer.set_result(self._ask())
            except BaseException as error:  # handed to the caller
                answer.set_exception(error)

        threading.Thread(target=ask, daemon=True, name="first-answer").start()
        wait([answer], patience)
        if not answer.done() and not self._heard.is_set():
            self.stop.set()
            what = f"{self.endpoint} was not reached within {patience:.0f} s"
            raise DataError(f"{what} ({self._last_failure}). Is there a network? {_WAYS_OUT}")
        return answer.result()

    def _ask(self) -> Any:
        api, failures = huggingface_hub.HfApi(endpoint=self.endpoint, **_NAME), 0
        options: Any = {"revision": self.commit, "files_metadata": True, "timeout": 30.0}
        while True:
            try:
                info = api.dataset_info(self.repo, **options)
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

    def content(self, file: RemoteFile, largest: int) -> bytes:
        """Return the bytes of a small file, checked."""
        if not 0 < file.size <= largest:
            raise DataError(f"the host states {file.size:,} bytes for {file.path}. Check --repo.")
        sink = io.BytesIO()
        self.complete(file, sink)
        return sink.getvalue()

    def complete(self, file: RemoteFile, sink: BinaryIO) -> None:
        """Bring what an open file lacks of a remote one; what it holds is read first, and checked, too."""
        for _ in range(ATTEMPTS):
            if file.is_made_of(self._completing(file, sink)):
                return
            self.moved(-sink.tell())
            sink.truncate(0)
        raise file.wrong(self.endpoint)

    def _completing(self, file: RemoteFile, sink: BinaryIO) -> Iterator[bytes]:
        sink.seek(0)
        while block := sink.read(1 << 20):
            self.moved(len(block))
            yield block
        for chunk in self.stream(file, sink.tell(), file.size):
            sink.write(chunk)
            yield chunk

    def stream(self, file: RemoteFile, start: int, stop: int) -> Generator[bytes]:
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
                    self.moved(len(chunk))
                    yield chunk
                if position < stop:
                    raise _Again(f"the connection for {file.path} ended early")
            except (_Again, errors.HTTPError, errors.OfflineModeIsEnabled) as error:
                failures += 1
                self._try_again(error, failures, f"bytes of {file.path}")

    def _one_response(self, file: RemoteFile, position: int, stop: int) -> Generator[bytes]:
        place: Any = {"repo_type": "dataset", "revision": self.commit, "endpoint": self.endpoint}
        asked = {"Accept-Encoding": "identity", "Range": f"bytes={position}-{stop - 1}"}
        with huggingface_hub.get_session().stream(
            "GET",
            huggingface_hub.hf_hub_url(self.repo, file.path, **place),
            headers=utils.build_hf_headers(**_NAME) | asked,
            timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT,
            follow_redirects=True,
        ) as response:
            self._check_response(response, file, position)
            # Without a chunk size bytes are handed on as they come: what a fixed size would hold
            # back is lost when the connection breaks.
            for chunk in response.iter_bytes():
                self.keep_pause()
                yield chunk[: stop - position]
                position += len(chunk)
                if position >= stop:
                    return

    def _check_response(self, response: Any, file: RemoteFile, position: int) -> None:
        """Raise unless an answer is of the file that was announced, and begins where it should."""
        status, headers = response.status_code, response.headers
        hosts = {urllib.parse.urlsplit(url).netloc for url in (str(response.url), self.endpoint)}
        if status in (401, 403, 404, 410) and len(hosts) > 1:
            # The storage behind the hub: its signed address has expired. The hub gives a new one.
            raise _Again(f"the storage host answered {status}")
        if status != 416:  # there is nothing any more where the range begins
            utils.hf_raise_for_status(response)
        form = r"bytes (\d+)-\d+/(\d+|\*)"
        served = re.fullmatch(form, headers.get("Content-Range", "").strip())
        if status == 206 and served is None:
            raise _Again("the host answered without saying which bytes it sends")
        first, size = served.groups() if served else ("0", headers.get("Content-Length", "*"))
        etags = [step.headers.get("X-Linked-Etag", "") for step in (*response.history, response)]
        names = {etag.removeprefix("W/").strip('"') for etag in etags if len(file.identity) == 64}
        if size not in ("*", str(file.size)) or names - {"", file.identity}:
            what = f"{file.path} of {self.repo} at {self.commit} is not the file that was announced"
            why = f"({file.size} bytes, {file.identity}): it is now {size} bytes, {names or ''}"
            fix = f"Look at the mirror or proxy in between ({self.endpoint})."
            raise DataError(f"{what} {why}. A commit cannot change. {fix}")
        if status == 200 and position:
            fix = f"Use another HF_ENDPOINT, or `hf download {self.repo} {file.path} --repo-type "
            fix += "dataset`, unpack it in the folder, and run the same command, which checks it."
            raise DataError(f"{response.url.host} serves no ranges of {file.path}. {fix}")
        if int(first) != position:
            raise _Again(f"the host answered with bytes from {first} on")

    def _try_again(self, error: Exception, failures: int, what: str) -> None:
        """Return after the due wait, or raise what the user should read."""
        response = getattr(error, "response", None)
        headers, status = getattr(response, "headers", {}), getattr(response, "status_code", None)
        self._last_failure = f"the connection failed ({type(error).__name__}: {error})"
        if isinstance(error, _Again):
            self._last_failure = str(error)
        elif isinstance(error, errors.OfflineModeIsEnabled):
            raise DataError("HF_HUB_OFFLINE is set: nothing can be fetched. Unset it.") from error
        elif isinstance(error, errors.HfHubHTTPError):
            self._heard.set()
            if status not in RETRY_STATUS:
                raise self._refusal(error, status) from error
            self._last_failure = f"the host answered {status}"
        elif isinstance(error, OSError) and error.filename:
            fix = "It belongs to huggingface_hub, as the token: correct its rights, or set HF_HOME."
            raise DataError(f"{error.filename} cannot be read ({error.strerror}). {fix}") from error
        pause = retry_after(headers.get("Retry-After"))
        limit = utils.parse_ratelimit_headers(headers)
        if pause is None and limit and not limit.remaining:
            pause = float(limit.reset_in_seconds)
        if pause is not None and pause > LONGEST_PAUSE_S:
            fix = "Run the same command later, or use a token (hf auth login), which raises limits."
            raise DataError(f"{self.endpoint} asks for a pause of {pause:.0f} s. {fix}") from error
        if failures >= self._retries:
            why = f"after {failures} attempts without headway: {self._last_failure}"
            fix = f"Run the same command again. {_WAYS_OUT}"
            raise DataError(f"gave up on {what} {why}. {fix}") from error
        # Connections that failed together should not come back together.
        growing = min(60.0, self._wait_s * 2 ** (failures - 1)) * random.uniform(0.75, 1.25)
        if pause is not None:
            self.pause(pause, self._last_failure)
        elif self.stop.wait(growing):
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

    def _refusal(self, error: Exception, status: int | None) -> DataError:
        """Return what the user should read of an answer that no new attempt makes better."""
        page = f"{self.endpoint}/datasets/{self.repo}"
        login = "log in with `hf auth login` or set HF_TOKEN; unset HF_TOKEN when it has expired."
        text = f"answered {status}: {error}".partition("\n")[0] + ". Check --repo and HF_ENDPOINT."
        if isinstance(error, errors.GatedRepoError):
            text = f"asks for its conditions to be accepted ({status}): do so on {page}, "
            text += f"then {login}"
        elif isinstance(error, errors.RevisionNotFoundError):
            text = f"has no revision {self.commit!r}. Leave --revision out for the pinned one, or "
            text += "use --revision main for the newest."
        elif status == 401:
            text = "was refused (401): no such name, or not public, or the token is not valid. "
            text += f"Check --repo and HF_ENDPOINT, look at {page}, then {login}"
        elif status == 403:
            text = f"may not be read with this token, or without one (403). Ask on {page}, then {login}"
        return DataError(f"{self.repo} on {self.endpoint} {text}")
