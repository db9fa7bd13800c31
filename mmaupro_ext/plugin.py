"""Make lm_eval 0.4.13 find our model classes and tasks.

lm_eval releases after 0.4.13 discover both through the entry points that pyproject.toml declares.
0.4.13 discovers nothing, so the wheel carries a one-line start-up file (``mmaupro_ext_hook.pth``)
that calls `install`. It imports nothing of lm_eval: it only watches for the import of six lm_eval
modules and, when one has been imported, adds what is missing:

=================================  =====================================================
``lm_eval.models``                 our model names join the built-in ones
``lm_eval.tasks.manager``          our task folder joins the built-in one
``lm_eval.config.evaluate_config`` a run that asks for MMAU-Pro without its data stops
                                   before the model is loaded
``lm_eval.evaluator``              a model of ours sees the tasks before anything runs, and
                                   refuses what it cannot answer
``lm_eval.loggers``                what was heard joins the samples and the results
``lm_eval._cli.run``               our errors end a run with a sentence, not a traceback;
                                   footnotes below the table (random weights, partial data);
                                   after a run, say where its files are
=================================  =====================================================

Promises: never raises at start-up, never hides a built-in model or task, steps aside where lm_eval
discovers plug-ins itself, and does nothing when ``MMAUPRO_NO_HOOK=1`` is set.
``mmaupro run`` and ``python -m mmaupro_ext run`` call `install` themselves, so they also work in
editable installs, which carry no start-up file.

This module is imported by every Python process of the environment: keep it to the standard library,
and keep what it imports at the top to `sys` and `os`.
"""

from __future__ import annotations

import os
import sys
from typing import Any

OFF_SWITCH = "MMAUPRO_NO_HOOK"

# The target strings must equal the class's own "module:name", or lm_eval sees a clash of names
# when the class registers itself.
MODELS = {
    "hf-audio": "mmaupro_ext.models.hf_audio:HFAudioLM",
    "openai-audio": "mmaupro_ext.models.openai_audio:OpenAIAudioLM",
    "vllm-audio": "mmaupro_ext.models.vllm_audio:VLLMAudioLM",
}

REAL_PREFIXES = ("mmaupro_", "mmaupro-ll_")
REAL_GROUP, LOGLIKELIHOOD_GROUP = "mmaupro", "mmaupro-ll"


def tasks_dir() -> str:
    """Return the folder that holds the task YAML files.

    Returns
    -------
    str
        Absolute path: inside the installed package, or at the top of a source checkout.
    """
    package = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(package, "tasks"), os.path.join(os.path.dirname(package), "tasks")):
        if os.path.isdir(os.path.join(folder, "mmaupro")):
            return folder
    raise FileNotFoundError(
        f"the task folder is missing beside {package}; reinstall mmaupro-ext (pip install --force-"
        "reinstall mmaupro-ext)"
    )


def _add_models(module: Any) -> None:
    from lm_eval.api import registry

    if _discovers_plugins(registry):
        return
    for name, target in MODELS.items():
        if name not in registry.model_registry:
            registry.model_registry.register(name, target=target)


def _discovers_plugins(registry: Any) -> bool:
    """Return whether this lm_eval reads the `lm_eval.models` entry points by itself."""
    import inspect

    try:
        return "entry_points(" in inspect.getsource(registry)
    except (
        OSError,
        TypeError,
    ):  # no source at hand: a second registration of the same target is harmless
        return False


