"""Is a clip whole? FFmpeg is the referee: what it plays whole reaches us whole, or is an error."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path

import numpy as np
import pytest
from sounds import FORMATS, by_libsndfile, heard_by_ffmpeg, sound, tolerance, verdict, whole, write

from mmaupro_ext import audio
from mmaupro_ext.audio import opening
from mmaupro_ext.errors import AudioError

FRAMES = len(sound())
CUT_SHORT = "is cut short"


# ---- Formats and damages


@pytest.mark.parametrize("name", FORMATS)
def test_whole_files_are_played_whole(tmp_path, name):
    frames, problem = verdict(tmp_path / "a", whole(name))
    assert not problem
    assert frames >= max(FRAMES, heard_by_ffmpeg(whole(name)) - tolerance(name))


def damages(content: bytes, r: random.Random) -> list[bytes]:
    """Return the content with bits flipped, bytes dropped, zeroed or added, and files one after another."""
    size, found = len(content), [content + content, content * 3]
    for _ in range(4):
        flipped = bytearray(content)
        flipped[r.choice([r.randrange(size), r.randrange(200)])] ^= 1 << r.randrange(8)
        found.append(bytes(flipped))
    at, length = r.randrange(size), r.randrange(1, 3000)
    found.append(content[:at] + content[at + length :])
    found.append(content[:at] + bytes(min(length, size - at)) + content[at + length :])
    found.append(content[:at] + r.randbytes(length) + content[at:])
    found += [content + r.randbytes(length), content + bytes(length), content + b"TAG" + bytes(125)]
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_of_a_damaged_file_all_is_played_that_ffmpeg_plays_or_nothing(tmp_path, name):
    """Run by hand with other SEEDs."""
    r = random.Random(name + os.environ.get("SEED", ""))
    for number, content in enumerate(damages(whole(name), r)):
        frames, problem = verdict(tmp_path / "a", content)
        assert problem or frames >= heard_by_ffmpeg(content) - tolerance(name), number


@pytest.mark.parametrize("name", FORMATS)
def test_a_cut_file_is_refused_unless_no_sound_is_missing(tmp_path, name):
    r = random.Random(name + os.environ.get("SEED", ""))
    content = whole(name)
    size = len(content)
    # An MP3 without a count that is cut between two frames is a shorter MP3: not in its middle, then.
    places = [1, size // 100, size // 2 + 3, size - 1, size - 250]
    places += [r.choice([r.randrange(1, size), size - r.randrange(1, 400)]) for _ in range(4)]
    for place in places:
        frames, problem = verdict(tmp_path / "a", content[:place])
        # A whole frame may be missing of an uncompressed file whose last bytes are filling.
        assert problem or frames >= FRAMES - (1 if "PCM" in name else 0), place


def test_random_bytes_after_a_known_beginning_raise_audio_errors_only(tmp_path):
    r = random.Random(0)
    for content in map(whole, FORMATS):
        for length in (4, 12, 40, 200):
            verdict(tmp_path / "a", content[:length] + r.randbytes(2000))


# ---- Files that are no files, names and texts


def test_files_that_are_not_there_or_not_files_are_refused_before_they_are_opened(
    tmp_path, monkeypatch
):
    os.mkfifo(tmp_path / "pipe.wav")  # opening it would wait for a writer
    monkeypatch.chdir(tmp_path)  # names of sockets must be short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.wav")
    (tmp_path / "dangling.wav").symlink_to(tmp_path / "nothing")
    for path in (tmp_path / "pipe.wav", tmp_path / "socket.wav", Path(os.devnull)):
        assert "not a regular file" in verdict(path)[1]
    with pytest.raises(AudioError, match="no such file"):
        audio.load(tmp_path / "missing.wav")
    with pytest.raises(AudioError, match="not a regular file"):
        audio.load(tmp_path / "dangling.wav")
    with pytest.raises(AudioError, match="directory"):
        audio.load(tmp_path)
    with pytest.raises(AudioError, match="not a path"):
        audio.load(7)


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = write(tmp_path / "a.flac", whole("FLAC PCM_16"))

    def refuse(*_: object, **__: object):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(AudioError, match=r"a\.flac: may not be read \(Permission denied\)"):
        audio.load(path)


NAMES = ("a", "a.wav", "a.mp3", "a.gsm", "a.vox", "a.raw", "a.au", "a.sds")


@pytest.mark.parametrize("name", ["WAV PCM_16", "MP3", "OGG VORBIS", "FLAC PCM_16"])
def test_the_same_bytes_give_the_same_result_under_any_name(tmp_path, name):
    expected = audio.load(write(tmp_path / "whole", whole(name)))
    for file in NAMES:
        np.testing.assert_array_equal(audio.load(write(tmp_path / file, whole(name))), expected)


@pytest.mark.parametrize("file", NAMES)
def test_files_that_are_no_audio(tmp_path, file):
    path = tmp_path / file
    assert "empty" in verdict(path, b"")[1]
    for content in (b"this is a text, not a sound\n" * 400, np.random.default_rng(0).bytes(8000)):
        with pytest.raises(AudioError, match="ffmpeg -i"):
            audio.load(write(path, content))
        assert verdict(path)[1]
        with pytest.raises(AudioError):
            audio.probe(path)


def test_zero_frames(tmp_path):
    for container in ("WAV", "AIFF", "W64", "AU", "CAF", "FLAC"):
        content = by_libsndfile(np.zeros((0, 2)), format=container)
        assert verdict(tmp_path / "a", content)[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("frame", [0, opening.BLOCK_FRAMES - 1, opening.BLOCK_FRAMES, 265_000])
def test_bad_samples_in_a_float_file_are_placed(tmp_path, value, frame):
    x = np.zeros((2 * opening.BLOCK_FRAMES + 4321, 2), np.float32)
    x[frame, 1] = value
    path = write(tmp_path / "a.wav", by_libsndfile(x, format="WAV", subtype="FLOAT"))
    with pytest.raises(AudioError, match=rf"a\.wav: .*{value} at sample {frame} of channel 1"):
        audio.load(path)


def test_a_double_beyond_float32_is_refused(tmp_path):
    content = by_libsndfile(np.array([0.0, 1e200]), format="WAV", subtype="DOUBLE")
    with pytest.raises(AudioError, match="at sample 1"):
        audio.load(write(tmp_path / "a.wav", content))
