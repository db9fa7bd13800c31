"""Audio that is no file of its own: bytes, open files, parts, and what hub datasets yield."""

from __future__ import annotations

import io
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import AudioReader
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.models.journal_lines import digest_of_request
from mmaupro_ext.models.media import media_of

RATE = 44100


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """The same two seconds in stereo, in four formats."""
    folder = tmp_path_factory.mktemp("clips")
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (2 * RATE, 2))
    for suffix, subtype in (
        ("wav", "PCM_16"),
        ("flac", "PCM_16"),
        ("mp3", None),
        ("ogg", "VORBIS"),
    ):
        soundfile.write(folder / f"a.{suffix}", sound, RATE, subtype=subtype)
    return folder


FORMATS = ("wav", "flac", "mp3", "ogg")


@pytest.mark.parametrize("suffix", FORMATS)
def test_bytes_and_open_files_give_the_samples_of_the_file(clips, suffix):
    path = clips / f"a.{suffix}"
    expected, content = audio.load(path), path.read_bytes()
    with path.open("rb") as file:
        for source in (content, bytearray(content), memoryview(content), io.BytesIO(content), file):
            np.testing.assert_array_equal(audio.load(source), expected)
        assert not file.closed
    np.testing.assert_array_equal(np.concatenate(list(audio.stream(content))), expected)
    info = audio.probe(io.BytesIO(content))
    assert (info.frames, info.channels) == (audio.probe(path).frames, 2)
    assert info.path == f"audio in memory ({len(content)} bytes)"


def test_an_open_file_is_read_from_where_it_stands(clips):
    content = (clips / "a.wav").read_bytes()
    file = io.BytesIO(b"something else" + content)
    file.seek(len(b"something else"))
    np.testing.assert_array_equal(audio.load(file), audio.load(content))
    with pytest.raises(AudioError, match=r"is empty .* seek\(0\)"):
        audio.load(file)


def test_bytes_that_are_cut_or_no_audio_are_refused_without_being_printed(clips):
    content = (clips / "a.wav").read_bytes()
    for bad, problem in (
        (content[:-1000], "is cut short"),
        (b"no sound at all " * 1000, "is not audio of a kind that can be read"),
        (b"", "is empty"),
        (io.StringIO("text"), 'Open it with mode "rb"'),
        ([content], "is not a path"),
    ):
        with pytest.raises(AudioError, match=problem) as caught:
            audio.load(bad)
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", ["mono", "keep"])
def test_a_part_is_that_of_the_whole_bit_for_bit(clips, suffix, channels):
    path = clips / f"a.{suffix}"
    for rate in (16000, None):
        whole = audio.load(path, rate, channels)
        target = rate or RATE
        for offset, duration in ((0, 0.5), (0.25, None), (0.7, 0.3), (1.9, 5), (0, 1e-9)):
            start = round(offset * target)
            end = None if duration is None else start + round(duration * target)
            if end == start:
                continue
            part = audio.load(path, rate, channels, offset=offset, duration=duration)
            np.testing.assert_array_equal(part, whole[..., start:end])


def test_a_part_behind_the_end_and_times_that_are_none_are_refused(clips):
    path = clips / "a.wav"
    with pytest.raises(AudioError, match="has nothing from offset=2 s on. The file has 2 s"):
        audio.load(path, offset=2)
    for given in ({"offset": -1}, {"offset": "1"}, {"duration": float("nan")}, {"duration": 0}):
        with pytest.raises(ConfigError, match=next(iter(given))):
            audio.load(path, **given)


# ---- what doc_to_audio may return


@pytest.fixture
def reader():
    return AudioReader(16000, "native", 2**20)


def test_every_form_of_a_reference_gives_the_same_samples(clips, reader):
    path = clips / "a.wav"
    expected = audio.load(path)
    frames, rate = soundfile.read(path, dtype="int16")
    floats = frames.T.astype(np.float32) / 2**15
    lazily = SimpleNamespace(_hf_encoded={"path": "a.wav", "bytes": path.read_bytes()})
    (stored,) = media_of(("", {}, {"audio": [lazily]}))["audio"]
    sound = SimpleNamespace(data=SimpleNamespace(numpy=lambda: floats), sample_rate=rate)
    decoder = SimpleNamespace(
        get_all_samples=lambda: sound, metadata=SimpleNamespace(duration_seconds=2.0)
    )
    for reference in (
        str(path),
        path,
        {"path": str(path)},
        {"bytes": path.read_bytes(), "path": None},
        stored,
        {"array": floats, "sampling_rate": rate},
        {"array": frames.T, "sampling_rate": rate},  # int16 is PCM here, too
        {"array": floats.mean(0), "sampling_rate": rate},
        decoder,
    ):
        # 1e-6: the mean of two channels, before or after they are float32
        np.testing.assert_allclose(reader.read(reference).samples, expected, atol=1e-6)
        assert reader.stated(reference) == (2.0, 1)


def test_bytes_are_decoded_once_and_keep_the_name_that_they_had(clips, reader):
    content = (clips / "a.flac").read_bytes()
    first = reader.read({"bytes": content, "path": "train/a.flac"})
    assert reader.read({"bytes": bytes(bytearray(content)), "path": "train/a.flac"}) is first
    assert (reader.decoded, first.info.path) == (1, "train/a.flac")
    with pytest.raises(AudioError, match=r"^train/a\.flac: "):
        reader.read({"bytes": content[:-500], "path": "train/a.flac"})


def test_two_channels_of_an_array_stay_apart_where_the_model_hears_both():
    reader = AudioReader(16000, "native", 2**20, "apart")
    reference = {"array": np.zeros((2, 1600), np.float32), "sampling_rate": 16000}
    assert reader.read(reference).samples.shape == (2, 1600)
    assert reader.stated(reference) == (0.1, 2)


def test_the_journal_tells_clips_in_memory_apart_by_their_content(clips):
    def key(content):
        lazily = SimpleNamespace(_hf_encoded={"path": "a.wav", "bytes": content})
        return digest_of_request("generate_until", ("What?", {}, {"audio": [lazily]}))

    assert key(b"one") == key(b"one") != key(b"two")
    assert key(b"one") is not None


def test_errors_of_clips_in_memory_survive_the_way_between_processes(clips):
    with pytest.raises(AudioError) as caught:
        audio.load((clips / "a.wav").read_bytes()[:-10])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