def _add_tasks(module: Any) -> None:
    if hasattr(module, "discover_plugin_task_paths"):
        return
    manager = module.TaskManager
    if getattr(manager, "_mmaupro_ext", False):
        return
    original = manager.__init__

    def __init__(  # noqa: N807 - takes the place of the class's own
        self: Any,
        verbosity: str | None = None,
        include_path: Any = None,
        include_defaults: bool = True,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        ours = tasks_dir()
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

    manager.__init__ = __init__
    manager._mmaupro_ext = True


def _check_data_first(module: Any) -> None:
    config = module.EvaluatorConfig
    if getattr(config, "_mmaupro_ext", False):
        return
    original = config.process_tasks

    def process_tasks(self: Any, metadata: dict[str, Any] | None = None) -> Any:
        if "mmaupro" not in str(self.tasks):
            return original(self, metadata)
        from mmaupro_ext import __version__, data

        # The tasks get this very dictionary as their metadata, and lm_eval writes it beside the results.
        noted = {**(metadata or self.metadata or {}), "mmaupro_ext": __version__}
        manager = original(self, noted)
        categories = _real_categories(self.tasks, data.CATEGORIES)
        if categories:
            part = data.prepare_run(categories, noted.get("data_dir"))
            if part:
                noted["mmaupro_data"] = part
        return manager

    config.process_tasks = process_tasks
    config._mmaupro_ext = True


def _real_categories(tasks: Any, known: Any) -> list[str]:
    """Return the categories of the real benchmark that a list of resolved task names asks for."""
    names = [
        task if isinstance(task, str) else str(task.get("task") or task.get("group") or "")
        for task in tasks
    ]
    asked = {name.removeprefix(prefix) for name in names for prefix in REAL_PREFIXES}
    return [
        name
        for name, category in known.items()
        if name in asked
        or REAL_GROUP in names
        or (LOGLIKELIHOOD_GROUP in names and category.kind == "closed")
    ]


def _tidy_the_run(module: Any) -> None:
    run = module.Run
    if getattr(run, "_mmaupro_ext", False):
        return
    original = run._execute
    _add_footnotes()

    def _execute(args: Any) -> None:
        if not _is_ours(args):
            original(args)
            return
        from mmaupro_ext.errors import MMAUProError

        _log_as_lm_eval_does()
        try:
            original(args)
        except MMAUProError as error:
            print(f"\nmmaupro-ext: {error}", file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            cache = getattr(args, "use_cache", None)
            print(
                f"\nInterrupted. The finished replies are kept in {cache}_rank*.db: the same command "
                "goes on from there."
                if cache
                else "\nInterrupted; nothing was kept. Start with --use_cache PATH and an interrupted "
                "run goes on where it stopped.",
                file=sys.stderr,
            )
            raise SystemExit(130) from None
        from mmaupro_ext import after_run

        after_run.say_where(args)

    run._execute = staticmethod(_execute)
    run._mmaupro_ext = True


def _add_footnotes() -> None:
    """Write below every results table what a reader must know to read it."""
    from lm_eval import utils

    original = utils.make_table

    def make_table(
        result_dict: dict[str, Any], column: str = "results", sort_results: bool = False
    ) -> str:
        from mmaupro_ext import after_run

        table = original(result_dict, column, sort_results)
        return "\n".join([table, *after_run.footnotes(result_dict)])

    utils.make_table = make_table


def _check_tasks_first(module: Any) -> None:
    """Let a model say that it cannot answer some task before hours are spent on the others."""
    if getattr(module.evaluate, "_mmaupro_ext", False):
        return
    original = module.evaluate

    def evaluate(*arguments: Any, **options: Any) -> Any:
        given = dict(zip(("lm", "task_dict"), arguments, strict=False)) | options
        lm, tasks = given.get("lm"), given.get("task_dict")
        tasks = tasks.get("tasks") if isinstance(tasks, dict) else None
        check = getattr(
            getattr(lm, "lm", lm), "check_tasks", None
        )  # under lm_eval's response cache
        if check is not None and tasks:
            check(tasks)
        return original(*arguments, **options)

    evaluate.__doc__ = original.__doc__
    evaluate._mmaupro_ext = True  # type: ignore[attr-defined]
    module.evaluate = evaluate


def _log_what_was_heard(module: Any) -> None:
    """Write the record that each answer carries into its sample, and their totals beside the results."""
    tracker = module.EvaluationTracker
    if getattr(tracker, "_mmaupro_ext", False):
        return
    save_results, save_samples = tracker.save_results_aggregated, tracker.save_results_samples

    def save_results_aggregated(self: Any, results: Any, samples: Any = None) -> None:
        from mmaupro_ext import heard

        total = heard.totals_of_samples(samples or {})
        if total is not None:
            results.setdefault("config", {})["heard"] = total
        save_results(self, results=results, samples=samples)

    def save_results_samples(self: Any, task_name: str, samples: Any) -> None:
        from mmaupro_ext import heard

        for sample in samples:
            record = heard.record_of(sample["resps"])
            if record is not None:
                sample["heard"] = record
        save_samples(self, task_name=task_name, samples=samples)

    tracker.save_results_aggregated = save_results_aggregated
    tracker.save_results_samples = save_results_samples
    tracker._mmaupro_ext = True


def _log_as_lm_eval_does() -> None:
    """Show our log lines like lm_eval's own: same handlers, format and level."""
    import logging

    theirs, ours = logging.getLogger("lm_eval"), logging.getLogger("mmaupro_ext")
    if theirs.handlers and not ours.handlers:
        ours.handlers = list(theirs.handlers)
        ours.setLevel(theirs.level)
        ours.propagate = False


def _is_ours(args: Any) -> bool:
    """Return whether a command line names our models or tasks; every other run stays untouched."""
    named = [getattr(args, "model", None), getattr(args, "tasks", None)]
    config = getattr(args, "config", None)
    if config:
        try:
            with open(config, encoding="utf-8") as file:
                named.append(file.read())
        except OSError:  # lm_eval itself says what is wrong with the file
            pass
    text = " ".join(str(name) for name in named if name)
    return "mmaupro" in text or any(name in text for name in MODELS)


WATCHED = {
    "lm_eval.models": _add_models,
    "lm_eval.tasks.manager": _add_tasks,
    "lm_eval.config.evaluate_config": _check_data_first,
    "lm_eval.evaluator": _check_tasks_first,
    "lm_eval.loggers": _log_what_was_heard,
    "lm_eval._cli.run": _tidy_the_run,
}


def _apply(name: str, module: Any) -> None:
    """Run the addition for one lm_eval module; a failure must never break the user's lm_eval."""
    try:
        WATCHED[name](module)
    except Exception as error:
        import warnings

        warnings.warn(
            f"mmaupro-ext could not plug into {name} ({error!r}); its models or tasks are missing. "
            f"Use `mmaupro run` with lm_eval 0.4.13, or set {OFF_SWITCH}=1 to silence this.",
            stacklevel=2,
        )


class _AfterImport:
    """Finder that finds nothing itself: it adds a step after the import of the watched modules."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in WATCHED:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                break
        else:
            return None
        loader = spec.loader
        if loader is None or not hasattr(loader, "exec_module"):
            return spec
        run_module = loader.exec_module

        def exec_module(module: Any) -> None:
            run_module(module)
            _apply(name, module)

        try:  # noqa: SIM105 - contextlib would be one more import in every process
            loader.exec_module = exec_module  # type: ignore[method-assign]
        except AttributeError:  # a loader that allows no change: leave the import alone
            pass
        return spec


def install() -> None:
    """Watch for lm_eval's modules; apply at once to those already imported.

    Calling it again changes nothing. Does nothing when the environment variable
    ``MMAUPRO_NO_HOOK`` is set to anything but the empty string. Never raises.
    """
    if os.environ.get(OFF_SWITCH):
        return
    if not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())  # type: ignore[arg-type]
    for name in WATCHED:
        if name in sys.modules:
            _apply(name, sys.modules[name])
