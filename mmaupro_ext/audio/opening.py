"""A file, opened once: its verdict, its header, and its samples block by block.

:func:`open_clip` is the only way to the samples of a file, for loading, streaming and measuring alike,
and so the only judge of whether a clip is whole.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy.typing as npt
import soundfile

from mmaupro_ext.audio import in_memory
from mmaupro_ext.audio.media import FFmpegReader, kind_of
from mmaupro_ext.audio.validate import MAX_RATE
from mmaupro_ext.audio.whole import PRIMING, DamagedError, Verdict
from mmaupro_ext.audio.whole.chunks import CHUNKED, PcmReader, of_chunks
from mmaupro_ext.audio.whole.flac import of_flac
from mmaupro_ext.audio.whole.mpeg import id3v2_end, of_mpeg, without_remarks
from mmaupro_ext.audio.whole.ogg import of_ogg
from mmaupro_ext.errors import AudioError

# Integer formats are read as integers, which is exact and leaves the conversion to our kernels;
# everything else as float32.
SAMPLE_TYPES = {
    "PCM_S8": "int16",
    "PCM_U8": "int16",
    "PCM_16": "int16",
    "PCM_24": "int32",
    "PCM_32": "int32",
}
BYTES_PER_SAMPLE = {
    **dict.fromkeys(("PCM_S8", "PCM_U8", "ULAW", "ALAW"), 1),
    **{"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8},
}
BLOCK_FRAMES = 128 * 1024
HEAD = 4096  # bytes; nearly always all that stands before the samples

GET_AGAIN = (
    "Get the file again, or re-encode what is there (ffmpeg -i FILE OUT.wav) to accept the loss."
)
CONVERT = "Convert it to WAV, FLAC, OGG or MP3 (ffmpeg -i FILE OUT.wav)."


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file holds.

    Attributes
    ----------
    path : str
        The file.
    frames : int
        Samples of each channel.
    sampling_rate : int
        Hz.
    channels : int
        Number of channels.
    seconds : float
        ``frames / sampling_rate``.
    format, subtype : str
        Container and encoding in libsndfile's words, such as ``"WAV"`` and ``"PCM_16"``.
    """

    path: str
    frames: int
    sampling_rate: int
    channels: int
    seconds: float
    format: str
    subtype: str


