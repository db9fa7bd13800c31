"""libmpg123's remarks stay off the terminal, and nothing else does."""

from __future__ import annotations

import contextlib
import ctypes
import io
import logging
import os
import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

import fuzz_files
from mmaupro_ext import audio
from mmaupro_ext.audio.whole import mpeg as quiet
from mmaupro_ext.errors import AudioError

pytestmark = pytest.mark.skipif(
    isinstance(quiet._diversion(), contextlib.nullcontext), reason="not glibc"
)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory):
    """MP3 files whose frames begin with nonsense, on which libmpg123 remarks."""
    content = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal((24_000, 1))
    soundfile.write(content, noise, 48_000, format="MP3", subtype="MPEG_LAYER_III")
    folder, paths = tmp_path_factory.mktemp("mp3"), []
    for seed in range(8):
        r, changed = random.Random(seed), bytearray(content.getvalue())
        for frame in range(1000, len(changed) - 40):
            if changed[frame] == 0xFF and changed[frame + 1] >= 0xE0:
                changed[frame + 4 : frame + 36] = r.randbytes(32)
        paths.append(folder / f"{seed}.mp3")
        paths[-1].write_bytes(changed)
    return paths


def hear(path):
    with contextlib.suppress(AudioError):
        audio.load(path, None)


def c_prints(text):
    """Print as a C library does: through whatever stream its `stderr` is."""
    libc = ctypes.CDLL(None)
    stream = ctypes.c_void_p.in_dll(libc, "stderr")
    libc.fputs(text.encode(), ctypes.c_void_p(stream.value))


def test_remarks_go_to_the_log(damaged, capfd, caplog):
    for path in damaged:
        soundfile.read(path)
    assert "libmpg123" in capfd.readouterr().err  # without us
    with caplog.at_level(logging.DEBUG):
        for path in damaged:
            hear(path)
    assert capfd.readouterr().err == ""
    assert "libmpg123" in caplog.text


def test_no_other_message_is_lost_changed_or_said_twice(damaged, capfd):
    """Four threads decode while others write, by C, by Python and to the descriptor."""
    count = 400

    def decode(_):
        for path in damaged * 5:
            hear(path)

    def write(kind):
        for number in range(count):
            text = f"{kind} {number}: Warning: mind the step\n"
            if kind == "C":
                c_prints(text)
            elif kind == "Python":
                print(text, end="", file=sys.stderr, flush=True)
            else:
                os.write(2, text.encode())

    with ThreadPoolExecutor(7) as pool:
        list(pool.map(lambda job: job[0](job[1]), [(decode, n) for n in range(4)] + [
            (write, kind) for kind in ("C", "Python", "descriptor")
        ]))  # fmt: skip
    c_prints("C at last\n")
    lines = sorted(capfd.readouterr().err.splitlines())
    expected = [
        f"{k} {n}: Warning: mind the step"
        for k in ("C", "Python", "descriptor")
        for n in range(count)
    ]
    assert lines == sorted([*expected, "C at last"])


def test_a_message_in_parts_comes_whole(damaged, capfd):
    with quiet.without_remarks():
        c_prints("half a ")
        with quiet.without_remarks():
            c_prints("Note: Trying to ")
        c_prints("message\n\nand another\n")
        c_prints("\nNote: Trying to resync...\n")
    assert capfd.readouterr().err == "half a Note: Trying to message\n\nand another\n"


def test_damaged_mp3s_say_nothing_on_the_terminal(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(fuzz_files, "KINDS", (("MP3", "MPEG_LAYER_III", 1),))
    monkeypatch.setattr(fuzz_files, "FOLDER", tmp_path)
    fuzz_files.fuzz(2.0, seed=2)
    assert capfd.readouterr().err == ""
