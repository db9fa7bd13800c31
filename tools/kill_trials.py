"""Kill runs at random moments, let them go on, and compare with a run that nobody disturbed.

``PYTHONPATH=tools python -m kill_trials --kill 100 --interrupt 50 --terminate 10`` runs the embedded sample
on `nano` again and again, without ``--use_cache``. Each trial is killed (SIGKILL), interrupted (Ctrl-C) or
terminated, once or twice, at moments drawn evenly over the length of a run, and then started to its end.
Counted are answers that the model had given and that were asked for again, and samples that differ. Each
run is a process forked from one that has imported everything, so that a trial takes seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

ENDINGS = {"kill": signal.SIGKILL, "interrupt": signal.SIGINT, "terminate": signal.SIGTERM}
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@dataclass
class Counts:
    """What was counted over all trials.

    Parameters
    ----------
    trials, ended_early : Counter
        By way of ending; `ended_early` counts the signals that came before a run was through.
    answers : int
        Given by the model in all runs.
    asked_again : int
        Answers that a run had been given and that a later one asked for again.
    most_again : int
        The most of them in one start.
    differing, samples : int
        Samples that are not those of the undisturbed run, byte for byte, and all.
    wrong_endings : list of str
        Interrupted runs that did not end as they should.
    """

    trials: Counter[str] = field(default_factory=Counter)
    ended_early: Counter[str] = field(default_factory=Counter)
    answers: int = 0
    asked_again: int = 0
    most_again: int = 0
    differing: int = 0
    samples: int = 0
    wrong_endings: list[str] = field(default_factory=list)


def prepare() -> None:
    """Import all that a run needs, and leave out what takes seconds and has no part in a trial.

    That is lm_eval's index of thousands of tasks, and its report of the machine.
    """
    import lm_eval.evaluator
    import lm_eval.models
    from lm_eval import tasks
    from lm_eval.tasks._index import TaskIndex

    import mmaupro_ext.models.hf.model  # noqa: F401
    from mmaupro_ext import compat
    from mmaupro_ext.models.resuming import Resumed

    compat.install()
    make, build = tasks.TaskManager.__init__, functools.cache(TaskIndex.build)

    def __init__(self: object, *arguments: object, **options: object) -> None:  # noqa: N807
        make(self, *arguments, **{**options, "include_defaults": False})  # type: ignore[arg-type]

    tasks.TaskManager.__init__ = __init__  # type: ignore[method-assign]
    TaskIndex.build = staticmethod(lambda paths: build(tuple(paths)))  # type: ignore[assignment]
    lm_eval.evaluator.add_env_info = lambda results: None
    add_partial = Resumed.add_partial

    def noted(self: Resumed, kind: str, arguments: tuple[object, ...], answer: object) -> None:
        # Written before the journal is: this file knows at least what the journal knows.
        os.write(int(os.environ["TRIAL_GIVEN"]), b".")
        add_partial(self, kind, arguments, answer)

    Resumed.add_partial = noted  # type: ignore[method-assign]


def run(folder: Path, words: list[str], processes: int = 1) -> list[int]:
    """Start a run in processes of its own and return their ids."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sys.stdout.flush()
    started = []
    for rank in range(processes):
        child = os.fork()
        if child:
            started.append(child)
            continue
        _be_a_run(folder, words, processes, rank, port)
    return started


def _be_a_run(folder: Path, words: list[str], processes: int, rank: int, port: int) -> None:
    """Run in this process, a child, and end it: nothing of its parent is left or cleaned up."""
    status: object = 1
    # A shell starts its background jobs with Ctrl-C ignored, which they and all that they start inherit.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if processes > 1:
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank)}
            os.environ |= {"WORLD_SIZE": str(processes), "LOCAL_RANK": str(rank)}
            os.environ |= {"ACCELERATE_USE_CPU": "true", "LOCAL_WORLD_SIZE": str(processes)}
        said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        given = os.open(folder / "given", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.environ["TRIAL_GIVEN"] = str(given)
        from mmaupro_ext.commands import cli

        cli.main(["run", *words, "--output_path", str(folder / "out"), "--log_samples"])
        status = 0
        (folder / "imported").write_text("\n".join(sorted(sys.modules)), encoding="utf-8")
    except SystemExit as ending:
        status = ending.code
    except KeyboardInterrupt:  # before there was a run
        status = 130
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 0 if status is None else 1)


def ended(processes: list[int]) -> list[int]:
    """Wait for processes and return their statuses, negative for the signal that killed one."""
    return [os.waitstatus_to_exitcode(os.waitpid(one, 0)[1]) for one in processes]


