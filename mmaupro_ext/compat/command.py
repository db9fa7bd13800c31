"""What our runs add to lm_eval's command: five options, where answers are kept, and an end by a signal."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks, plugin
from mmaupro_ext.data.asking import CONDITION
from mmaupro_ext.errors import ConfigError

RETRY_ERRORS, MAX_ERRORS = "retry_errors", "max_errors"
FULL_TABLE, BE_QUIET = "full_table", "quiet"
UNTIL = "until_se"
_TWICE = "metadata_twice"

ONE_PROCESS = (
    "--until-se: several processes would have to stop together, which they cannot yet. Start one "
    "process (a server or vllm-audio uses several GPUs from one), or leave it out."
)

# What lm_eval runs with that decides which requests are made, besides the data.
_ASKED = (
    ("tasks", "limit", "samples", "num_fewshot", "gen_kwargs", "seed", "system_instruction")
    + ("apply_chat_template", "fewshot_as_multiturn")
)  # fmt: skip
# Seconds after which an interrupted process ends, whatever its threads still wait for.
_PATIENCE_S = 10.0


# ---- options -------------------------------------------------------------------------------------


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add our options to those of `lm_eval run`, and note which keys of --metadata are given twice."""
    metadata = parser._option_string_actions.get("--metadata")
    if metadata is not None:
        metadata.__class__ = _noting_repeats(type(metadata))
    group = parser.add_argument_group(
        "mmaupro-ext", f"for --model {', '.join(plugin.MODELS)} (also as keys of --config FILE)"
    )
    group.add_argument(
        "--retry-errors",
        action="store_true",
        default=argparse.SUPPRESS,
        help="Ask items again that errored in an earlier start of the same run",
    )
    group.add_argument(
        "--max-errors",
        type=int,
        default=argparse.SUPPRESS,
        metavar="<n>",
        help="End the run when so many items have errored (of each process, if there are several)",
    )
    group.add_argument(
        "--quiet",
        action="store_true",
        default=argparse.SUPPRESS,
        help="Show no progress of the model (what is wrong is still said)",
    )
    group.add_argument(
        "--full-table",
        action="store_true",
        default=argparse.SUPPRESS,
        help="Show our tasks in lm_eval's own table: every metric, standard errors, versions",
    )
    group.add_argument(
        "--until-se",
        type=float,
        default=argparse.SUPPRESS,
        metavar="<points>",
        help="Draw the items of our tasks in a balanced, seeded order, and stop when half the 95 %% "
        "interval of the overall is no wider; the interval allows for the stopping. In one process, without "
        "a launcher. The same command without it goes on to all items",
    )


def _noting_repeats(action: type[argparse.Action]) -> type[argparse.Action]:
    """Return lm_eval's action for KEY=VALUE, of which the last of two counts, with a note of such keys."""

    class Noting(action):  # type: ignore[valid-type, misc]
        def __call__(
            self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
        ) -> None:
            keys = [*(getattr(namespace, self.dest, None) or {})]
            if not str(values[0]).lstrip().startswith("{"):
                parts = [part for value in values for part in value.split(",") if "=" in part]
                keys += [part.partition("=")[0].strip() for part in parts]
            super().__call__(parser, namespace, values, option_string)
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                setattr(namespace, _TWICE, twice)

    return Noting


