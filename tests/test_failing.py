"""What an exception costs: how a batch falls apart, and when failures alike end a run."""

from __future__ import annotations

import pytest
import torch

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.failing import ALIKE, Failed, Streak, in_parts, is_out_of_memory


def no_memory_on_the_cpu():
    # 64 TiB: no machine gives a process so much.
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 46)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        torch.OutOfMemoryError("XPU out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.94 GB, other: 29.00 MB)"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("level_zero backend failed with error: UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"),
        RuntimeError("level_zero backend failed with error: 40 (UR_RESULT_ERROR_OUT_OF_RESOURCES)"),
    ],
    ids=str,
)
def test_memory_that_runs_out_is_known_on_every_device(error):
    assert is_out_of_memory(error)


def test_memory_that_runs_out_is_known_from_the_allocator_of_this_machine():
    assert is_out_of_memory(no_memory_on_the_cpu())


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("The size of tensor a (750) must match the size of tensor b (751)"),
        ValueError("a memory of its own"),
        ValueError("the clip runs out of memory lane"),
    ],
    ids=str,
)
def test_other_errors_are_not_taken_for_it(error):
    assert not is_out_of_memory(error)


def test_a_failure_is_one_short_line_with_its_type():
    assert Failed.of(TypeError("a\n  b\tc")).problem == "TypeError: a b c"
    assert Failed.of(AssertionError()).problem == "AssertionError"
    assert len(Failed.of(ValueError("x" * 10_000)).problem) < 400


def run(tried, error, is_bad):
    def forward(batch):
        tried.append(list(batch))
        if is_bad(batch):
            raise error
        return [10 * entry for entry in batch]

    return forward


def test_a_batch_with_a_bad_item_is_run_item_by_item():
    tried = []
    bad = run(tried, ValueError("no"), lambda batch: 3 in batch)
    results, together = in_parts([1, 2, 3, 4], bad)
    assert results == [10, 20, Failed("ValueError: no"), 40]
    assert tried == [[1, 2, 3, 4], [1], [2], [3], [4]]
    assert together == 4


def test_a_batch_beyond_memory_is_halved_and_stays_so():
    tried = []
    results, together = in_parts(
        list(range(8)), run(tried, MemoryError(), lambda batch: len(batch) > 2)
    )
    assert results == [10 * entry for entry in range(8)]
    assert [len(batch) for batch in tried] == [8, 4, 2, 2, 2, 2]
    assert together == 2


def test_an_error_about_the_whole_run_is_none_of_an_item():
    with pytest.raises(ConfigError):
        in_parts([1, 2], run([], ConfigError("backend"), lambda batch: True))


def test_failures_alike_are_counted_without_their_numbers():
    streak = Streak("the model", "Do this.")
    for number in range(ALIKE - 1):
        streak.add(Failed(f"RuntimeError: size {number}"))
    with pytest.raises(ConfigError, match=r"the model fails on 20 items.*size 7\).*Do this\."):
        streak.add(Failed("RuntimeError: size 7"))


@pytest.mark.parametrize("between", ["served", "another"])
def test_a_streak_ends_with_an_item_served_or_with_another_error(between):
    streak = Streak("the model", "Do this.")
    for _ in range(5):
        for _ in range(ALIKE - 1):
            streak.add(Failed("RuntimeError: a"))
        if between == "served":
            streak.end()
        else:
            streak.add(Failed("RuntimeError: b"))


def test_items_too_long_for_the_memory_end_no_run():
    """They come first: the shorter ones after them may fit."""
    streak = Streak("the model", "Do this.")
    for _ in range(3 * ALIKE):
        streak.add(Failed("OutOfMemoryError: 2 GiB", out_of_memory=True))