def samples_of(folder: Path) -> dict[str, list[str]]:
    """Return the lines of samples by task; the names of their files hold the time, they do not."""
    return {
        file.name.rpartition("_")[0]: file.read_text(encoding="utf-8").splitlines()
        for file in sorted(folder.glob("out/*/samples_*.jsonl"))
    }


def kept_in(folder: Path) -> int:
    """Return how many different answers the journal of a run holds."""
    from mmaupro_ext.models.journal_lines import read

    files = sorted(folder.glob("out/journal/*/*.jsonl"))
    return len({address for file in files for address, _ in read(file).answers})


def size_of(file: Path) -> int:
    """Return the size of a file in bytes, 0 where it is not."""
    return file.stat().st_size if file.exists() else 0


def trial(
    ending: str, words: list[str], expected: dict[str, list[str]], counts: Counts, lasts_s: float,
    processes: int, chance: random.Random,
) -> None:  # fmt: skip
    """End a run early, once or more, let it go on, and count."""
    with tempfile.TemporaryDirectory(prefix="trial-") as name:
        folder = Path(name)
        number = ENDINGS[ending]
        counts.trials[ending] += 1
        for _ in range(1 + (chance.random() < 0.3)):
            given, kept = size_of(folder / "given"), kept_in(folder)
            started = run(folder, words, processes)
            time.sleep(chance.uniform(0.0, lasts_s))
            for one in started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, number)
            statuses = ended(started)
            if any(statuses):
                counts.ended_early[ending] += 1
                wanted = STATUS.get(number, -number)
                # Before Python has come to our handlers, the signal itself ends the process.
                if any(status not in (0, wanted, -number) for status in statuses):
                    counts.wrong_endings.append(f"{ending}: {statuses}")
            lost = size_of(folder / "given") - given - (kept_in(folder) - kept)
            counts.asked_again += lost
            counts.most_again = max(counts.most_again, lost)
        text = folder / "said.txt"
        said = text.read_text(encoding="utf-8") if text.exists() else ""
        if "Traceback" in said:
            counts.wrong_endings.append(f"{ending}: {said[said.index('Traceback') :][:2000]}")
        for file in folder.glob("out/*/samples_*"):  # of a run that was through before its signal
            file.unlink()
        if any(ended(run(folder, words))):
            print((folder / "said.txt").read_text(encoding="utf-8")[-3000:])
            raise SystemExit(f"{ending}: a run did not go on to its end")
        counts.answers += size_of(folder / "given")
        found = samples_of(folder)
        for task, lines in expected.items():
            counts.samples += len(lines)
            pairs = zip(lines, found.get(task, [""] * len(lines)), strict=True)
            counts.differing += sum(line != other for line, other in pairs)


def main() -> None:
    """Run the trials and print what was counted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for ending in ENDINGS:
        parser.add_argument(f"--{ending}", type=int, default=0, metavar="N", help="so many trials")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1, help="of the starts that are ended")
    parser.add_argument("--tasks", default="mmaupro-sample_*")
    parser.add_argument("--limit", default="3")
    parser.add_argument("--batch_size", default="2")
    given = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    words = ["--model", "hf-audio", "--model_args", "pretrained=nano", "--device", "cpu"]
    words += ["--tasks", given.tasks, "--limit", given.limit, "--batch_size", given.batch_size]
    prepare()
    with tempfile.TemporaryDirectory(prefix="trial-") as name:
        ended(run(Path(name), words))
        # What a run imports on its way. It does no work here: a fork would not have its threads.
        for module in (Path(name) / "imported").read_text(encoding="utf-8").split():
            with contextlib.suppress(Exception):
                importlib.import_module(module)
    with tempfile.TemporaryDirectory(prefix="trial-") as name:
        begun = time.monotonic()
        if any(ended(run(Path(name), words))):
            raise SystemExit((Path(name) / "said.txt").read_text(encoding="utf-8")[-3000:])
        lasts_s = time.monotonic() - begun
        expected = samples_of(Path(name))
    chance, counts = random.Random(given.seed), Counts()
    order = [ending for ending in ENDINGS for _ in range(getattr(given, ending))]
    chance.shuffle(order)
    for done, ending in enumerate(order, 1):
        trial(ending, words, expected, counts, lasts_s, given.processes, chance)
        if done % 10 == 0 or done == len(order):
            print(json.dumps({"done": done, **vars(counts)}), flush=True)


if __name__ == "__main__":
    main()
