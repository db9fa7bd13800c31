"""Everything that we change in lm_eval 0.4.13: module -> what is done. One place, so over 400 lines.

=================================  ======================================================
``lm_eval.models``                 our model names join the built-in ones
``lm_eval.tasks.manager``          our task folder joins the built-in one
``lm_eval.config.evaluate_config`` a run that asks for a benchmark without its data stops
                                   before the model is loaded; our options in a file
``lm_eval.evaluator``              a model of ours sees the tasks before anything runs, and
                                   refuses what it cannot answer; its answers are kept as they
                                   come; an item that it could not serve is counted in every
                                   task, not only in ours; secrets among its arguments are
                                   hidden (`secret_arguments`)
``lm_eval.api.model``              the response cache of a model of ours is a journal
``lm_eval.api.task``               the cache of requests tells the data and prompts of our tasks
                                   apart
``lm_eval.loggers``                what was heard joins the samples and the results; which
                                   files were written is noted; W&B and Trackio are told more
                                   of our tasks (`compat.loggers`)
``lm_eval._cli.run``               our options; our errors and a signal end a run with a
                                   sentence, not a traceback;
                                   footnotes below the table (random weights, partial data);
                                   after a run, where its files are
=================================  ======================================================

The first two are needed only while lm_eval discovers no plug-ins, and step aside where it does
(`discovers_plugins`); tests/test_compat.py fails on the first release that does. Nothing here hides a
built-in model or task, and runs that have nothing to do with us stay as they are.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks, plugin, recipes, util, versions
from mmaupro_ext.compat import (
    command,
    errored_items,
    loggers,
    preflight,
    requests_cache,
    rounds,
    secret_arguments,
)

_PATCHED = "_mmaupro_ext"

# What the command that runs in this process did so far; None outside of `lm_eval run`.
_run: Any = None

# Under which conditions `mmaupro ablate` has the items of a run asked (`ablation.Ablation`).
_ablation: Any = None


def discovers_plugins() -> bool:
    """Return whether the installed lm_eval reads the entry points `lm_eval.models` and `lm_eval.tasks`."""
    from lm_eval.tasks import manager

    return hasattr(manager, "discover_plugin_task_paths") or _reads_entry_points()


def _reads_entry_points() -> bool:
    import inspect

    from lm_eval.api import registry

    try:
        return "entry_points(" in inspect.getsource(registry)
    except (OSError, TypeError):  # no source at hand: registering the same target twice is harmless
        return False


def _once(owner: Any) -> bool:
    """Return whether a class or function is not patched yet, and mark it."""
    if getattr(owner, _PATCHED, False):
        return False
    setattr(owner, _PATCHED, True)
    return True


# --- models and tasks ----------------------------------------------------------------------------


def add_models(module: Any) -> None:
    """Let our model names join lm_eval's."""
    from lm_eval.api import registry

    if _reads_entry_points():
        return
    for name, target in plugin.MODELS.items():
        if name not in registry.model_registry:
            registry.model_registry.register(name, target=target)


