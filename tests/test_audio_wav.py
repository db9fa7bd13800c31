"""WAV files that are read without libsndfile: the same samples as with it, or left to it."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import decoding, wav
from mmaupro_ext.errors import AudioError

FRAMES = 700


def samples(channels: int) -> np.ndarray:
    return np.random.default_rng(3).integers(-32768, 32768, (FRAMES, channels), np.int16)


def read_by_us(path: Path) -> np.ndarray | None:
    file = wav.open_pcm_wav(str(path))
    if file is None:
        return None
    with file:
        out = np.empty((file.frames, file.channels), np.int16)
        assert len(file.read(out=out)) == file.frames
        assert len(file.read(out=out)) == 0
        return out


def wav_bytes(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


def fmt(channels: int = 2, rate: int = 44100, bits: int = 16, tag: int = 1) -> bytes:
    width = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_usual_files_are_taken_and_equal_libsndfile(tmp_path, channels, form):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(channels), 22050, format=form, subtype="PCM_16")
    expected, rate = soundfile.read(path, dtype="int16", always_2d=True)
    np.testing.assert_array_equal(read_by_us(path), expected)
    with soundfile.SoundFile(path) as theirs, decoding._open(str(path)) as ours:
        assert isinstance(ours, wav.PcmWav)
        for name in ("frames", "samplerate", "channels", "format", "subtype"):
            assert getattr(ours, name) == getattr(theirs, name)


@pytest.mark.parametrize(
    "before",
    [[], [(b"LIST", b"INFOISFT\x03\0\0\0abc\0")], [(b"JUNK", b"\1" * 27)], [(b"fact", b"\0" * 4)]],
    ids=["none", "list", "odd", "fact"],
)
@pytest.mark.parametrize("after", [[], [(b"LIST", b"x" * 101)]], ids=["none", "list"])
def test_other_chunks_are_passed_over(tmp_path, before, after):
    path, x = tmp_path / "a.wav", samples(2)
    path.write_bytes(wav_bytes((b"fmt ", fmt()), *before, (b"data", x.tobytes()), *after))
    np.testing.assert_array_equal(read_by_us(path), x)
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], x)


DOUBTFUL = {
    "24 bits": wav_bytes((b"fmt ", fmt(bits=24)), (b"data", bytes(6 * FRAMES))),
    "float": wav_bytes((b"fmt ", fmt(bits=32, tag=3)), (b"data", bytes(8 * FRAMES))),
    "law": wav_bytes((b"fmt ", fmt(bits=8, tag=7)), (b"data", bytes(2 * FRAMES))),
    "no layout": wav_bytes((b"data", bytes(4 * FRAMES))),
    "layout behind": wav_bytes((b"data", bytes(4 * FRAMES)), (b"fmt ", fmt())),
    "two layouts": wav_bytes((b"fmt ", fmt()), (b"fmt ", fmt(1)), (b"data", bytes(4 * FRAMES))),
    "no samples": wav_bytes((b"fmt ", fmt()), (b"data", b"")),
    "half a frame": wav_bytes((b"fmt ", fmt()), (b"data", b"\1\2\3")),
    "odd width": wav_bytes(
        (b"fmt ", struct.pack("<HHIIHH", 1, 2, 44100, 176400, 6, 16)), (b"data", bytes(600))
    ),
    "far chunk": wav_bytes((b"JUNK", bytes(5000)), (b"fmt ", fmt()), (b"data", bytes(400))),
    "strange chunk": wav_bytes((b"fmt ", fmt()), (b"\xe6act", b"1234"), (b"data", bytes(400))),
    "cut": wav_bytes((b"fmt ", fmt()), (b"data", bytes(4 * FRAMES)))[:-2],
    "to a pipe": wav_bytes((b"fmt ", fmt()), (b"data", bytes(400))).replace(
        struct.pack("<I", 400), b"\xff\xff\xff\xff"
    ),
    "big-endian": b"RIFX" + wav_bytes((b"fmt ", fmt()), (b"data", bytes(400)))[4:],
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_files_are_left_to_libsndfile(tmp_path, name):
    path = tmp_path / "a.wav"
    path.write_bytes(DOUBTFUL[name])
    assert wav.open_pcm_wav(str(path)) is None


@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_no_byte_of_a_header_makes_us_read_what_libsndfile_does_not(tmp_path, form):
    """Every byte of the header, changed in turn: the same samples, an error, or left to libsndfile."""
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(2), 44100, format=form, subtype="PCM_16")
    whole = path.read_bytes()
    taken = 0
    for place in range(len(whole) - 4 * FRAMES):
        for change in (0x01, 0x02, 0x10, 0x80, 0xFF):
            changed = bytearray(whole)
            changed[place] ^= change
            path.write_bytes(changed)
            ours = read_by_us(path)
            if ours is None:
                continue
            taken += 1
            theirs, rate = soundfile.read(path, dtype="int16", always_2d=True)
            np.testing.assert_array_equal(ours, theirs)
            with decoding._open(str(path)) as file:
                assert (file.samplerate, file.channels) == (rate, theirs.shape[1])
    assert taken > 0


def test_a_file_that_gets_shorter_while_it_is_read_is_cut_short(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(2), 44100, subtype="PCM_16")
    opened = wav.open_pcm_wav

    def shorten(name: str) -> wav.PcmWav | None:
        file = opened(name)
        path.write_bytes(path.read_bytes()[:-400])
        return file

    monkeypatch.setattr(decoding, "open_pcm_wav", shorten)
    with pytest.raises(AudioError, match=r"a\.wav.*holds 600 of 700 frames"):
        audio.load(path)


def test_an_error_of_the_disk_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(2), 44100, subtype="PCM_16")

    def fail(self: wav.PcmWav, *, out: np.ndarray) -> np.ndarray:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(wav.PcmWav, "read", fail)
    with pytest.raises(AudioError, match=r"a\.wav.*Input/output error"):
        audio.load(path)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "a.flac"
    path.write_bytes(b"what libsndfile refuses")
    monkeypatch.setattr(decoding.os, "access", lambda *_: False)
    with pytest.raises(AudioError, match="may not be read"):
        audio.load(path)
