"""What a run needs, tried before its model is loaded: places that can be written, names that are known."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.compat import command
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import nearest

logger = logging.getLogger(__name__)

# Bytes that an item takes in samples and journal, replies of a few hundred words included, and that a
# run takes besides.
_BYTES_OF_ITEM = 10_000
_BYTES_OF_RUN = 2_000_000


def looked_at(process_tasks: Callable[..., Any]) -> Callable[..., Any]:
    """Return lm_eval's step that resolves the tasks of a configuration, with all checks around it."""

    def process(config: Any, metadata: dict[str, Any] | None) -> Any:
        check_model(config.model)
        check_arguments(config)
        check_places(config)
        if not config.tasks or config.tasks == [""]:  # an empty --tasks=
            raise ConfigError("--tasks names none. `mmaupro ls tasks` lists all.")
        if config.limit == 0:
            raise ConfigError(
                "--limit 0 leaves nothing to ask: give 1 or more, or a share below 1."
            )
        wanted = config.tasks
        try:
            manager = process_tasks(config, metadata)
        except ValueError as error:
            manager = _local(error, "task_manager")
            unknown = None if manager is None else unknown_tasks(wanted, manager)
            raise unknown or error from None
        leaves = leaves_of(config.tasks, manager)
        check_once(config.tasks, manager)
        check_samples(config, leaves)
        check_space(config, leaves)
        return manager

    return process


def _local(error: Exception, name: str) -> Any:
    """Return a variable of the function that raised an error, which lm_eval keeps to itself."""
    traceback = error.__traceback__
    while traceback is not None:
        if name in traceback.tb_frame.f_locals:
            return traceback.tb_frame.f_locals[name]
        traceback = traceback.tb_next
    return None


def check_arguments(config: Any) -> None:
    """Refuse what lm_eval's command has an option for among the arguments of the model.

    lm_eval hands the model both, and Python refuses a name that comes twice.
    """
    for name in ("batch_size", "max_batch_size", "device"):
        if name in (config.model_args or {}) and getattr(config, name, None) is not None:
            raise ConfigError(
                f"{name} is an option of the command: --{name} {config.model_args[name]}, not in "
                "--model_args."
            )


# ---- places --------------------------------------------------------------------------------------


def check_places(config: Any) -> None:
    """Try where a run will write: outputs, and the journal of its answers.

    Parameters
    ----------
    config : lm_eval.config.evaluate_config.EvaluatorConfig
        Before its tasks are resolved.

    Raises
    ------
    ConfigError
        When a folder cannot be made or written, or a name is longer than its file system takes.
    """
    if config.output_path:
        output = Path(config.output_path)
        to_file = output.suffix == ".json"  # as lm_eval understands it
        folder = output.parent if to_file else output
        _try_to_write(folder, f"--output_path {config.output_path}")
        if not to_file:
            _try_name(folder, _name_of_model(config), config)
    place = command.place_of_journal(config)
    if config.use_cache:
        _try_to_write(place, f"--use_cache {config.use_cache}")
    elif not config.output_path:
        try:
            _try_to_write(place, "the journal of answers")
        except ConfigError as error:
            raise ConfigError(f"{error} Or give --output_path FOLDER.") from None


