"""WAV files that are read without libsndfile: the same samples as with it, or left to it."""

from __future__ import annotations

import io
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sounds import chunk, wav

from mmaupro_ext import audio
from mmaupro_ext.audio import opening
from mmaupro_ext.errors import AudioError

FRAMES = 700


def samples(channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(-32768, 32768, (FRAMES, channels), np.int16)


def fmt(channels: int = 2, rate: int = 44100, bits: int = 16, tag: int = 1) -> bytes:
    width = channels * bits // 8
    return struct.pack("<HHIIHH", tag, channels, rate, rate * width, width, bits)


def read_by_us(path: Path) -> np.ndarray | None:
    """Return what is read without libsndfile; None where the file is left to it or refused."""
    try:
        with opening.open_clip(path) as clip:
            if not isinstance(clip._decoder, opening.PcmReader):
                return None
            buffer = np.empty((clip.info.frames, clip.info.channels), np.int16)
            return np.concatenate([block.copy() for block in clip.blocks(buffer)])
    except AudioError:
        return None


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
@pytest.mark.parametrize("form", ["WAV", "WAVEX"])
def test_usual_files_are_taken_and_equal_libsndfile(tmp_path, channels, form):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(channels), 22050, format=form, subtype="PCM_16")
    np.testing.assert_array_equal(
        read_by_us(path), soundfile.read(path, dtype="int16", always_2d=True)[0]
    )
    info, theirs = audio.probe(path), soundfile.info(path)
    assert (info.frames, info.sampling_rate, info.channels) == (FRAMES, 22050, channels)
    assert (info.format, info.subtype) == (theirs.format, theirs.subtype)


@pytest.mark.parametrize(
    "before",
    [
        b"",
        chunk(b"LIST", b"INFOISFT\x04\0\0\0abc\0"),
        chunk(b"JUNK", b"\1" * 27),
        chunk(b"fact", bytes(4)),
    ],
    ids=["none", "list", "odd", "fact"],
)
@pytest.mark.parametrize("after", [b"", chunk(b"LIST", b"x" * 101)], ids=["none", "list"])
def test_other_chunks_are_passed_over(tmp_path, before, after):
    path, x = tmp_path / "a.wav", samples(2)
    path.write_bytes(wav(chunk(b"fmt ", fmt()), before, chunk(b"data", x.tobytes()), after))
    np.testing.assert_array_equal(read_by_us(path), x)
    np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], x)


DATA = chunk(b"data", bytes(400))
DOUBTFUL = {
    "24 bits": wav(chunk(b"fmt ", fmt(bits=24)), DATA),
    "float": wav(chunk(b"fmt ", fmt(bits=32, tag=3)), DATA),
    "law": wav(chunk(b"fmt ", fmt(bits=8, tag=7)), DATA),
    "no layout": wav(DATA),
    "layout behind": wav(DATA, chunk(b"fmt ", fmt())),
    "two layouts": wav(chunk(b"fmt ", fmt()), chunk(b"fmt ", fmt(1)), DATA),
    "no samples": wav(chunk(b"fmt ", fmt()), chunk(b"data", b"")),
    "half a frame": wav(chunk(b"fmt ", fmt()), chunk(b"data", b"\1\2\3")),
    "odd width": wav(chunk(b"fmt ", struct.pack("<HHIIHH", 1, 2, 44100, 176400, 6, 16)), DATA),
    "strange chunk": wav(chunk(b"fmt ", fmt()), chunk(b"\xe6act", b"1234"), DATA),
    "a chunk that libsndfile reads": wav(chunk(b"fmt ", fmt()), chunk(b"PEAK", b"1234"), DATA),
    "cut": wav(chunk(b"fmt ", fmt()), DATA)[:-2],
    "two data chunks": wav(chunk(b"fmt ", fmt()), DATA, DATA),
    "big-endian": b"RIFX" + wav(chunk(b"fmt ", fmt()), DATA)[4:],
}


@pytest.mark.parametrize("name", DOUBTFUL)
def test_doubtful_files_are_left_to_libsndfile_or_refused(tmp_path, name):
    path = tmp_path / "a.wav"
    path.write_bytes(DOUBTFUL[name])
    assert read_by_us(path) is None


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
            assert audio.probe(path).sampling_rate == rate
    assert taken > 0


# ---- Chunks at random

NAMES = (
    *(
        b"LIST",
        b"JUNK",
        b"fact",
        b"PEAK",
        b"bext",
        b"cue ",
        b"smpl",
        b"id3 ",
        b"PAD ",
        b"FLLR",
        b"acid",
    ),
    *(
        b"cart",
        b"inst",
        b"iXML",
        b"ds64",
        b"abcd",
        b"DISP",
        b"data",
        b"fmt ",
        b"\0\0\0\0",
        b"\xe6act",
    ),
    *(b"exif", b"strc", b"afsp", b"RIFF", b"WAVE", b"INFO", b"SAUR", b"umid", b"levl", b"fram"),
)