def add_tasks(module: Any) -> None:
    """Let our task folder join lm_eval's."""
    if hasattr(module, "discover_plugin_task_paths") or not _once(module.TaskManager):
        return
    original = module.TaskManager.__init__

    def __init__(  # noqa: N807 - takes the place of the class's own
        self: Any,
        verbosity: str | None = None,
        include_path: Any = None,
        include_defaults: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        ours = plugin.tasks_dir()
        theirs = include_path if isinstance(include_path, (list, tuple)) else [include_path]
        # The user's folders come last: a later folder overrides an earlier one.
        paths = [ours, *(p for p in theirs if p and os.path.abspath(str(p)) != ours)]
        original(
            self,
            verbosity=verbosity,
            include_path=paths,
            include_defaults=include_defaults,
            metadata=metadata,
        )

    module.TaskManager.__init__ = __init__


# --- before the model is loaded ------------------------------------------------------------------


def check_data_first(module: Any) -> None:
    """Stop a run without its data before the model is loaded, and note what the run is."""
    config = module.EvaluatorConfig
    if not _once(config):
        return
    original, load_yaml_config = config.process_tasks, config.load_yaml_config

    def load_with_our_options(config_path: Any) -> dict[str, Any]:
        loaded = load_yaml_config(config_path)
        if _run is not None:
            _run.options = command.take_options(loaded) | _run.options
        return loaded

    def process_tasks(self: Any, metadata: dict[str, Any] | None = None) -> Any:
        metadata = secret_arguments.hide_in_config(self, metadata)
        if _run is not None:
            _run.config = self
            command.refuse_options(_run.options, self)
        from mmaupro_ext import __version__, data

        resolve = original
        if _run is not None and _run.is_ours(plugin.MODELS):
            command.raise_at_termination()
            resolve = preflight.looked_at(original)
        if not benchmarks.asks_for_ours(self.tasks):
            return resolve(self, metadata)
        # The tasks get this very dictionary as their metadata, and lm_eval writes it beside the results.
        noted = {**(metadata or self.metadata or {}), "mmaupro_ext": __version__}
        manager = resolve(self, noted)
        if noted.get(recipes.RECIPE):
            from mmaupro_ext.compat import recipe_runs

            recipe_runs.apply(self, manager, noted)
        if _ablation is not None:
            command.refuse_stopping({} if _run is None else _run.options)
            _ablation.expand(self, manager, noted)
        for name, slugs in preflight.real_categories(self.tasks).items():
            benchmark = benchmarks.BENCHMARKS[name]
            part = data.prepare_run(slugs, noted.get(data.folder_setting(benchmark)), name)
            if part:
                noted[benchmark.part_note] = part
        return manager

    config.process_tasks = process_tasks
    config.load_yaml_config = staticmethod(load_with_our_options)


# --- while it runs -------------------------------------------------------------------------------


def look_at_tasks(module: Any) -> None:
    """Let our models refuse tasks before hours are spent on others, and count what they could not serve."""
    if getattr(module.evaluate, _PATCHED, False):
        return
    original = module.evaluate

    def evaluate(lm: Any, task_dict: Any, *arguments: Any, **options: Any) -> Any:
        model = getattr(lm, "lm", lm)  # under a response cache
        tasks = (task_dict.get("tasks") if isinstance(task_dict, dict) else None) or {}
        check = getattr(model, "check_tasks", None)
        if check is not None and tasks:
            check(tasks)
        if benchmarks.asks_for_ours(list(tasks)):
            from mmaupro_ext.compat import ablation

            ablation.leave_out_what_changes_nothing(tasks, model, _ablation)
            ablation.note_not_asked(tasks)
            _refuse_half_a_recipe(tasks)
        counted = []
        if plugin.is_ours(model):
            counted = [name for name, task in tasks.items() if errored_items.count(task)]
            if lm is model and _run is not None and hasattr(model, "identity"):
                lm = _with_journal(model, command.place_of_journal(_run.config))
            if lm is not model:
                from mmaupro_ext.report.live import LiveScores

                lm.tasks, lm.watch = tasks, LiveScores(tasks)
                if _run is not None and command.UNTIL in _run.options:
                    points, seed = _run.options[command.UNTIL], _run.config.seed
                    lm = rounds.InRounds(lm, tasks, points, seed[0] if seed else None)
        if not arguments:  # lm_eval warns of positional ones
            options |= {"lm": lm, "task_dict": task_dict}
        given = (lm, task_dict, *arguments) if arguments else ()
        results = original(*given, **options)
        if results is not None:
            errored_items.drop_zeros(results, counted)
            if isinstance(lm, rounds.InRounds):
                lm.label(results)
        return results

    evaluate.__doc__ = original.__doc__
    setattr(evaluate, _PATCHED, True)
    module.evaluate = evaluate


def _refuse_half_a_recipe(tasks: Any) -> None:
    """Refuse a recipe where only its prompts would be applied: outside of the command."""
    from mmaupro_ext.errors import ConfigError

    for name, task in tasks.items():
        recipe = (getattr(task.config, "metadata", None) or {}).get(recipes.RECIPE)
        if recipe and _run is None and benchmarks.parse_task(name) is not None:
            raise ConfigError(
                f"recipe={recipe} is applied whole by `lm_eval run` and `mmaupro run` alone, not by "
                "simple_evaluate."
            )


# --- whose answers are kept ---------------------------------------------------------------------


def keep_answers(module: Any) -> None:
    """Let a journal take the place of the response cache where a model of ours is to have one."""
    theirs = module.CachingLM
    if not _once(theirs):
        return

    class CachingLM(theirs):  # type: ignore[misc, valid-type]
        __doc__ = theirs.__doc__

        def __new__(cls, lm: Any, cache_db: str) -> Any:
            if plugin.is_ours(lm):
                return _with_journal(lm, re.sub(r"_rank\d+\.db$", "", cache_db))
            return super().__new__(cls)

    setattr(CachingLM, _PATCHED, True)
    module.CachingLM = CachingLM


def _with_journal(model: Any, place: str | os.PathLike[str]) -> Any:
    """Return a model whose answers are kept at a place, and found there."""
    from mmaupro_ext.models.resuming import Resumed

    if _run is None:
        return Resumed(model, place)
    _run.resumed = Resumed(model, place, command.settings_of(_run.config, _run.options))
    return _run.resumed


def keep_requests_apart(module: Any) -> None:
    """Let lm_eval's cache of requests tell the data, prompts and settings of a task of ours apart."""
    original = module.Task.build_all_requests
    if getattr(original, _PATCHED, False):  # not the class: single tasks bear that mark
        return

    def build_all_requests(self: Any, **options: Any) -> None:
        if options.get("cache_requests") and requests_cache.is_our_task(self):
            name = options.get("tokenizer_name") or ""
            options["tokenizer_name"] = (
                f"{name}-data{requests_cache.digest_of_requests(self, options)}"
            )
        original(self, **options)

    setattr(build_all_requests, _PATCHED, True)
    module.Task.build_all_requests = build_all_requests


# --- what is written -----------------------------------------------------------------------------


def log_what_was_heard(module: Any) -> None:
    """Write the record that each answer carries into its sample, their totals beside the results.

    Notes in the run which files lm_eval has really written: it only logs a warning when it cannot.
    """
    tracker = module.EvaluationTracker
    if not _once(tracker):
        return
    save_results, save_samples = tracker.save_results_aggregated, tracker.save_results_samples

    def save_results_aggregated(self: Any, results: Any, samples: Any = None) -> None:
        _name_the_served_model(self.general_config_tracker, results.get("config") or {})
        if _ablation is None:
            save_aggregated(self, results, samples)
            return
        for name, part, some in _ablation.parts(results, samples):
            with _in_folder_of(self, name):
                save_aggregated(self, part, some)
                _ablation.written[name] = _results_file(self)
        if (
            _run is not None
        ):  # what is said at the end is of all conditions, answers of the journal too
            from mmaupro_ext import heard

            total = heard.totals_of_samples(samples or {})
            _run.results = {**results, "config": {**results["config"], "heard": total}}
            _run.config.limit = _ablation.limit

    def save_aggregated(self: Any, results: Any, samples: Any) -> None:
        from mmaupro_ext import heard

        if benchmarks.asks_for_ours(list(results.get("configs") or ())):
            from mmaupro_ext.compat import ablation, recipe_runs

            ablation.mark(results, samples)
            recipe_runs.mark(results, samples)
        total = heard.totals_of_samples(samples or {})
        if total is not None:
            results.setdefault("config", {})["heard"] = total
        if _run is not None and _run.is_ours(plugin.MODELS):
            results.setdefault("config", {})["peak_memory"] = util.peak_memory()
        vars(self).pop("date_id", None)  # set when lm_eval gets as far as naming the file
        save_results(self, results=results, samples=samples)
        if _run is not None:
            _run.saved_results(results, self.output_path, _results_file(self), samples)

    def save_results_samples(self: Any, task_name: str, samples: Any) -> None:
        from mmaupro_ext import heard

        for sample in samples:
            heard.annotate(sample)
        task, _, condition = task_name.partition(benchmarks.UNDER)
        with _in_folder_of(self, condition):
            save_samples(self, task_name=task, samples=samples)
            if _run is not None:
                file = _results_file(self)
                if file is not None:
                    name = f"samples_{task}_{self.date_id}.jsonl"
                    _run.saved_samples(file.with_name(name), len(samples))

    tracker.save_results_aggregated = save_results_aggregated
    tracker.save_results_samples = save_results_samples


def _name_the_served_model(general: Any, config: Any) -> None:
    """Call a run by the model that its server named, where its arguments name none: lm_eval draws letters."""
    served = config.get("served_model")
    if served and general._get_model_name(config.get("model_args")) is None:
        from lm_eval.utils import sanitize_model_name

        general.model_name, general.model_name_sanitized = served, sanitize_model_name(served)


@contextlib.contextmanager
def _in_folder_of(tracker: Any, condition: str) -> Iterator[None]:
    """Let lm_eval write into the folder of a condition, under its own time; without an ablation as ever."""
    if _ablation is None:
        yield
        return
    general, output_path = tracker.general_config_tracker, tracker.output_path
    name = str(general.model_name_sanitized)
    if output_path:
        condition = condition or "full"
        folder = _ablation.folder or Path(output_path) / name
        tracker.output_path, general.model_name_sanitized = str(folder), condition
        file = _ablation.written.get(condition)
        if file is not None:
            tracker.date_id = file.stem.removeprefix("results_")
    try:
        yield
    finally:
        tracker.output_path, general.model_name_sanitized = output_path, name


@contextlib.contextmanager
def asking_under(wanted: Any) -> Iterator[None]:
    """Have the runs of lm_eval within this context asked under conditions (`ablation.Ablation`)."""
    global _ablation
    _ablation = wanted
    try:
        yield
    finally:
        _ablation = None


def _results_file(tracker: Any) -> Path | None:
    """Return the path that lm_eval gave the results, or None where it did not get that far."""
    if not tracker.output_path or not hasattr(tracker, "date_id"):
        return None
    path = Path(tracker.output_path)
    if path.suffix == ".json":
        return path.with_name(f"{path.stem}_{tracker.date_id}.json")
    folder = path / str(tracker.general_config_tracker.model_name_sanitized)
    return folder / f"results_{tracker.date_id}.json"


# --- what is said --------------------------------------------------------------------------------


def tidy_the_run(module: Any) -> None:
    """End a run of ours with sentences: its errors, its interruption, where its files are."""
    if not _once(module.Run):
        return
    original, add_arguments = module.Run._execute, module.Run._add_args
    _add_footnotes()

    def _add_args(self: Any) -> None:
        add_arguments(self)
        command.add_options(self._parser)

    def _execute(args: Any) -> None:
        global _run
        from mmaupro_ext.errors import MMAUProError
        from mmaupro_ext.report import after_run

        _log_as_lm_eval_does()
        run = _run = after_run.Run()
        try:
            run.options = command.take_options(vars(args))
            original(args)
        except MMAUProError as error:
            print(f"\nmmaupro-ext: {error}", file=sys.stderr)
            sys.last_value = error  # the other processes are not waited for at the end of this one
            raise SystemExit(2) from None
        except KeyboardInterrupt as interruption:
            if not run.is_ours(plugin.MODELS):
                raise
            status = command.status_of(interruption)
            if os.environ.get("RANK", "0") == "0":
                print(f"\n{run.interrupted(command.command_line())}", file=sys.stderr)
            raise SystemExit(status) from None
        except Exception as error:
            if run.is_ours(plugin.MODELS):
                versions.explain(error)
            raise
        finally:
            command.as_before()
            _run = None
        if run.is_ours(plugin.MODELS):
            if _ablation is not None and run.results_file is not None:
                run.results_file = run.results_file.parent.with_name("<condition>")
            run.say_where()

    module.Run._add_args = _add_args
    module.Run._execute = staticmethod(_execute)


def _add_footnotes() -> None:
    """Show our tasks in a table of our own, and below it what a reader must know to read it."""
    from lm_eval import utils

    original = utils.make_table

    def make_table(
        result_dict: dict[str, Any], column: str = "results", sort_results: bool = False
    ) -> str:
        from mmaupro_ext.report import after_run, run_table

        if _ablation is not None:
            return ""  # the profile says it
        if _run is None or _run.options.get(command.FULL_TABLE):
            table = original(result_dict, column, sort_results)
            return "\n".join([table, *after_run.footnotes(result_dict)])
        _, others = run_table.split(result_dict)
        parts = [original(others, column, sort_results)] if others.get(column) else []
        if column == "results":
            parts += [run_table.render(result_dict, _run.samples)]
            parts += after_run.footnotes(result_dict)
        return "\n".join(filter(None, parts))

    utils.make_table = make_table


def _tells_something(record: Any) -> bool:
    """Leave out lm_eval's hint on custom datasets: once a task and condition, it would bury what matters."""
    task, hint, _ = str(record.msg).partition(": Custom kwargs can be passed")
    return not hint or benchmarks.parse_task(task.partition(benchmarks.UNDER)[0]) is None


def _log_as_lm_eval_does() -> None:
    """Show our log lines like lm_eval's own: same handlers, format and level."""
    import logging

    from mmaupro_ext.masking import Masking

    theirs, ours = logging.getLogger("lm_eval"), logging.getLogger("mmaupro_ext")
    for handler in theirs.handlers:
        handler.addFilter(Masking())
        handler.addFilter(_tells_something)
    if theirs.handlers and not ours.handlers:
        ours.handlers = list(theirs.handlers)
        ours.setLevel(theirs.level)
        ours.propagate = False


def _both(one: Callable[[Any], None], other: Callable[[Any], None]) -> Callable[[Any], None]:
    def both(module: Any) -> None:
        one(module)
        other(module)

    return both


PATCHES: dict[str, Callable[[Any], None]] = {
    "lm_eval.models": add_models,
    "lm_eval.tasks.manager": add_tasks,
    "lm_eval.config.evaluate_config": check_data_first,
    "lm_eval.evaluator": _both(look_at_tasks, secret_arguments.hide_in_simple_evaluate),
    "lm_eval.api.model": _both(keep_answers, secret_arguments.reveal_to_models),
    "lm_eval.api.task": keep_requests_apart,
    "lm_eval.loggers": _both(log_what_was_heard, loggers.extend_all),
    "lm_eval._cli.run": tidy_the_run,
}