def _try_to_write(folder: Path, what: str) -> None:
    made = _missing(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ConfigError(
            f"{what}: {folder} cannot be written to ({error.strerror or error}). Name another folder, "
            "or make it writable and make room."
        ) from error
    finally:
        _remove(made)


def _try_name(folder: Path, name: str, config: Any) -> None:
    """Make the folder that lm_eval names by the model, and take it away where it is empty."""
    made = _missing(folder / name)
    try:
        (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = (
            f"of {len(os.fsencode(name))} bytes. Name the model by a shorter path (from its own folder, or "
            "through a link)"
            if error.errno == errno.ENAMETOOLONG
            else f"{name!r}. Move away what is there"
        )
        raise ConfigError(
            f"--output_path {config.output_path}: {error.strerror or error}: the folder in it that lm_eval "
            f"names by the model, {what}, or give --output_path FOLDER/NAME.json, which needs no such folder."
        ) from error
    finally:
        _remove(made)


def _missing(folder: Path) -> list[Path]:
    """Return which folders are not there yet, the innermost first."""
    missing = []
    for part in (folder, *folder.parents):
        if os.path.lexists(part):
            break
        missing.append(part)
    return missing


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _name_of_model(config: Any) -> str:
    """Return how lm_eval calls a model in paths."""
    from lm_eval.loggers.evaluation_tracker import GeneralConfigTracker

    tracker = GeneralConfigTracker()
    tracker.log_experiment_args(config.model, config.model_args or {}, None, None, False)
    return str(tracker.model_name_sanitized)


def check_space(config: Any, leaves: Sequence[str]) -> None:
    """Say what a run will write; refuse a disk that has clearly less.

    Parameters
    ----------
    config : lm_eval.config.evaluate_config.EvaluatorConfig
        Of the run.
    leaves : sequence of str
        Its tasks without groups; only those of ours have a size that is known here.

    Raises
    ------
    ConfigError
        When there is less room than that.
    """
    items = sum(_items(name, config) for name in leaves)
    need = items * _BYTES_OF_ITEM + _BYTES_OF_RUN
    folder = command.place_of_journal(config)
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    free = shutil.disk_usage(there).free
    if free < need:
        raise ConfigError(
            f"{there} has {_megabytes(free)} of free space, and this run writes about {_megabytes(need)} "
            f"({items} items). Make room, or name another folder with --output_path."
        )
    logger.info("%s: about %s are to be written, of %s", there, _megabytes(need), _megabytes(free))


def _items(task: str, config: Any) -> int:
    asked = benchmarks.parse_task(task)
    if config.samples:
        return len(config.samples.get(task, ()))
    if asked is None or asked.sample:
        return 0
    categories = benchmarks.BENCHMARKS[asked.benchmark].by_slug
    size = sum(categories[slug].expected_count for slug in benchmarks.categories_of(asked))
    limit = config.limit
    return size if limit is None else int(limit if limit >= 1 else size * limit)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"


# ---- names ---------------------------------------------------------------------------------------


def check_model(model: str) -> None:
    """Raise ConfigError for a model that lm_eval does not know, with the nearest names."""
    import lm_eval.models  # noqa: F401 - fills the registry
    from lm_eval.api.registry import model_registry

    known = list(model_registry)
    if model not in known:
        raise ConfigError(f"--model {model}: there is no such model.{nearest(model, known)}")


def unknown_tasks(wanted: Any, manager: Any) -> ConfigError | None:
    """Return the error of tasks that are not known, None where all are.

    Parameters
    ----------
    wanted : str or list of str
        As the user gave them.
    manager : lm_eval.tasks.TaskManager
        Knows the names.
    """
    names = (
        wanted.split(",") if isinstance(wanted, str) else [n for w in wanted for n in w.split(",")]
    )
    missing = [name for name in names if not _is_known(name, manager)]
    if not missing:
        return None
    hints = "".join(nearest(name.rstrip("*"), manager.all_tasks) for name in missing[:1])
    return ConfigError(
        f"--tasks: not found: {', '.join(map(repr, missing))}.{hints} `mmaupro ls tasks` lists all."
    )


def _is_known(name: str, manager: Any) -> bool:
    return name.endswith(".yaml") or os.path.isdir(name) or bool(manager.match_tasks([name]))


def check_samples(config: Any, leaves: Sequence[str]) -> None:
    """Raise ConfigError for --samples that ask for something else than the tasks of the run.

    lm_eval would pass over such names, and ask all items.
    """
    samples = config.samples
    if not samples:
        return
    if not isinstance(samples, Mapping):
        raise ConfigError(f"--samples {samples}: neither JSON nor a file that is there.")
    for name in samples:
        if name not in leaves:
            raise ConfigError(
                f"--samples: {name!r} is no task of this run.{nearest(name, leaves)} Groups are named by "
                "their tasks."
            )


def real_categories(tasks: Any) -> dict[str, list[str]]:
    """Return which categories of which benchmarks, not of their samples, resolved task names ask for."""
    names = [
        task if isinstance(task, str) else str(task.get("task") or task.get("group") or "")
        for task in tasks
    ]
    if benchmarks.SUITE in names:
        names += [one.name for one in benchmarks.BENCHMARKS.values() if one.in_suite]
    found: dict[str, list[str]] = {}
    for asked in filter(None, map(benchmarks.parse_task, names)):
        if not asked.sample:
            slugs = found.setdefault(asked.benchmark, [])
            slugs += [slug for slug in benchmarks.categories_of(asked) if slug not in slugs]
    return found


def check_once(tasks: Iterable[Any], manager: Any) -> None:
    """Raise ConfigError for a task that two groups, or a group and its own name, ask for."""
    seen: dict[str, str] = {}
    for task in tasks:
        name = task if isinstance(task, str) else str(task.get("group") or task.get("task"))
        is_group = _children(task, manager) is not None
        for leaf in leaves_of([task], manager):
            source = name if is_group else leaf
            if seen.setdefault(leaf, source) != source:
                raise ConfigError(
                    f"--tasks: {leaf} is asked for twice, by {seen[leaf]} and by {source}. Leave one out."
                )


def leaves_of(tasks: Iterable[Any], manager: Any) -> list[str]:
    """Return the names of the tasks in resolved names, groups and tags."""
    found: list[str] = []
    for task in tasks:
        children = _children(task, manager)
        entry = manager.task_index.get(task) if isinstance(task, str) else None
        if children is not None:
            found += leaves_of(children, manager)
        elif entry is not None and entry.yaml_path is None and entry.tags:
            found += leaves_of(sorted(entry.tags), manager)
        else:
            found.append(task if isinstance(task, str) else str(task.get("task")))
    return found


def _children(task: Any, manager: Any) -> list[Any] | None:
    """Return what a group holds, None for what is no group."""
    if isinstance(task, str):
        entry = manager.task_index.get(task)
        task = (entry.cfg if entry is not None else None) or {}
    inside = task.get("task")
    return inside if isinstance(inside, list) else None