def take_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take our options out of what is given to lm_eval, and return them.

    Raises
    ------
    ConfigError
        When one of them is no value that it can have.
    """
    names = (RETRY_ERRORS, MAX_ERRORS, FULL_TABLE, BE_QUIET, UNTIL, _TWICE)
    taken = {name: given.pop(name) for name in names if name in given}
    most = taken.get(MAX_ERRORS, 1)
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        raise ConfigError(f"--max-errors {most}: give a whole number of 1 or more.")
    points = taken.get(UNTIL, 1)
    if not isinstance(points, (int, float)) or isinstance(points, bool) or not 0 < points < 50:
        raise ConfigError(
            f"--until-se {points}: give half the width of the interval in points of per cent, above 0 and "
            "below 50."
        )
    for name in (RETRY_ERRORS, FULL_TABLE, BE_QUIET):
        if not isinstance(taken.get(name, False), bool):
            raise ConfigError(f"{name}: {taken[name]!r} is neither true nor false.")
    if taken.get(BE_QUIET):
        from mmaupro_ext.progress import QUIET

        os.environ[QUIET] = "1"
    return taken


def refuse_options(options: Mapping[str, Any], config: Any) -> None:
    """Raise ConfigError for options of ours that a run (`EvaluatorConfig`) could not heed."""
    model = config.model
    if _TWICE in options and benchmarks.asks_for_ours(config.tasks):
        named = ", ".join(options[_TWICE])
        raise ConfigError(
            f"--metadata: {named} is given twice, and a run has one. Leave one out; several conditions are "
            "asked by `mmaupro ablate --conditions A,B`"
        )
    kept = [name for name in options if name not in (FULL_TABLE, BE_QUIET, _TWICE)]
    if kept and model not in plugin.MODELS:
        named = ", ".join(f"--{name.replace('_', '-')}" for name in kept)
        raise ConfigError(
            f"{named}: --model {model} keeps no journal. These options are for "
            f"{', '.join(plugin.MODELS)}."
        )
    if UNTIL not in options:
        return
    if config.limit is not None or config.samples:
        other = "--limit" if config.limit is not None else "--samples"
        raise ConfigError(f"--until-se draws the items itself: leave out {other}, or --until-se.")
    if (config.metadata or {}).get(CONDITION):
        refuse_stopping(options)
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError(ONE_PROCESS)
    if not benchmarks.asks_for_ours(config.tasks):
        raise ConfigError("--until-se: no task of this run is one of ours. Leave it out.")


def refuse_stopping(options: Mapping[str, Any]) -> None:
    """Raise ConfigError where a run under conditions is to stop: its scores are none of the benchmark."""
    if UNTIL in options:
        raise ConfigError("--until-se stops at a score of the benchmark, which no condition gives.")


# ---- the journal ---------------------------------------------------------------------------------


def place_of_journal(config: Any) -> Path:
    """Return where the answers of a run are kept: beside its outputs, unless --use_cache names a folder."""
    from mmaupro_ext.models import journal
    from mmaupro_ext.util import cache_dir

    if config.use_cache:
        return Path(config.use_cache)
    if not config.output_path:
        return cache_dir() / journal.FOLDER
    output = Path(config.output_path)
    return (output.parent if output.suffix == ".json" else output) / journal.FOLDER


def settings_of(config: Any, options: Mapping[str, Any]) -> Any:
    """Return how a run is resumed (`resuming.Settings`)."""
    from mmaupro_ext.models.identity import digest_of
    from mmaupro_ext.models.resuming import Settings

    tasks = [task if isinstance(task, str) else _name(task) for task in config.tasks]
    given = {**{name: getattr(config, name) for name in _ASKED}, "tasks": tasks}
    others = {k: v for k, v in config.metadata.items() if k not in config.model_args}
    return Settings(
        **{name: options[name] for name in (RETRY_ERRORS, MAX_ERRORS) if name in options},
        seed=config.seed,
        facts={
            "command": command_line(),
            "model": config.model,
            "tasks": tasks,
            "asked": digest_of([given, others]),
        },
    )


def _name(task: Mapping[str, Any]) -> str:
    return str(task.get("task") or task.get("group") or "")


def command_line() -> str:
    """Return the command of this process as a user would type it, without secrets."""
    from mmaupro_ext.models.identity import without_secrets_in

    program = Path(sys.argv[0])
    name = program.name
    if name == "__main__.py":
        name = f"python -m {program.parent.name}"
    return " ".join([name, *(shlex.quote(without_secrets_in(word)) for word in sys.argv[1:])])


# ---- signals -------------------------------------------------------------------------------------


class Terminated(KeyboardInterrupt):
    """SIGTERM came: the run ends as by Ctrl-C, with another status."""


def raise_at_termination() -> None:
    """Let SIGTERM end this process as Ctrl-C does, unless somebody else has a use for it."""
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    ):
        signal.signal(signal.SIGTERM, _raise)


def _raise(number: int, frame: Any) -> None:
    raise Terminated


def as_before() -> None:
    """Take `raise_at_termination` back."""
    if signal.getsignal(signal.SIGTERM) is _raise:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def status_of(interruption: KeyboardInterrupt) -> int:
    """Return the exit status of an interrupted process, as shells count it; see that it ends.

    A launcher sends its own signal after that of the terminal: another one changes nothing. What
    threads still wait for is waited for briefly.
    """
    status = 128 + (signal.SIGTERM if isinstance(interruption, Terminated) else signal.SIGINT)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    last = threading.Timer(_PATIENCE_S, os._exit, [status])
    last.daemon = True
    last.start()
    return status
