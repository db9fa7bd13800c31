"""Items under conditions in a run of lm_eval: what is added to its tasks, its samples and its results.

A run has one condition by `--metadata condition=NAME`, or several by `mmaupro ablate`: then each task is
there once a condition (`mmau_sound@noise`), so that lm_eval hands the requests of all of them to the model
together, and each condition's results and samples go into a folder of their own, in which tasks have their
usual names.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmaupro_ext import benchmarks
from mmaupro_ext.compat.preflight import leaves_of
from mmaupro_ext.data import conditions
from mmaupro_ext.data.asking import CONDITION, ITEMS, REPHRASINGS, NothingToAskError
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.models.identity import identity_of

logger = logging.getLogger(__name__)

NOT_ASKED = "not_asked"
"""Key of a task's metadata in the results: why items are not asked under its condition -> how many."""

# Its model may be one that takes text alone.
_TEXT_MODEL = "text-backbone"
# Its questions come from the user.
_REPHRASE = "rephrase"

# What results files say by task.
_BY_TASK = (
    ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    + ("group_subtasks", "task_hashes")
)  # fmt: skip


@dataclass
class Ablation:
    """What `mmaupro ablate` asks of one run of lm_eval, and what came of it.

    Parameters
    ----------
    conditions : tuple of str
        Keys of `data.conditions.CONDITIONS`.
    full : bool
        Whether the items are asked as they are as well.
    folder : Path, optional
        Where the folders of the conditions go; default: where lm_eval puts the model's results.

    Attributes
    ----------
    limit : int or None
        How many items of each task are asked; None: all.
    not_asked : dict of str to Counter of str
        Condition -> why items were not asked -> how many.
    written : dict of str to Path
        Condition -> its results file.
    """

    conditions: tuple[str, ...]
    full: bool = True
    folder: Path | None = None
    limit: int | None = None
    not_asked: dict[str, Counter[str]] = field(default_factory=dict)
    written: dict[str, Path] = field(default_factory=dict)

    def expand(self, config: Any, manager: Any, metadata: dict[str, Any]) -> None:
        """Put the tasks of a configuration once a condition, and let its limit count items.

        Parameters
        ----------
        config : lm_eval.config.evaluate_config.EvaluatorConfig
            With its tasks resolved; changed in place.
        manager : lm_eval.tasks.TaskManager
            Knows the tasks.
        metadata : dict
            That the tasks will get; changed in place.

        Raises
        ------
        ConfigError
            For a task that has no conditions, options that would ask under others, and conditions under which
            nothing can be asked.
        """
        if metadata.get(CONDITION):
            raise ConfigError("--metadata condition=…: name conditions with --conditions instead")
        if config.samples:
            raise ConfigError("--samples: an ablation takes --limit, or all items of its tasks")
        if config.limit is not None:
            if config.limit != int(config.limit) or config.limit < 1:
                raise ConfigError(
                    f"--limit {config.limit}: give a whole number of items per task, 1 or more"
                )
            self.limit = metadata[ITEMS] = int(config.limit)
            config.limit = None
        specs: list[Any] = []
        found: set[str] = set()
        kinds: dict[str, str] = {}
        for leaf in leaves_of(config.tasks, manager):
            asked, entry = benchmarks.parse_task(leaf), manager.task_index.get(leaf)
            if asked is None or entry is None or entry.yaml_path is None or asked.variant == "ll":
                raise ConfigError(
                    f"{leaf}: only tasks of ours that ask for a reply are asked under conditions: "
                    f"{', '.join(benchmarks.BENCHMARKS)}, their samples and their variants but -ll"
                )
            kind = leaf.removesuffix(f"_{asked.part}")
            if kinds.setdefault(asked.benchmark, kind) != kind:
                raise ConfigError(
                    f"{kinds[asked.benchmark]} and {kind}: a profile is of one prompt and one set of items. "
                    "Give each an ablation of its own"
                )
            if self.full:
                specs.append(leaf)
            for name in self.conditions:
                if (task := self._under(name, leaf, entry.yaml_path, metadata)) is not None:
                    specs.append(task)
                    found.add(name)
        if _REPHRASE in self.conditions and _REPHRASE not in found:
            raise ConfigError(
                f"{metadata.get(REPHRASINGS)}: none of its ids is of an item that is asked. Give the ids of "
                "items of these tasks (of the first ones, with --limit)"
            )
        self.refuse_full_alone(found)
        config.tasks = specs

    def refuse_full_alone(self, asked: Set[str]) -> None:
        """Raise ConfigError where of the conditions that were named none is asked."""
        if self.conditions and not asked:
            from mmaupro_ext.report.after_run import not_asked_line

            lines = [not_asked_line(name, why) for name, why in self.not_asked.items()]
            raise ConfigError(
                f"no item of these tasks can be asked otherwise than it is ({', '.join(lines)}). Name other "
                "conditions, or other tasks"
            )

    def _under(
        self, name: str, leaf: str, yaml: Any, metadata: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        """Return the configuration of a task under a condition; None where no item can be asked."""
        from lm_eval.tasks._yaml_loader import load_yaml

        loaded = load_yaml(yaml, resolve_func=True)
        own = {**loaded["metadata"], CONDITION: name}
        counts = self.not_asked.setdefault(name, Counter())
        try:
            split = loaded["custom_dataset"](**{**own, **metadata}, **loaded["dataset_kwargs"])
        except NothingToAskError as error:
            counts.update(error.not_asked)
            return None
        counts.update(split["test"].not_asked)
        if (
            name == _TEXT_MODEL
        ):  # lm_eval asks no model without audio about a task that could have some
            loaded = {key: value for key, value in loaded.items() if key != "doc_to_audio"}
        return {**loaded, "task": f"{leaf}{benchmarks.UNDER}{name}", "metadata": own}

    def parts(
        self, results: Mapping[str, Any], samples: Mapping[str, Any] | None
    ) -> Iterator[tuple[str, dict[str, Any], Mapping[str, Any] | None]]:
        """Yield each condition with its results and samples, tasks by their usual names."""
        by_condition: dict[str, dict[str, str]] = {}
        for task in results["configs"]:
            leaf, _, name = task.partition(benchmarks.UNDER)
            by_condition.setdefault(name or conditions.FULL, {})[task] = leaf
        for name, names in by_condition.items():
            part = {**results, "config": {**results["config"], "limit": self.limit}}
            part["config"].pop(
                "heard", None
            )  # of all conditions; that of this one is added up anew
            for key in _BY_TASK:
                if key in part:
                    found = {names[t]: v for t, v in part[key].items() if t in names}
                    part[key] = found
            for task, config in part["configs"].items():
                part["configs"][task] = {**config, "task": task}
            some = samples and {names[t]: v for t, v in samples.items() if t in names}
            yield name, part, some


def leave_out_what_changes_nothing(
    tasks: dict[str, Any], model: Any, ablation: Ablation | None
) -> None:
    """Leave out the tasks of conditions that cannot tell anything of a model as it is given sound.

    Parameters
    ----------
    tasks : dict
        Name -> lm_eval's task; what an ablation has no use for is taken out of it, and counted there.
    model : lm_eval.api.model.LM
        That will be asked.
    ablation : Ablation or None
        Whose run it is; None: that of a user who named the condition.

    Raises
    ------
    ConfigError
        For a user who named the condition, with the way out.
    """
    for name, task in list(tasks.items()):
        condition = str((getattr(task.config, "metadata", None) or {}).get(CONDITION) or "")
        why = _of_no_use(condition, model)
        if why is None:
            continue
        if ablation is None:
            raise ConfigError(f"condition={condition}: {why}")
        ablation.not_asked[condition][why] += len({doc["id"] for doc in task.eval_docs})
        del tasks[name]
    if ablation is not None:
        ablation.refuse_full_alone(
            {condition for name in tasks if (condition := name.partition(benchmarks.UNDER)[2])}
        )


def _of_no_use(condition: str, model: Any) -> str | None:
    """Return why a condition tells nothing of a model, and what to change; None where it does."""
    if getattr(model, "sends_files", False) and conditions.alters_sound(condition):
        return (
            "send=original gives files as they are, which altered sound is not: rate and channels would "
            "differ, too. Choose send=wav or send=flac"
        )
    if condition == "mono" and getattr(model, "channels", None) == "mono":
        return (
            "the model is given left and right mixed anyway (channels=mono), so nothing would change. Choose "
            "channels=stereo-as-two"
        )
    return None


def note_not_asked(tasks: Mapping[str, Any]) -> None:
    """Have the results of tasks say why items are not asked under their condition, and say it now."""
    counts: dict[str, Counter[str]] = {}
    for task in tasks.values():
        split = getattr(task, "dataset", None)
        found = getattr(split.get("test"), NOT_ASKED, None) if isinstance(split, dict) else None
        if found:
            task.config.metadata[NOT_ASKED] = found
            counts.setdefault(task.config.metadata[CONDITION], Counter()).update(found)
    from mmaupro_ext.report.after_run import not_asked_line

    for name, reasons in counts.items():
        logger.warning("not asked %s", not_asked_line(name, reasons))


def mark(results: dict[str, Any], samples: Mapping[str, Sequence[dict[str, Any]]] | None) -> None:
    """Write the condition of a run into its results and samples, wherever they tell runs apart.

    Parameters
    ----------
    results : dict
        As lm_eval is about to write them, of one condition; changed in place: digests of prompts, the
        identity, and `config.condition`. Runs without a condition stay as they are.
    samples : mapping, optional
        Task -> its samples; their digests of prompts are changed.
    """
    configs = results.get("configs") or {}
    found = {}
    for task, config in configs.items():
        metadata = config.get("metadata") or {}
        if benchmarks.parse_task(task) is None or metadata.get(CONDITION) is None:
            continue
        found[task] = {"condition": {"name": metadata[CONDITION]}}
        if "prompt_sha256" in metadata:
            digest = conditions.digest_with(metadata["prompt_sha256"], found[task])
            config["metadata"] = {**metadata, "prompt_sha256": digest}
    if not found:
        return
    names = sorted({told["condition"]["name"] for told in found.values()})
    config = results.setdefault("config", {})
    config["condition"] = ", ".join(names)
    if (identity := config.get("identity")) is not None:
        fields = {name: value for name, value in identity.items() if name != "id"}
        config["identity"] = identity_of(**{**fields, "condition": config["condition"]}).as_dict()
    for task in found:
        for sample in (samples or {}).get(task, ()):
            digest = conditions.digest_with(sample["prompt_hash"], sample["doc"])
            sample["prompt_hash"] = digest
