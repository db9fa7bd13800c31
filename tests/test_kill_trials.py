"""Whole runs that are killed, interrupted and terminated at random moments, and go on: a few trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# A dozen processes that each import lm_eval and load a model. That a run goes on where it was ended is in
# `make test` by test_nano.py and test_journal.py; here it is the moment that differs.
pytestmark = pytest.mark.skipif(
    "MMAUPRO_TEST_SCALE" not in os.environ, reason="a dozen processes: make test-scale"
)


def test_runs_that_were_ended_early_end_with_the_samples_of_one_that_was_not(tmp_path):
    done = subprocess.run(
        [
            *(sys.executable, "-m", "kill_trials", "--kill", "2", "--interrupt", "1"),
            *("--terminate", "1", "--tasks", "mmaupro-sample_sound,mmaupro-sample_multi"),
        ],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["done"] == 4
    assert counts["samples"] == 4 * 6
    assert counts["differing"] == 0
    # A signal may come between an answer and its line: one answer a process, in two starts of each trial.
    assert counts["asked_again"] <= 2 * 4
    assert counts["most_again"] <= 1
    assert counts["wrong_endings"] == []