class Clip:
    """An open audio file that is whole as far as can be told without decoding it.

    Attributes
    ----------
    info : AudioInfo
        By its header at first; once all blocks were read, what was decoded.
    size : int
        Bytes of the file.
    """

    def __init__(self, info: AudioInfo, size: int, decoder: Any, slack: int) -> None:
        self.info, self.size = info, size
        self._decoder, self._slack = decoder, slack

    def __enter__(self) -> Clip:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoder.close()

    def _quiet(self) -> contextlib.AbstractContextManager[None]:
        speaks = self.info.subtype.startswith("MPEG")
        return without_remarks() if speaks else contextlib.nullcontext()

    @property
    def dtype(self) -> str:
        """Type of the blocks: int16, int32 or float32."""
        return SAMPLE_TYPES.get(self.info.subtype, "float32")

    @property
    def block_frames(self) -> int:
        """Samples of each channel in a block; bounds the memory, not the time."""
        return max(1, BLOCK_FRAMES * 2 // self.info.channels)

    def blocks(self, buffer: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
        """Decode the file.

        Parameters
        ----------
        buffer : numpy.ndarray
            Of `dtype`, shape ``(n, channels)``; each block overwrites the one before.

        Yields
        ------
        numpy.ndarray
            The part of `buffer` that was filled.

        Raises
        ------
        AudioError
            If the decoder fails or ends before the last sample.
        """
        info, done = self.info, 0
        # FFmpeg alone may know better than a header how much there is.
        last = None if isinstance(self._decoder, FFmpegReader) else info.frames
        while last is None or done < last:
            wanted = buffer if last is None else buffer[: last - done]
            try:
                with self._quiet():
                    block: npt.NDArray[Any] = self._decoder.read(out=wanted)
            except (soundfile.LibsndfileError, OSError) as error:
                raise AudioError(
                    f"cannot be decoded between frames {done} and {done + len(wanted)} of "
                    f"{info.frames} ({_reason(error)})",
                    path=info.path,
                    fix=GET_AGAIN,
                ) from error
            if len(block) == 0:
                break
            done += len(block)
            yield block
        if done == 0 or done + self._slack < info.frames:
            raise _cut_short(info.path, done, info.frames)
        self.info = replace(info, frames=done, seconds=done / info.sampling_rate)


def open_clip(path: Any) -> Clip:
    """Open an audio file, and judge whether it is whole.

    Parameters
    ----------
    path : path-like, bytes-like or binary file
        WAV, RF64, W64, AIFF, AU, CAF, FLAC, OGG (Vorbis, Opus) or MP3, whatever its name; and, with
        the extra `media`, m4a, AAC, WebM, WMA and FLAC in Ogg. Bytes are the content of a file.

    Returns
    -------
    Clip
        Open; a context manager.

    Raises
    ------
    AudioError
        If the file is missing, not a regular file, empty, not readable, not audio, holds no samples,
        or is not whole. What only decoding can find is found by :meth:`Clip.blocks`.
    """
    decoder: Any = None
    with contextlib.ExitStack() as cleanup:
        source = cleanup.enter_context(_File(path))
        name = source.name
        try:
            verdict = _judge(source)
            if verdict.media is not None:
                decoder = FFmpegReader(source, source.file, name, verdict.media)
        except DamagedError as error:
            raise AudioError(str(error), path=name, fix=GET_AGAIN) from None
        except OSError as error:
            raise AudioError(
                f"cannot be read ({_reason(error)})", path=name, fix=GET_AGAIN
            ) from None
        if verdict.pcm is not None and sys.byteorder == "little":
            decoder = PcmReader(source.file, verdict.pcm)
        elif verdict.media is None:
            decoder = _decoder(source, verdict)
        cleanup.push(decoder)
        info = _info(name, decoder, verdict)
        cleanup.pop_all()
    return Clip(info, source.size, decoder, verdict.slack)


def regular_file(path: str | os.PathLike[str]) -> str:
    """Return the path as text, or raise AudioError where there is no file to read.

    Pipes, devices and sockets are refused before they are opened, which could wait for ever.
    """
    name = os.fsdecode(path)
    try:
        found = os.stat(name)
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        if "\0" in name or not os.path.lexists(name):
            problem, fix = "no such file", "Check the path, or get the data again."
        else:  # a link to nowhere, or a folder on the way that may not be entered
            problem, fix = "is not a regular file", "Name an audio file."
        raise AudioError(problem, path=name, fix=fix) from None
    if stat.S_ISDIR(found.st_mode):
        raise AudioError("is a directory", path=name, fix="Name an audio file in it.")
    if not stat.S_ISREG(found.st_mode):
        raise AudioError("is not a regular file", path=name, fix="Name an audio file.")
    if found.st_size == 0:
        raise AudioError("is empty (0 bytes)", path=name, fix="Get the file again.")
    return name


class _File:
    """A file that is open, with what was read of its beginning."""

    def __init__(self, path: Any) -> None:
        if not isinstance(path, (str, os.PathLike)):
            content, self.name = in_memory.content_of(path)
            self.file: Any = os.fdopen(in_memory.descriptor_of([content]), "rb", buffering=0)
        else:
            self.name = regular_file(path)
            try:
                self.file = open(self.name, "rb", buffering=0)  # noqa: SIM115 (closed by the caller)
            except OSError as error:
                problem, fix = f"may not be read ({_reason(error)})", "Check its permissions."
                raise AudioError(problem, path=self.name, fix=fix) from None
        self.size = os.fstat(self.file.fileno()).st_size
        self._head = self._from(0, HEAD)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def read(self, at: int, count: int) -> bytes:
        """Return up to `count` bytes from byte `at` on."""
        if at + count <= len(self._head):
            return self._head[at : at + count]
        if at >= self.size or count <= 0:
            return b""
        return self._from(at, min(count, self.size - at))

    def _from(self, at: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.file.fileno(), count, at)
        os.lseek(self.file.fileno(), at, os.SEEK_SET)  # Windows; one thread reads a file
        return os.read(self.file.fileno(), count)

    def all(self) -> bytes:
        """Return the content."""
        parts, at = [], 0
        while part := self.read(at, self.size - at):
            parts.append(part)
            at += len(part)
        return b"".join(parts)


def _judge(source: _File) -> Verdict:
    """Ask the one who knows the file's kind, which its first bytes tell and not its name."""
    head = source.read(0, 16)
    if head[:4] in CHUNKED and (verdict := of_chunks(source)) is not None:
        return verdict if verdict.mpeg is None else of_mpeg(source.all(), *verdict.mpeg)
    if head[:4] == b"OggS":
        return of_ogg(source.all())
    first = id3v2_end(head) if head[:3] == b"ID3" else 0
    if source.read(first, 4) == b"fLaC":
        return of_flac(source, first)
    # Frames of MPEG audio begin with eleven ones; those of AAC with twelve and a layer of zero.
    frame = head[0] == 0xFF and head[1:2] >= b"\xe0"
    if first or head[:8] == b"APETAGEX" or (frame and head[1] & 0xF6 != 0xF0):
        return of_mpeg(source.all())
    if (kind := kind_of(head)) is not None:
        return Verdict(media=kind, slack=PRIMING)
    raise AudioError(
        "is not audio of a kind that can be read",
        path=source.name,
        fix=f"{CONVERT} If it should be audio, get it again.",
    )


class _FromFrontToBack(soundfile.SoundFile):
    """A file that is read once. soundfile seeks to where it is after each block, where it can."""

    def seekable(self) -> bool:
        return False


def _decoder(source: _File, verdict: Verdict) -> soundfile.SoundFile:
    """Return libsndfile at work on the file, or on what the verdict puts in its place.

    It gets a descriptor and no name, so a name cannot make it guess.
    """
    pieces = verdict.pieces
    descriptor = os.dup(source.file.fileno()) if pieces is None else _written(source, pieces)
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        speaks = source.read(0, 4) not in (b"fLaC", b"OggS", b"FORM")
        with without_remarks() if speaks else contextlib.nullcontext():
            decoder = _FromFrontToBack(descriptor, closefd=True)
    except soundfile.LibsndfileError as error:
        if verdict.declared is not None and (verdict.present or 0) < verdict.declared:
            present, declared = verdict.present or 0, verdict.declared
            raise _cut_short(source.name, present, declared, "bytes of samples") from None
        raise AudioError(
            f"is not audio that libsndfile can read ({_reason(error)})",
            path=source.name,
            fix=f"{CONVERT} If it should be audio, get it again.",
        ) from None
    source.file.close()
    return decoder


def _written(source: _File, pieces: tuple[bytes | tuple[int, int], ...]) -> int:
    """Return a descriptor of a file that holds the pieces, and is gone when it is closed."""

    def blocks() -> Iterator[bytes]:
        for piece in pieces:
            at, end = (0, 0) if isinstance(piece, bytes) else piece
            if isinstance(piece, bytes):
                yield piece
            while at < end and (block := source.read(at, min(end - at, 1 << 22))):
                yield block
                at += len(block)

    return in_memory.descriptor_of(blocks())


def _info(name: str, decoder: Any, verdict: Verdict) -> AudioInfo:
    """Return what the header says, where it agrees with what was counted."""
    rate = int(decoder.samplerate)
    if not 1 <= rate <= MAX_RATE:
        raise AudioError(
            f"its sampling rate={rate} is outside 1 to {MAX_RATE} Hz",
            path=name,
            fix="Get the file again, or give it the right rate (ffmpeg -i FILE -ar 16000 OUT.wav).",
        )
    width = BYTES_PER_SAMPLE.get(decoder.subtype, 0) * decoder.channels
    frames = decoder.frames
    if verdict.declared is not None and verdict.present is not None:
        unit, size = ("frames", width) if width else ("bytes of samples", 1)
        present, declared = verdict.present // size, verdict.declared // size
        if present < declared:
            raise _cut_short(name, present, declared, unit)
        if width and frames != declared:
            raise AudioError(
                f"has a header that contradicts itself: {frames} or {declared} frames",
                path=name,
                fix=GET_AGAIN,
            )
    if verdict.frames is not None:
        if frames < verdict.frames:
            raise AudioError(
                f"holds {verdict.frames} frames, of which libsndfile would decode {frames}",
                path=name,
                fix=CONVERT,
            )
        frames = verdict.frames
    if frames <= 0:
        raise AudioError("holds no samples", path=name, fix="Get the file again, or leave it out.")
    return AudioInfo(
        path=name,
        frames=frames,
        sampling_rate=rate,
        channels=decoder.channels,
        seconds=frames / rate,
        format=decoder.format,
        subtype=decoder.subtype,
    )


def _cut_short(path: str, present: int, declared: int, unit: str = "frames") -> AudioError:
    return AudioError(
        f"is cut short: it holds {present} of {declared} {unit}", path=path, fix=GET_AGAIN
    )


def _reason(error: soundfile.LibsndfileError | OSError) -> str:
    """Return libsndfile's reason, without the words that mislead, or the system's."""
    if isinstance(error, OSError):
        return str(error.strerror)
    reason = error.error_string.removeprefix("Error : ").rstrip(".")
    # What it says of an MP3 without a single frame.
    return "no MPEG frame in it" if "possibly a pipe" in reason else reason
