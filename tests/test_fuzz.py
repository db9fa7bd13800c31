"""The search for files that readers fail on: it must be able to find one."""

from __future__ import annotations

import random

import pytest

import fuzz_files
from mmaupro_ext.audio import opening


def test_damaged_files_are_heard_or_refused_by_name(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fuzz_files, "FOLDER", tmp_path)
    fuzz_files.fuzz(1.0, seed=1)
    assert "refused by name" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_reader_that_fails_otherwise_is_found_and_its_file_kept(monkeypatch, tmp_path):
    judge = opening._judge

    def careless(source):
        if source.read(0, 4) == b"OggS" and len(source.all()) % 2:
            raise KeyError("a page")
        return judge(source)

    monkeypatch.setattr(fuzz_files, "FOLDER", tmp_path)
    monkeypatch.setattr(opening, "_judge", careless)
    with pytest.raises(KeyError, match="a page"):
        fuzz_files.fuzz(60.0, seed=1)
    assert (tmp_path / "input.wav").read_bytes().startswith(b"OggS")


def test_new_lines_of_the_readers_are_counted_once():
    coverage, seen = fuzz_files.Coverage(), []
    files = fuzz_files.seeds()
    assert len({content[:12] for content in files}) > 5
    assert all(fuzz_files.mutated(random.Random(n), files) not in files for n in range(20))
    for _ in range(2):
        with coverage, pytest.raises(opening.AudioError):
            opening.open_clip("nowhere.wav")
        seen.append(coverage.new)
    assert seen[0] > 0
    assert seen[1] == 0
