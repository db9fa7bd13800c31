"""Cutting into windows: sample arithmetic, tails, views."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmaupro_ext import audio
from mmaupro_ext.audio.windowing import spans
from mmaupro_ext.errors import AudioError, ConfigError
from mmaupro_ext.models.windows import balanced_spans

RATE = 16000


def ramp(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float32)


@pytest.mark.parametrize(
    ("n", "lengths"),
    [
        (1, [1]),
        (RATE - 1, [RATE - 1]),
        (RATE, [RATE]),
        (RATE + 1, [RATE, 1]),
        (2 * RATE, [RATE, RATE]),
        (2 * RATE + 1, [RATE, RATE, 1]),
    ],
)
def test_tails_around_the_length_of_a_window(n, lengths):
    kept = audio.windows(ramp(n), RATE, 1.0)
    assert [len(w) for w in kept] == lengths
    np.testing.assert_array_equal(np.concatenate(kept), ramp(n))

    padded = audio.windows(ramp(n), RATE, 1.0, tail="pad")
    assert [len(w) for w in padded] == [RATE] * len(lengths)
    np.testing.assert_array_equal(np.concatenate(padded)[:n], ramp(n))
    assert not np.concatenate(padded)[n:].any()

    dropped = audio.windows(ramp(n), RATE, 1.0, tail="drop")
    assert [len(w) for w in dropped] == [m for m in lengths if m == RATE]


def test_overlap_ends_with_the_window_that_reaches_the_end():
    starts = [w[0] for w in audio.windows(ramp(100), 10, 4.0, 2.0)]
    assert starts == [0, 20, 40, 60]
    starts = [w[0] for w in audio.windows(ramp(101), 10, 4.0, 2.0)]
    assert starts == [0, 20, 40, 60, 80]


def test_a_longer_hop_leaves_gaps():
    found = audio.windows(ramp(100), 10, 1.0, 4.0)
    assert [(w[0], len(w)) for w in found] == [(0, 10), (40, 10), (80, 10)]


def test_durations_mean_what_their_decimals_say():
    """0.1 * 44100 is 4410.000000000001 in binary; 0.29 * 100 is 28.999999999999996."""
    assert len(audio.windows(ramp(44100), 44100, 0.1)) == 10
    assert len(audio.windows(ramp(100), 100, 0.29)[0]) == 29


def test_hops_of_a_fraction_of_a_sample_do_not_drift():
    starts = np.array([w[0] for w in audio.windows(ramp(100_000), 1000, 0.01, 0.0103)])
    np.testing.assert_array_less(np.abs(starts - 10.3 * np.arange(len(starts))), 0.51)


def test_windows_are_views_and_padded_ones_copies():
    x = ramp(25)
    first, second, third = audio.windows(x, 10, 1.0, tail="pad")
    assert np.shares_memory(first, x)
    assert np.shares_memory(second, x)
    assert not np.shares_memory(third, x)


def test_channels_stay_together():
    x = np.stack([ramp(25), -ramp(25)])
    found = audio.windows(x, 10, 1.0, tail="pad")
    assert [w.shape for w in found] == [(2, 10)] * 3
    np.testing.assert_array_equal(np.concatenate(found, axis=1)[:, :25], x)


@given(
    n=st.integers(1, 3000),
    length=st.integers(1, 500),
    hop=st.integers(1, 500),
    tail=st.sampled_from(["keep", "pad", "drop"]),
)
def test_windows_lie_where_they_should(n, length, hop, tail):
    rate = 1000
    x = ramp(n)
    found = audio.windows(x, rate, length / rate, hop / rate, tail)
    for k, window in enumerate(found):
        inside = x[k * hop : k * hop + length]
        np.testing.assert_array_equal(window[: len(inside)], inside)
        assert len(window) == (len(inside) if tail == "keep" else length)
    if tail != "drop" and hop <= length:  # nothing is lost, and no window is all repetition
        last = len(found) - 1
        assert last * hop + length >= n
        assert last == 0 or (last - 1) * hop + length < n


@given(samples=st.integers(1, 10**9), longest=st.integers(1, 10**9))
def test_balanced_windows_are_the_whole_signal_in_as_few_equal_parts_as_fit(samples, longest):
    longest = max(longest, samples // 1000)  # at most a thousand windows
    found = balanced_spans(samples, longest)
    assert [start for start, _ in found] == [0, *(end for _, end in found[:-1])]
    assert found[-1][1] == samples
    sizes = [end - start for start, end in found]
    assert max(sizes) <= longest
    assert max(sizes) - min(sizes) <= 1
    assert (len(found) - 1) * longest < samples  # one window less would not do


@pytest.mark.parametrize(
    ("seconds", "longest_s", "expected"),
    [
        (30.0, 30, [30.0]),
        (30.02, 30, [15.01, 15.01]),
        (45.0, 30, [22.5, 22.5]),
        (61.0, 30, [61 / 3] * 3),
        (500.0, None, [500.0]),
    ],
)
def test_a_sliver_is_not_a_window(seconds, longest_s, expected):
    longest = None if longest_s is None else longest_s * RATE
    found = balanced_spans(round(seconds * RATE), longest)
    # Half a sample for each of the two ends that a part may be rounded at.
    assert [(end - start) / RATE for start, end in found] == pytest.approx(expected, abs=1 / RATE)


def test_windows_of_a_fixed_length_leave_the_rest_to_the_last():
    assert spans(10, 4) == ((0, 4), (4, 8), (8, 10))
    assert spans(10, 4, tail="pad") == ((0, 4), (4, 8), (8, 12))
    assert spans(10, 4, tail="drop") == ((0, 4), (4, 8))


@pytest.mark.parametrize("seconds", [0, -1.0, 0.00001, float("nan"), float("inf"), "30", True])
def test_durations_that_are_none_are_refused(seconds):
    with pytest.raises(ConfigError, match="length_s"):
        audio.windows(ramp(10), RATE, seconds)
    with pytest.raises(ConfigError, match="hop_s"):
        audio.windows(ramp(10), RATE, 1.0, seconds)


def test_other_bad_arguments_are_refused():
    with pytest.raises(AudioError, match="no samples"):
        audio.windows(np.zeros(0, np.float32), RATE)
    with pytest.raises(ConfigError, match="keep, pad, drop"):
        audio.windows(ramp(10), RATE, tail="wrap")
