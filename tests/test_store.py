"""The store on disk: what goes in comes out or is missing, whatever happens to the file."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmaupro_ext import store as store_module
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.store import Store

ROOT = Path(store_module.__file__).parents[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "store.sqlite"


def test_values_come_back_by_kind_and_key_in_this_and_the_next_process(path):
    store = Store(path)
    assert store.get("a", "x") is None
    assert not path.exists()  # asking makes no file
    store.put("a", "x", b"one")
    store.put_many("b", [("x", b"two"), ("\ud800", b""), ("x", b"three")])
    for reader in (store, Store(path)):
        assert (reader.get("a", "x"), reader.get("b", "x")) == (b"one", b"three")
        assert reader.get("b", "\ud800") == b""
        assert reader.get("a", "\ud800") is None
        assert (reader.count("a"), reader.count("b"), reader.count("c")) == (1, 2, 0)


def test_the_least_recently_used_of_the_same_kind_go_first(path, monkeypatch):
    now = [1_000_000.0]
    monkeypatch.setattr(store_module.time, "time", lambda: now[0])
    other = Store(path)
    other.put("verdict", "dear", bytes(1000))
    store = Store(path, max_bytes=100)
    for number in range(10):
        now[0] += 10_000
        store.put("embedding", str(number), bytes(10))
    now[0] += 10_000
    assert store.get("embedding", "0") is not None  # written first, used last
    now[0] += 10_000
    store.put("embedding", "new", bytes(10))
    kept = [key for key in (*map(str, range(10)), "new") if other.get("embedding", key) is not None]
    assert kept == ["0", *map(str, range(3, 10)), "new"]
    assert other.get("verdict", "dear") == bytes(1000)


def test_reading_writes_nothing_while_the_last_use_is_recent(path):
    store = Store(path, max_bytes=100)
    store.put("a", "x", b"one")
    before = path.stat().st_mtime_ns
    assert store.get("a", "x") == b"one"
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("column", ["value", "sha256"])
def test_an_entry_that_was_changed_is_missing_and_can_be_written_again(path, column, caplog):
    Store(path).put("a", "x", b"one")
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE entries SET {column} = X'00'")
    connection.close()
    store = Store(path)
    assert store.get("a", "x") is None
    assert "damaged" in caplog.text
    store.put("a", "x", b"one")
    assert store.get("a", "x") == b"one"


def test_a_damaged_store_is_set_aside_and_a_new_one_begun(path, caplog):
    Store(path).put_many("a", [(str(number), bytes(3000)) for number in range(100)])
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + bytes(len(whole) - 100))
    store = Store(path)
    assert store.get("a", "5") is None
    assert "a new one is begun" in caplog.text
    store.put("a", "5", b"again")
    assert Store(path).get("a", "5") == b"again"
    assert path.with_name("store.sqlite.damaged").exists()


@pytest.mark.parametrize("content", [b"grandmother's letters, which are no database", None])
def test_a_file_of_somebody_else_is_left_as_it_is(path, content):
    path.parent.mkdir()
    if content is None:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE letters (text TEXT)")
        connection.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    store = Store(path)
    store.put("a", "x", b"one")
    assert store.get("a", "x") is None
    assert store.problem() is not None
    assert path.read_bytes() == before


def test_a_place_that_cannot_be_written_costs_nothing_else(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "store.sqlite")
    for _ in range(3):
        store.put("a", "x", b"one")
        assert store.get("a", "x") is None
    assert store.count("a") == 0
    assert store.problem() is not None
    assert caplog.text.count("cannot be written") == 1
    assert Store(tmp_path / "other.sqlite").problem() is None


def test_a_full_disk_keeps_what_was_there(path, caplog):
    store = Store(path)
    store.put("a", "x", b"one")
    assert store._connection is not None
    store._connection.execute("PRAGMA max_page_count = 8")
    store.put_many("a", [("y", b"two"), ("z", bytes(1_000_000))])
    assert "full" in caplog.text
    assert (store.get("a", "x"), store.get("a", "y")) == (b"one", None)


def test_a_bound_must_be_positive(path):
    with pytest.raises(ConfigError, match="max_bytes"):
        Store(path, max_bytes=0)


WRITER = """
import sys
from mmaupro_ext.store import Store
store = Store(sys.argv[1])
for number in range(40):
    store.put("a", f"{sys.argv[2]}-{number}", sys.argv[2].encode())
"""


def test_several_processes_and_threads_write_at_the_same_time(path):
    command = [sys.executable, "-c", WRITER, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    writers = [subprocess.Popen([*command, str(name)], env=environment) for name in range(3)]
    store = Store(path)
    threads = [
        threading.Thread(
            target=lambda name=name: [store.put("b", f"{name}-{i}", b"t") for i in range(20)]
        )
        for name in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert (store.count("a"), store.count("b")) == (120, 60)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_uses_a_connection_of_its_own(path):
    store = Store(path)
    store.put("a", "parent", b"1")
    child = os.fork()
    if child == 0:
        inherited = store._connection
        store.put("a", "child", b"2")
        good = store.get("a", "parent") == b"1" and store._connection is not inherited
        os._exit(0 if good else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert store.get("a", "child") == b"2"
