"""Files that FFmpeg decodes, with the extra `media`: whole, or an error."""

from __future__ import annotations

import functools
import io
import random
import sys

import av
import numpy as np
import pytest
from sounds import by_ffmpeg, heard_by_ffmpeg, sound

from mmaupro_ext import audio
from mmaupro_ext.data import clips
from mmaupro_ext.errors import AudioError

KINDS = {
    "m4a": ("aac", "mp4", 44100),
    "aac": ("aac", "adts", 44100),
    "webm": ("libopus", "webm", 48000),
    "wma": ("wmav2", "asf", 44100),
    "oga": ("flac", "ogg", 44100),
    "mov": ("pcm_s16le", "mov", 44100),
}
# The longest frames of these codecs; encoders fill the last one, and begin with one of silence.
FRAME = 2048


@functools.cache
def whole(kind: str) -> bytes:
    codec, container, rate = KINDS[kind]
    return by_ffmpeg(sound(2.0, rate), codec, container, rate, 128000)


@pytest.mark.parametrize("kind", KINDS)
def test_what_ffmpeg_plays_reaches_us_whole(tmp_path, kind):
    path = tmp_path / "a"
    path.write_bytes(whole(kind))
    found = audio.decode(path, None, "keep")
    rate = KINDS[kind][2]
    assert (found.info.sampling_rate, found.info.channels) == (rate, 2)
    assert found.info.frames == found.samples.shape[1] == heard_by_ffmpeg(whole(kind))
    assert found.info.frames >= 2 * rate - FRAME
    assert clips.measure(path)["frames"] == found.info.frames
    joined = np.concatenate(list(audio.stream(path, None, "keep", block_s=0.3)), axis=1)
    np.testing.assert_array_equal(joined, found.samples)
    with av.open(io.BytesIO(whole(kind))) as file:
        convert = av.AudioResampler(format="flt")
        frames = [part for frame in file.decode(audio=0) for part in convert.resample(frame)]
        theirs = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in frames])
    np.testing.assert_array_equal(found.samples, theirs.T)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file_is_refused_unless_no_sound_is_missing(tmp_path, kind):
    path, r = tmp_path / "a", random.Random(kind)
    length = heard_by_ffmpeg(whole(kind))
    for share in (0.1, 0.5, *(r.random() for _ in range(8))):
        path.write_bytes(whole(kind)[: round(share * len(whole(kind)))])
        problem = clips.measure(path).get("problem")
        if problem is None:  # the index behind the sound may be cut
            assert audio.decode(path, None).info.frames >= length - FRAME
        else:
            with pytest.raises(AudioError) as caught:
                audio.load(path)
            assert caught.value.problem == problem


def test_the_last_frame_of_aac_must_be_all_there(tmp_path):
    (tmp_path / "a.aac").write_bytes(whole("aac")[:-5])
    with pytest.raises(AudioError, match="ends inside AAC frame"):
        audio.load(tmp_path / "a.aac")
    (tmp_path / "a.aac").write_bytes(whole("aac") + b"x" * 50)
    with pytest.raises(AudioError, match="50 bytes after AAC frame"):
        audio.load(tmp_path / "a.aac")


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.m4a").write_bytes(whole("m4a"))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(AudioError, match=r"a\.m4a: is MP4, which needs PyAV.*mmaupro-ext\[media\]"):
        audio.load(tmp_path / "a.m4a")


def test_what_is_no_sound_inside_is_refused_by_name(tmp_path):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42" + bytes(4000))
    with pytest.raises(AudioError, match=r"a\.m4a: .*ffmpeg -i"):
        audio.load(path)
