"""The cache of decoded audio: never other samples than without it, whatever happens to it."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmaupro_ext import audio
from mmaupro_ext.audio import cache as cache_module
from mmaupro_ext.audio import decoding
from mmaupro_ext.errors import AudioError, ConfigError

RATE = 44100


@pytest.fixture
def clip(tmp_path) -> Path:
    return write(tmp_path / "clip.flac", 0)


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """Return the list to which the name of each decoded file is added."""
    names: list[str] = []
    load = decoding._load

    def counted(name, *arguments):
        names.append(name)
        return load(name, *arguments)

    monkeypatch.setattr(decoding, "_load", counted)
    return names


def write(path: Path, seed: int, frames: int = 20_000) -> Path:
    x = np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, 2))
    soundfile.write(path, x, RATE)
    return path


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.audio"))


def assert_same_bits(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype == np.float32
    np.testing.assert_array_equal(a.view(np.uint32), b.view(np.uint32))


# ---- Hits and misses


@pytest.mark.parametrize("rate", [16000, 8000, None])
@pytest.mark.parametrize("channels", ["mono", "keep"])
@pytest.mark.parametrize("resampler", ["native", "soxr"])
def test_cached_samples_are_the_same_bits(tmp_path, clip, decoded, rate, channels, resampler):
    expected = audio.load(clip, rate, channels, resampler=resampler)
    for _ in range(3):
        found = audio.load(clip, rate, channels, resampler=resampler, cache=tmp_path / "cache")
        assert_same_bits(found, expected)
        found[...] = 0  # the caller's own: the next one must not see this
    assert len(decoded) == 2  # without the cache, and into it


def test_each_way_of_loading_has_its_own_entry(tmp_path, clip):
    folder = tmp_path / "cache"
    for rate in (16000, 8000, None):
        for channels in ("mono", "keep"):
            for resampler in ("native", "soxr"):
                audio.load(clip, rate, channels, resampler=resampler, cache=folder)
    assert len(entries(folder)) == 12


def test_each_core_has_its_own_entry(core, tmp_path, clip, monkeypatch):
    """Cores differ in the last bit, and a result must not depend on who filled the cache."""
    audio.load(clip, cache=tmp_path / "cache")
    before = entries(tmp_path / "cache")
    other = ("c", "scalar") if core != "c-scalar" else ("numba", "auto")
    monkeypatch.setenv("MMAUPRO_NATIVE", other[0])
    monkeypatch.setenv("MMAUPRO_SIMD", other[1])
    expected = audio.load(clip)
    assert_same_bits(audio.load(clip, cache=tmp_path / "cache"), expected)
    assert len(entries(tmp_path / "cache")) == len(before) + 1


@pytest.mark.parametrize(("name", "kept"), [("a.wav", False), ("a.aiff", False), ("a.mp3", True)])
def test_only_what_takes_long_to_decode_is_kept(tmp_path, name, kept):
    path, folder = write(tmp_path / name, 0), tmp_path / "cache"
    for rate in (16000, None):
        assert_same_bits(audio.load(path, rate, cache=folder), audio.load(path, rate))
    assert len(entries(folder)) == (2 if kept else 0)
    audio.load(path, resampler="soxr", cache=folder)
    assert len(entries(folder)) == (3 if kept else 1)


def test_another_version_does_not_read_old_entries(tmp_path, clip, decoded, monkeypatch):
    audio.load(clip, cache=tmp_path / "cache")
    monkeypatch.setattr("mmaupro_ext.__version__", "999")
    audio.load(clip, cache=tmp_path / "cache")
    assert len(decoded) == 2


def test_content_counts_and_not_the_name(tmp_path, clip, decoded):
    folder = tmp_path / "cache"
    audio.load(clip, cache=folder)
    twin = tmp_path / "twin.bin"
    shutil.copy(clip, twin)
    audio.load(twin, cache=folder)
    assert decoded == [str(clip)]
    status = clip.stat()
    other = write(tmp_path / "other.flac", 1)
    shutil.copy(other, clip)
    os.utime(clip, ns=(status.st_atime_ns, status.st_mtime_ns))  # a change that hides itself
    assert_same_bits(audio.load(clip, cache=folder), audio.load(other))


def test_file_that_changes_while_it_is_decoded_is_not_kept(tmp_path, clip, monkeypatch):
    load = decoding._load

    def changed_meanwhile(name, *arguments):
        write(clip, 1, 10_000)
        return load(name, *arguments)

    monkeypatch.setattr(decoding, "_load", changed_meanwhile)
    audio.load(clip, cache=tmp_path / "cache")
    assert entries(tmp_path / "cache") == []


def test_broken_files_raise_as_without_a_cache_and_leave_no_entry(tmp_path, clip):
    clip.write_bytes(clip.read_bytes()[:5000])
    for path in (clip, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioError) as without:
            audio.load(path)
        for _ in range(2):
            with pytest.raises(AudioError) as within:
                audio.load(path, cache=tmp_path / "cache")
            assert str(within.value) == str(without.value)
    assert not (tmp_path / "cache").exists() or entries(tmp_path / "cache") == []


# ---- Damage


def damage(data: bytes, kind: str) -> bytes:
    head = cache_module.HEAD.size
    first_sample = head + cache_module.HEAD.unpack(data[:head])[1]
    place = {"head": 9, "text": head, "first sample": first_sample, "last bit": len(data) - 1}
    if kind in place:
        at = place[kind]
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
    return {
        "empty": b"",
        "cut": data[:-4],
        "longer": data + b"\0" * 4,
        "cut head": data[:10],
        "zeros": bytes(len(data)),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["head", "text", "first sample", "last bit", "empty", "cut", "longer", "cut head", "zeros"],
)
def test_damaged_entry_is_found_and_made_anew(tmp_path, clip, decoded, caplog, kind):
    folder = tmp_path / "cache"
    expected = audio.load(clip, cache=folder)
    (entry,) = entries(folder)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole, kind))
    with caplog.at_level(logging.WARNING):
        assert_same_bits(audio.load(clip, cache=folder), expected)
    assert "damaged" in caplog.text
    assert entry.name in caplog.text
    assert len(decoded) == 2
    assert entry.read_bytes() == whole
    audio.load(clip, cache=folder)
    assert len(decoded) == 2


def test_entry_of_another_file_under_its_name_is_not_believed(tmp_path, clip):
    folder = tmp_path / "cache"
    expected = audio.load(clip, cache=folder)
    (entry,) = entries(folder)
    audio.load(write(tmp_path / "other.flac", 1), cache=folder)
    (other,) = set(entries(folder)) - {entry}
    shutil.copy(other, entry)
    assert_same_bits(audio.load(clip, cache=folder), expected)


# ---- Bound


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def test_bound_is_kept_and_what_was_used_last_stays(tmp_path, decoded):
    clips = [write(tmp_path / f"{i}.flac", i) for i in range(12)]
    size = 4 * len(audio.load(clips[0], None))
    cache = audio.AudioCache(tmp_path / "cache", max_bytes=6 * size)
    for clip in clips:
        audio.load(clips[0], None, cache=cache)  # again and again
        audio.load(clip, None, cache=cache)
        assert used(tmp_path / "cache") <= cache.max_bytes
    assert len(entries(tmp_path / "cache")) >= 4
    decoded.clear()
    audio.load(clips[0], None, cache=cache)
    audio.load(clips[-1], None, cache=cache)
    assert decoded == []
    audio.load(clips[1], None, cache=cache)
    assert decoded == [str(clips[1])]


def test_entry_larger_than_the_bound_is_not_kept(tmp_path, clip):
    cache = audio.AudioCache(tmp_path / "cache", max_bytes=1000)
    assert_same_bits(audio.load(clip, cache=cache), audio.load(clip))
    assert list((tmp_path / "cache").iterdir()) == []


def test_what_a_killed_writer_left_is_cleared_away(tmp_path, clip):
    folder = tmp_path / "cache"
    folder.mkdir()
    left, fresh, foreign = (folder / name for name in ("old.part", "new.part", "notes.txt"))
    for path in (left, fresh, foreign):
        path.write_bytes(b"abc")
    long_ago = time.time() - 2 * cache_module.ABANDONED_AFTER
    os.utime(left, (long_ago, long_ago))
    os.utime(foreign, (long_ago, long_ago))
    audio.load(clip, cache=audio.AudioCache(folder))
    assert not left.exists()
    assert fresh.exists()
    assert foreign.exists()


# ---- Processes, and folders that cannot be written

LOAD_ALL = """
import sys
from mmaupro_ext import audio
from mmaupro_ext.audio import decoding
decoded = []
load = decoding._load
decoding._load = lambda name, *rest: decoded.append(name) or load(name, *rest)
cache = audio.AudioCache(sys.argv[1], max_bytes=int(sys.argv[2]))
for _ in range(3):
    for path in sys.argv[3:]:
        without = load(path, 16000, "mono", "native")
        assert (audio.load(path, cache=cache) == without).all()
