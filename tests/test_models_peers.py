"""Processes of a run that watch each other: silence ends them, a part that is done does not."""

from __future__ import annotations

import time

import pytest
from torch.distributed import TCPStore

from mmaupro_ext.models.hf import peers
from mmaupro_ext.models.hf.peers import LostProcessError, Peers


@pytest.fixture
def ended(monkeypatch):
    """Which processes gave up, where they would have ended; the seconds of the watch are short ones."""
    ended = []
    store = TCPStore("127.0.0.1", 0, is_master=True)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(store.port))
    monkeypatch.setattr(peers, "BEAT_S", 0.02)
    monkeypatch.setattr(peers, "SILENT_S", 1.0)

    monkeypatch.setattr(peers.os, "_exit", ended.append)
    yield ended
    del store


def until(condition):
    for _ in range(1_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came")


def test_a_process_that_falls_silent_ends_the_others_by_its_name(ended, capsys):
    first, second, third = (Peers(rank, 3) for rank in range(3))
    until(lambda: first._names.keys() == {1, 2})
    second.leave(failed=True)  # as if killed: it says nothing in the end
    until(lambda: len(ended) == 2)
    assert ended == [2, 2]
    said = capsys.readouterr().err
    assert "process 1 of 3 (" in said
    assert "pid" in said
    assert "start the same command again on all nodes" in said
    assert "process 2 of 3 (" not in said
    for one in (third, first):
        one.leave(failed=False)


def test_who_has_done_its_part_is_not_missed(ended):
    first, second = Peers(0, 2), Peers(1, 2)
    second.leave(failed=False)
    until(lambda: first._beats == {1: -1})
    time.sleep(1.5 * peers.SILENT_S)  # rank 0 writes the results meanwhile
    first.leave(failed=False)
    assert ended == []


def test_who_leaves_first_waits_until_the_others_know(ended):
    first, second = Peers(0, 2), Peers(1, 2)
    first.leave(failed=False)
    until(second._stop.is_set)  # the store is gone with the first: nobody is to be missed any more
    time.sleep(1.5 * peers.SILENT_S)
    second.leave(failed=False)
    assert ended == []


def test_a_meeting_that_fails_is_a_sentence(ended):
    def meet(process):
        with process.meeting():
            raise RuntimeError("Connection closed by peer\nand a stack")

    first = Peers(0, 2)
    with pytest.raises(LostProcessError, match=r"process 0 of 2 could not.*closed by peer\)"):
        meet(first)
    first.leave(failed=True)
