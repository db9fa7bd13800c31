"""openai-audio under conditions: that a server gets the altered sound, sample for sample."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from listening_server import Listener, sound_of, sounds_of
from server_requests import RATE, ask, model, request

from mmaupro_ext import audio
from mmaupro_ext.audio.altering import altered
from mmaupro_ext.data import conditions

ALTERED = [name for name in conditions.CONDITIONS if conditions.alters_sound(name)]


def told_under(name):
    """Return what a reference to a clip says under a condition; of fragments the second of three."""
    doc = {"id": "q", "condition": {"name": name, "part": 2, "of": 3}}
    return conditions.sound_of(doc, 0)


def received(server):
    """Return the sounds of the one question that was asked, int16 of shape (channels, samples)."""
    (body,) = server.asked
    files = [io.BytesIO(sound_of(part)[1]) for part in sounds_of(body)]
    return [soundfile.read(file, dtype="int16", always_2d=True)[0].T for file in files]


@pytest.mark.parametrize("channels", ["mono", "stereo", "stereo-as-two"])
@pytest.mark.parametrize("name", ALTERED)
def test_what_arrives_is_the_altered_sound_and_its_length_is_stated(clip, name, channels):
    # As loud as these are, noise of their level goes beyond full scale, where it is cut.
    path, samples = clip("a.wav", 30.5 if name == "first-30s" else 1.0, channels=2)
    told = told_under(name)
    with Listener() as server:
        lm = model(server, channels=channels, long_audio="native", send="flac")
        (reply,) = ask(lm, request("<audio>\nWhere?", {"path": path, "condition": told}))
    real = audio.load(path, sampling_rate=RATE) if channels == "mono" else samples.T / 32768
    wanted = np.atleast_2d(altered(np.float32(real), RATE, told))
    wanted = np.clip(np.rint(wanted * np.float32(32768)), -32768, 32767).astype(np.int16)
    found = np.concatenate(received(server))
    np.testing.assert_array_equal(found, wanted)
    assert name != "noise" or np.abs(wanted).max() >= 32767
    assert name in ("mono", "reversed") or not np.array_equal(found, np.atleast_2d(samples.T))
    assert reply.heard["seconds_heard"] == pytest.approx(wanted.shape[-1] / RATE, abs=1e-3)
    assert reply.heard["clips"][0]["condition"]


def test_what_is_asked_once_more_is_sent_as_before(clip):
    """As the file that it is: else a repeat would tell what another rate and one channel change."""
    path, _ = clip("a.flac", 1.0, rate=44_100, channels=2)
    with Listener() as server:
        lm = model(server, send="original", audio_format="input_audio")
        again = {"path": path, "condition": told_under("repeat")}
        first, second = ask(lm, request("<audio>?", path), request("<audio>?", again))
    one, other = (sound_of(sounds_of(body)[0]) for body in server.asked)
    assert one == other
    assert [reply.heard["clips"][0].get("untouched") for reply in (first, second)] == [True, True]
