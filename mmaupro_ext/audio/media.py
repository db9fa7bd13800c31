"""m4a, AAC, WebM, WMA and FLAC in Ogg, which libsndfile does not read: by FFmpeg (extra ``media``, PyAV)."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from mmaupro_ext.audio.whole import DamagedError, Source
from mmaupro_ext.errors import AudioError

INSTALL = "Install what reads it (pip install 'mmaupro-ext[media]'), or convert it to WAV, FLAC, OGG or MP3."
# How far a stated duration may lie behind the end of the last packet: less than two frames of AAC.
ROUNDING = 0.04  # seconds


def kind_of(head: bytes) -> str | None:
    """Return what a file is by its first 16 bytes, None for what FFmpeg is not asked for.

    Parameters
    ----------
    head : bytes
        At least 16 bytes of the file, if it has as many.
    """
    if head[4:8] == b"ftyp":
        return "MP4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "WEBM"
    if head[:8] == bytes.fromhex("3026b2758e66cf11"):
        return "ASF"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "AAC"
    return None


class FFmpegReader:
    """The sound of a file by FFmpeg, from front to back, with the part of soundfile's face in use.

    Parameters
    ----------
    source : Source
        The file.
    file : object
        The same, open for reading in binary mode.
    name : str
        Its name, for messages.
    kind : str
        What :func:`kind_of` says.

    Raises
    ------
    AudioError
        If PyAV is not installed, or FFmpeg finds no sound that it can read.
    DamagedError
        If packets are missing by the file's own count or duration, or there is more than one stream.
    """

    def __init__(self, source: Source, file: Any, name: str, kind: str) -> None:
        try:
            import av
        except ImportError:
            raise AudioError(f"is {kind}, which needs PyAV", path=name, fix=INSTALL) from None
        self._errors = (av.FFmpegError, ValueError)
        self._file, self.format = file, kind
        file.seek(0)
        try:
            with av.open(file) as container:
                seconds = self._judge(container, source)
            file.seek(0)
            self._container = av.open(file)
            stream = self._container.streams.audio[0]
            self._convert = av.AudioResampler(format="flt")
            self._decoded = self._blocks(stream)
            self._waiting = next(self._decoded)
        except (*self._errors, StopIteration) as error:
            problem = f"cannot be read by FFmpeg ({getattr(error, 'strerror', None) or error})"
            raise DamagedError(problem) from None
        self.subtype = stream.codec_context.name.upper()
        self.samplerate: int = self._rate
        self.channels: int = self._waiting.shape[1]
        self.frames = max(1, round(seconds * self.samplerate))

    def _judge(self, container: Any, source: Source) -> Fraction:
        """Count the packets; return how many seconds they last."""
        if len(container.streams.audio) != 1:
            raise DamagedError(f"holds {len(container.streams.audio)} streams of audio")
        stream = container.streams.audio[0]
        ticks = packets = end = 0
        for packet in container.demux(stream):
            if packet.size:
                if packet.is_corrupt:
                    raise DamagedError(f"is damaged: packet {packets} is not whole")
                ticks, packets = ticks + (packet.duration or 0), packets + 1
                end = max(end, (packet.pts or 0) + (packet.duration or 0))
        seconds = ticks * Fraction(stream.time_base)
        # Packets of PCM hold many of what the file counts as frames.
        if packets < (stream.frames or 0) and ticks < (stream.duration or ticks + 1):
            raise DamagedError(f"is cut short: it holds {packets} of {stream.frames} packets")
        if self.format == "AAC":
            _check_adts(source)
        elif not stream.frames:
            if not container.duration:
                raise DamagedError("does not say how long it is, so nobody can tell if it is whole")
            stated = container.duration / 1_000_000
            present = float(end * Fraction(stream.time_base))
            if present + ROUNDING < stated:
                raise DamagedError(f"is cut short: it holds {present:.2f} of {stated:.2f} s")
        return seconds

    def _blocks(self, stream: Any) -> Iterator[npt.NDArray[np.float32]]:
        """Yield what FFmpeg decodes, float32 of shape (n, channels)."""
        shape = None
        for frame in self._container.decode(stream):
            channels = frame.layout.nb_channels
            if shape is None:
                shape = self._rate, _ = frame.sample_rate, channels
            if shape != (frame.sample_rate, channels):
                raise ValueError("its rate or its channels change")
            for converted in self._convert.resample(frame):
                yield np.asarray(converted.to_ndarray(), np.float32).reshape(-1, channels)

    def __enter__(self) -> FFmpegReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()
        self._file.close()

    def read(self, *, out: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Read the next frames into `out`, shape (n, channels); return the part that was filled."""
        done = 0
        try:
            while done < len(out):
                if not len(self._waiting):
                    self._waiting = next(self._decoded)
                part = self._waiting[: len(out) - done]
                out[done : done + len(part)] = part
                done += len(part)
                self._waiting = self._waiting[len(part) :]
        except StopIteration:
            pass
        except self._errors as error:
            raise OSError(0, getattr(error, "strerror", None) or str(error)) from None
        return out[:done]


def _check_adts(source: Source) -> None:
    """Raise DamagedError unless frames of AAC follow each other to the end."""
    at = count = 0
    while len(head := source.read(at, 7)) == 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        at += (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 or source.size
        count += 1
    if at > source.size:
        raise DamagedError(f"is cut short: it ends inside AAC frame {count}")
    if at < source.size and source.read(at, 3) not in (b"TAG", b"APE", b"ID3"):
        raise DamagedError(
            f"has {source.size - at} bytes after AAC frame {count} that are no frame"
        )