def layout_at_random(r: random.Random) -> bytes:
    channels, bits = r.choice([1, 1, 2, 2, 3]), r.choice([16] * 6 + [8, 24])
    tag = r.choice([1] * 8 + [3, 0xFFFE, 7])
    width = channels * bits // 8
    rate = r.choice([8000, 44100, 16000])
    rates = r.choice([rate * width] * 19 + [r.randrange(1 << 20)])
    head = struct.pack("<HHIIHH", tag, channels, rate, rates, r.choice([width] * 30 + [5]), bits)
    if tag == 0xFFFE or r.random() < 0.1:
        subformat = bytes.fromhex("0100000000001000800000aa00389b71")
        return head + struct.pack("<HHI", 22, bits, 0) + subformat
    return head + r.choice([b""] * 4 + [bytes(2)])


def file_at_random(r: random.Random) -> tuple[bytes, bool]:
    """Return a file of chunks in any order, some with a wrong length, and whether one has length 0."""

    def other() -> tuple[bytes, bytes]:
        name, length = r.choice(NAMES), r.choice([0, 1, 2, 3, 4, 5, 16, 27, 28, 60, 100, 5000])
        if name == b"fmt ":
            return name, layout_at_random(r)
        if name == b"LIST" and r.random() < 0.6:
            lists = (b"INFOISFT\x04\0\0\0abc\0", b"INFO", b"adtl" + r.randbytes(8))
            return name, r.choice([*lists, b"INFOIART" + struct.pack("<I", 99) + b"ab"])
        return name, r.choice([bytes(length), r.randbytes(length)])

    chunks = [other() for _ in range(r.choice([0, 0, 0, 1, 1, 2, 3]))]
    if r.random() < 0.98:
        chunks.append((b"fmt ", layout_at_random(r)))
    chunks += [other() for _ in range(r.choice([0, 0, 0, 1, 1, 2]))]
    chunks.append((b"data", r.randbytes(r.choice([0, 1, 2, 4, 6, 12, 120, 121, 123, 1200]))))
    chunks += [other() for _ in range(r.choice([0, 0, 0, 1, 1, 2]))]
    if r.random() < 0.05:
        r.shuffle(chunks)
    body, unknown = b"WAVE", False
    for name, content in chunks:
        length = len(content)
        if r.random() < 0.04:
            length = max(0, length + r.choice([-1, 1, -2, 2, 4, 100, 10**6, -length]))
        unknown |= name == b"data" and length == 0
        filled = chunk(name, content, length)
        body += filled if r.random() < 0.95 else filled[: 8 + len(content)]
    body += r.choice([b""] * 8 + [b"\0", b"abc", bytes(20), r.randbytes(30)])
    size = len(body) if r.random() < 0.9 else r.choice([0, 4, len(body) // 2, 0xFFFFFFFF])
    return b"RIFF" + struct.pack("<I", size) + body, unknown


def test_chunks_at_random_are_read_as_libsndfile_reads_them(tmp_path):
    """What we play is what libsndfile plays, whoever reads it; run by hand with SEQUENCES=60000."""
    r = random.Random(int(os.environ.get("SEED", "1")))
    path = tmp_path / "a.wav"
    by_us = by_them = 0
    for _ in range(int(os.environ.get("SEQUENCES", "1500"))):
        content, unknown = file_at_random(r)
        path.write_bytes(content)
        try:
            theirs = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)[0]
        except soundfile.LibsndfileError:
            theirs = np.zeros((0, 1), np.float32)
        with_us = read_by_us(path)
        try:
            ours = audio.load(path, None, "keep").T
        except AudioError:
            continue
        if unknown:  # libsndfile plays nothing, we play to the end: see test_audio_whole
            continue
        np.testing.assert_array_equal(ours, theirs)
        by_us, by_them = by_us + (with_us is not None), by_them + (with_us is None)
    assert by_us > 50
    assert by_them > 100


# ---- While it is read


def test_a_file_that_gets_shorter_while_it_is_read_is_cut_short(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(2), 44100, subtype="PCM_16")
    with opening.open_clip(path) as clip:
        os.truncate(path, path.stat().st_size - 400)
        with pytest.raises(AudioError, match=r"a\.wav.*holds 600 of 700 frames"):
            list(clip.blocks(np.empty((FRAMES, 2), np.int16)))


def test_an_error_of_the_disk_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    soundfile.write(path, samples(2), 44100, subtype="PCM_16")

    def fail(self: opening.PcmReader, *, out: np.ndarray) -> np.ndarray:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(opening.PcmReader, "read", fail)
    with pytest.raises(AudioError, match=r"a\.wav.*Input/output error"):
        audio.load(path)
