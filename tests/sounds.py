"""Sound files in every format that is read, made in memory; FFmpeg as referee, and our own verdict."""

from __future__ import annotations

import functools
import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.data import clips
from mmaupro_ext.errors import AudioError

RATE = 44100
SECONDS = 1.0


def sound(seconds: float = SECONDS, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """Return a sweep in noise of shape (frames, channels): no two parts of it are alike."""
    time = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal((len(time), channels))
    sweep = 0.3 * np.sin(2 * np.pi * (200 + 300 * time / seconds) * time)
    return np.clip(sweep[:, None] + 0.1 * noise, -0.95, 0.95)


def by_libsndfile(x: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    """Return a file in a format that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, x, rate, **options)
    return file.getvalue()


def by_ffmpeg(
    x: np.ndarray,
    codec: str,
    container: str,
    rate: int = RATE,
    bit_rate: int | None = None,
    options: dict[str, str] | None = None,
    of_codec: dict[str, str] | None = None,
) -> bytes:
    """Return a file of a codec and container that FFmpeg writes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options or {}) as output:
        stream = output.add_stream(codec, rate=rate, options=of_codec or {})
        stream.layout = "mono" if x.shape[1] == 1 else "stereo"
        if bit_rate:
            stream.bit_rate = bit_rate
        convert = av.AudioResampler(
            stream.codec_context.codec.audio_formats[0].name, stream.layout, rate
        )
        for at in range(0, len(x), 4096):
            part = np.ascontiguousarray(x[at : at + 4096].T, np.float32)
            frame = av.AudioFrame.from_ndarray(part, "fltp", stream.layout.name)
            frame.sample_rate, frame.pts = rate, at
            for converted in convert.resample(frame):
                output.mux(stream.encode(converted))
        for converted in convert.resample(None):
            output.mux(stream.encode(converted))
        output.mux(stream.encode(None))
    return file.getvalue()


def mp3(seconds: float = SECONDS, counted: bool = False, **options) -> bytes:
    """Return an MP3 of 128 kbit/s, with a Xing frame that counts its frames or without one."""
    muxing = {"write_xing": str(int(counted)), "id3v2_version": "0"}
    options = {"bit_rate": 128000, **options}
    return by_ffmpeg(sound(seconds), "libmp3lame", "mp3", options=muxing, **options)


def vbr_mp3(counted: bool = False) -> bytes:
    """Return an MP3 whose first half is silence, so that its frames are of very different lengths."""
    x = sound()
    x[: len(x) // 2] = 0
    return by_ffmpeg(
        x,
        "libmp3lame",
        "mp3",
        options={"write_xing": str(int(counted)), "id3v2_version": "0"},
        of_codec={"flags": "+qscale", "global_quality": str(2 * 118)},
    )


FORMATS = {
    **{
        f"{container} {subtype}": functools.partial(
            lambda **options: by_libsndfile(sound(), **options), format=container, subtype=subtype
        )
        for container, subtype in (
            ("WAV", "PCM_16"),
            ("WAV", "PCM_24"),
            ("WAV", "FLOAT"),
            ("WAV", "IMA_ADPCM"),
            ("WAVEX", "PCM_16"),
            ("RF64", "PCM_16"),
            ("W64", "PCM_16"),
            ("AIFF", "PCM_16"),
            ("AU", "PCM_16"),
            ("CAF", "PCM_16"),
            ("CAF", "ALAC_16"),
            ("FLAC", "PCM_16"),
            ("OGG", "VORBIS"),
        )
    },
    "OGG OPUS": lambda: by_libsndfile(sound(), 48000, format="OGG", subtype="OPUS"),
    "OGG OPUS, FFmpeg": lambda: by_ffmpeg(sound(), "libopus", "ogg", 48000),
    "FLAC, FFmpeg": lambda: by_ffmpeg(sound(), "flac", "flac"),
    "MP3": mp3,
    "MP3 counted": lambda: mp3(counted=True),
    "MP3 VBR": vbr_mp3,
    "MP3 VBR counted": lambda: vbr_mp3(counted=True),
    "MP3 in WAV": lambda: by_ffmpeg(sound(), "libmp3lame", "wav", bit_rate=128000),
    "MP2": lambda: by_ffmpeg(sound(), "mp2", "mp2", bit_rate=192000),
}


@functools.cache
def whole(name: str) -> bytes:
    """Return a whole file of a format, a second of stereo."""
    return FORMATS[name]()


def tolerance(name: str) -> int:
    """Return the samples in a frame of a format's codec: as far may decoders differ at the ends."""
    if "MP" in name:
        return 1152
    # Vorbis has blocks of up to 2048, Opus frames of 960; ADPCM blocks of 1017 here, ALAC frames of 4096.
    sizes = {"VORBIS": 2048, "OPUS": 960, "IMA_ADPCM": 1017, "ALAC_16": 4096}
    # Uncompressed: bytes up to `STRAY_BYTES` after the samples, which FFmpeg plays, at 4 bytes a frame.
    return next((size for codec, size in sizes.items() if codec in name), 64)


def heard_by_ffmpeg(content: bytes) -> int:
    """Return how many samples of each channel FFmpeg decodes, damage or not; 0 for what is no audio."""
    samples = 0
    try:
        with av.open(io.BytesIO(content)) as file:
            for frame in file.decode(file.streams.audio[0]):
                samples += frame.samples
    except (av.FFmpegError, IndexError):
        pass  # what came before the damage counts
    return samples


def chunk(name: bytes, content: bytes, length: int | None = None) -> bytes:
    """Return a RIFF chunk with its filling; `length` is what its header says, if not the truth."""
    said = len(content) if length is None else length
    return name + struct.pack("<I", said) + content + bytes(len(content) % 2)


def wav(*chunks: bytes) -> bytes:
    """Return a WAV file of chunks."""
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def verdict(path: Path, content: bytes | None = None) -> tuple[int, str]:
    """Return how many frames of a file are played and what is wrong with it, by every judge of ours."""
    if content is not None:
        path.write_bytes(content)
    problem = clips.measure(path).get("problem", "")
    if problem:
        for judge in (audio.decode, lambda path: list(audio.stream(path))):
            with pytest.raises(AudioError) as caught:
                judge(path)
            assert (caught.value.path, caught.value.problem) == (str(path), problem)
            assert caught.value.fix
        return 0, problem
    found = audio.decode(path, None, "keep")
    assert found.info.frames == found.samples.shape[1] == clips.measure(path)["frames"]
    return found.info.frames, ""
