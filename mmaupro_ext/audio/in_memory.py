"""Audio without a name: what bytes and open files hold becomes a descriptor, to be read as a file is."""

from __future__ import annotations

import os
import reprlib
import tempfile
from collections.abc import Iterable
from typing import Any

from mmaupro_ext.errors import AudioError


class Content(bytes):
    """The content of a file that has a name, for messages and records."""

    name: str | None = None

    @classmethod
    def of(cls, content: bytes, name: Any) -> Content:
        """Return the content under this name, or under none."""
        named = cls(content)
        named.name = str(name) if name else None
        return named


def content_of(source: Any) -> tuple[bytes | bytearray | memoryview, str]:
    """Return the bytes of a source, and how messages call it.

    Parameters
    ----------
    source : bytes-like or file object
        An open file is read from where it stands to its end, and stays open.

    Raises
    ------
    AudioError
        If it is neither, holds no bytes, or is open as text.
    """
    if not isinstance(source, (bytes, bytearray, memoryview)) and not hasattr(source, "read"):
        fix = "Give the name of an audio file, its bytes, or a file that is open for reading bytes."
        raise AudioError(f"{reprlib.repr(source)} is not a path", fix=fix)
    content: Any = source.read() if hasattr(source, "read") else source
    name = getattr(source, "name", None)
    if isinstance(content, str):
        raise AudioError("is open as text", path=str(name), fix='Open it with mode "rb".')
    if not isinstance(name, str):
        name = f"audio in memory ({len(content)} bytes)"
    if not len(content):
        fix = "An open file is read from where it stands: seek(0) to read it again."
        raise AudioError("is empty (0 bytes)", path=name, fix=fix)
    return content, name


def descriptor_of(pieces: Iterable[bytes | bytearray | memoryview]) -> int:
    """Return the descriptor of a file that holds the pieces, and is gone when it is closed."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("clip")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    for piece in pieces:
        rest = memoryview(piece).cast("B")
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    return descriptor
