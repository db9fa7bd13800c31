"""A file of a repository on GitHub, brought as a hub's files are: see `hub`."""

from __future__ import annotations

import urllib.parse
from pathlib import PurePosixPath
from types import SimpleNamespace
from typing import Any

import huggingface_hub
from huggingface_hub.hf_api import BlobLfsInfo, RepoSibling
from huggingface_hub.utils import hf_raise_for_status

from mmaupro_ext.data.hub import Hub
from mmaupro_ext.errors import DataError

GITHUB = "https://raw.githubusercontent.com"


class GitHub(Hub):
    """One commit of a repository on GitHub, of which a description names a file.

    Raw files are asked for as a hub's are; the description, and no list of files, says what they hold. A
    file that the user put into the folder is not asked for.
    """

    def info(self) -> Any:
        """Return what `Hub.info` does, of the one file."""
        self.endpoint = GITHUB
        source, digest = self.source, self.source.digest or ""
        brought = self.request.root / PurePosixPath(source.path).name
        size = brought.stat().st_size if brought.is_file() else self._size()
        by_sha256 = BlobLfsInfo(size=size, sha256=digest, pointer_size=0)
        named = {"lfs": by_sha256} if len(digest) == 64 else {"blob_id": digest or None}
        file = RepoSibling(source.path, size, **named)
        return SimpleNamespace(sha=source.revision, card_data=None, siblings=[file])

    def _size(self) -> int:
        url, headers = self.place(RepoSibling(self.source.path))
        headers["Accept-Encoding"] = "identity"
        answer = huggingface_hub.get_session().head(url, headers=headers, follow_redirects=True)
        self.heard.set()
        hf_raise_for_status(answer)
        return int(answer.headers["Content-Length"])

    def place(self, file: RepoSibling) -> tuple[str, dict[str, str]]:
        """Return a file's URL and headers; not the hub's, whose token is nobody else's business."""
        name = urllib.parse.quote(file.rfilename)
        return f"{self.endpoint}/{self.repo}/{self.commit}/{name}", {"User-Agent": "mmaupro-ext"}

    def refusal(self, error: Exception, status: int | None) -> DataError:
        """Return what the user can do where the file is not to be had."""
        url, _ = self.place(RepoSibling(self.source.path))
        fix = "Download it by other means, put it into the folder and run the same command again."
        return DataError(f"{url} answered {status}. {fix}")
