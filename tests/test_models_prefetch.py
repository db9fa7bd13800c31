"""Preparing ahead of the model: in order, within its bound, and gone when the run ends."""

import threading
import time

import pytest

from mmaupro_ext.models.prefetch import Prefetcher, default_workers


def prefetcher(items, prepare, *, size=lambda _: 1, workers=2, max_bytes=100, make=lambda: None):
    return Prefetcher(items, make, lambda _, item: prepare(item), size, workers, max_bytes)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_items_come_in_order_however_long_each_takes(workers):
    def prepare(item):
        time.sleep(0.002 * (7 - item))
        return item * 10

    with prefetcher(range(7), prepare, workers=workers) as ahead:
        taken = list(ahead.take(3)) + list(ahead.take(9))
    assert taken == [(item, item * 10) for item in range(7)]


@pytest.mark.parametrize("workers", [1, 3])
def test_no_more_is_prepared_than_the_bound_allows(workers):
    begun = []
    sizes = [4, 4, 4, 9, 2, 2, 30, 1]
    with prefetcher(
        range(len(sizes)), begun.append, size=sizes.__getitem__, workers=workers, max_bytes=10
    ) as ahead:
        taken = 0
        while taken < len(sizes):
            time.sleep(0.02)  # the threads do all that they may
            held = begun[taken:]
            assert len(held) == 1 or sum(sizes[item] for item in held) <= 10
            taken += len(list(ahead.take(1)))
        assert sorted(begun) == list(range(len(sizes)))


def test_an_item_larger_than_the_bound_is_prepared_alone():
    with prefetcher(range(3), lambda item: item, size=lambda _: 1000, max_bytes=10) as ahead:
        assert [item for item, _ in ahead.take(3)] == [0, 1, 2]


def test_without_workers_nothing_is_prepared_before_it_is_taken():
    begun = []
    with prefetcher(range(4), begun.append, workers=0) as ahead:
        for number, _ in enumerate(ahead.take(4), start=1):
            assert len(begun) == number


def test_each_thread_has_a_worker_of_its_own():
    made, used = [], set()

    def make():
        made.append(threading.get_ident())
        return object()

    def prepare(worker, _):
        time.sleep(0.01)
        used.add((threading.get_ident(), id(worker)))

    with Prefetcher(range(12), make, prepare, lambda _: 1, 3, 100) as ahead:
        list(ahead.take(12))
    assert len(made) == len(set(made)) <= 3
    assert len({thread for thread, _ in used}) == len(used)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_with_its_item_and_the_threads_end(workers):
    def prepare(item):
        if item == 2:
            raise RuntimeError("broken")
        return item

    taken = []

    def run():
        with prefetcher(range(50), prepare, workers=workers) as ahead:
            taken.extend(item for item, _ in ahead.take(50))

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="broken"):
        run()
    assert taken == [0, 1]
    assert threading.active_count() == before


def test_an_interrupted_run_does_not_prepare_the_rest():
    begun = []

    def prepare(item):
        begun.append(item)
        time.sleep(0.005)

    def run():
        with prefetcher(range(1000), prepare, workers=1, max_bytes=1000) as ahead:
            next(ahead.take(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert len(begun) < 20


def test_waiting_and_preparing_are_timed():
    with prefetcher(range(2), lambda _: time.sleep(0.05), workers=1) as ahead:
        list(ahead.take(2))
    assert ahead.prepared_s >= 0.1
    assert 0.09 <= ahead.waited_s <= ahead.prepared_s + 0.05


def test_one_processor_is_left_to_the_model():
    assert 1 <= default_workers() <= 8
