"""What names the content of a remote file, and whether bytes are that content."""

from __future__ import annotations

import hashlib

from huggingface_hub.hf_api import RepoSibling


def sha256_of(file: RepoSibling) -> str | None:
    """Return the sha256 that the hub states of a file, None for one that is kept in git itself."""
    return file.lfs.sha256 if file.lfs is not None else None


def identity(file: RepoSibling) -> str:
    """Return what names a file's content: the sha256, else the git object id."""
    return sha256_of(file) or file.blob_id or f"size-{file.size}"


class Digest:
    """Tells whether bytes, as they come, are those of a remote file, by the strongest name of its content."""

    def __init__(self, file: RepoSibling) -> None:
        self._file, self._size = file, 0
        start = b"blob %d\0" % (file.size or 0)
        git = hashlib.sha1(start, usedforsecurity=False)
        self._hasher = hashlib.sha256() if sha256_of(file) else git

    def update(self, content: bytes) -> None:
        """Take the next bytes."""
        self._size += len(content)
        self._hasher.update(content)

    def agrees(self, content: bytes = b"") -> bool:
        """Return whether these, and some more, were all the bytes of the file."""
        self.update(content)
        named = sha256_of(self._file) or self._file.blob_id
        return self._size == self._file.size and named in (None, self._hasher.hexdigest())