print(len(decoded))
"""


@pytest.mark.parametrize("room", [100.0, 5.0])
def test_processes_share_a_folder(tmp_path, room):
    clips = [write(tmp_path / f"{i}.flac", i) for i in range(10)]
    bound = int(room * 4 * len(audio.load(clips[0])))
    folder = tmp_path / "cache"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", LOAD_ALL, folder, str(bound), *clips],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    decoded = []
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert err == ""
        decoded.append(int(out))
    assert used(folder) <= bound
    assert list(folder.glob("*.part")) == []
    if room == 100.0:
        assert len(entries(folder)) == 10
        assert max(decoded) <= 10


@pytest.fixture
def read_only(tmp_path, monkeypatch):
    """Return a function that makes a folder read-only, for root too."""

    def make(folder: Path) -> None:
        folder.chmod(0o555)
        if os.access(folder, os.W_OK):  # root may write nevertheless

            def refuse(*arguments, **options):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))

            for module, name in ((cache_module.tempfile, "mkstemp"), (os, "utime")):
                monkeypatch.setattr(module, name, refuse)

    yield make
    if (tmp_path / "cache").exists():
        (tmp_path / "cache").chmod(0o755)


def test_read_only_folder_is_read_and_said_once(tmp_path, clip, decoded, caplog, read_only):
    folder = tmp_path / "cache"
    expected = audio.load(clip, cache=folder)
    other = write(tmp_path / "other.flac", 1)
    read_only(folder)
    cache = audio.AudioCache(folder)
    with caplog.at_level(logging.WARNING):
        assert_same_bits(audio.load(clip, cache=cache), expected)
        assert decoded == [str(clip)]
        for _ in range(2):
            assert_same_bits(audio.load(other, cache=cache), audio.load(other))
    assert caplog.text.count("takes no entries") == 1
    assert len(entries(folder)) == 1


def test_full_disk_leaves_no_part(tmp_path, clip, monkeypatch, caplog):
    def full(file, *arguments):
        file.write(b"some bytes")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cache_module, "_write", full)
    expected = audio.load(clip)
    assert_same_bits(audio.load(clip, cache=tmp_path / "cache"), expected)
    assert list((tmp_path / "cache").iterdir()) == []
    assert "No space left" in caplog.text


def test_folder_that_is_none_is_refused(tmp_path, clip):
    with pytest.raises(ConfigError, match=r"clip\.flac cannot be made"):
        audio.load(clip, cache=clip)
    for bound in (0, -1, True, 1e9, "1"):
        with pytest.raises(ConfigError, match="max_bytes"):
            audio.AudioCache(tmp_path / "cache", max_bytes=bound)
