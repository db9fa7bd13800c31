"""Write the leaf and group YAML files of all task folders: `python -m task_configs`.

The files are committed, as lm_eval wants; this script only keeps them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mmaupro_ext.data import CATEGORIES, Category

FOLDER = Path(__file__).parents[1] / "tasks"
OPEN_METRICS = """\
metric_list:
  - metric: errored
    aggregation: mean
    higher_is_better: false
"""
GROUP_METRICS = ("acc", "parsed", "errored")
FAMILIES = {  # folder and group name, separator of the leaf names, dataset
    "mmaupro": ("mmaupro", "full"),
    "mmaupro_sample": ("mmaupro-sample", "sample"),
}
LIKELIHOOD_METRICS = ("acc", "acc_norm", "errored")
LIKELIHOOD_FAMILIES = {  # closed categories only
    "mmaupro_ll": ("mmaupro-ll", "full"),
    "mmaupro_sample_ll": ("mmaupro-sample-ll", "sample"),
}
TEXT_FAMILIES = {  # closed categories only
    "mmaupro_text": ("mmaupro-text", "full"),
    "mmaupro_sample_text": ("mmaupro-sample-text", "sample"),
}
CLOSED_CATEGORIES = {
    slug: category for slug, category in CATEGORIES.items() if category.kind == "closed"
}


def leaf(group: str, dataset: str, category: Category) -> str:
    """Return the YAML of one category."""
    alias = (
        f"{category.slug} (unscored: needs a judge)" if category.kind == "open" else category.slug
    )
    text = (
        "include: _template_yaml\n"
        f"task: {group}_{category.slug}\n"
        f'task_alias: "{alias}"\n'
        "dataset_kwargs:\n"
        f"  mmaupro_dataset: {dataset}\n"
        f"  mmaupro_category: {category.slug}\n"
    )
    return text + (OPEN_METRICS if category.kind == "open" else "")


def group_file(group: str) -> str:
    """Return the YAML of the group: sample-weighted means over the categories that have the metric."""
    alias = f"{group} (acc, parsed: closed + instruction; open unscored)"
    return _group_text(group, alias, CATEGORIES, GROUP_METRICS)


def likelihood_group_file(group: str) -> str:
    """Return the YAML of a group of log-likelihood tasks."""
    alias = f"{group} (letters by log-likelihood; closed only)"
    return _group_text(group, alias, CLOSED_CATEGORIES, LIKELIHOOD_METRICS)


def text_group_file(group: str) -> str:
    """Return the YAML of a group of tasks that ask for an option's text."""
    alias = f"{group} (asked for the option's text; closed only)"
    return _group_text(group, alias, CLOSED_CATEGORIES, GROUP_METRICS, version="1.0")


def _group_text(
    group: str,
    alias: str,
    slugs: Iterable[str],
    metric_names: Iterable[str],
    version: str = "2.0",
) -> str:
    tasks = "".join(f"  - {group}_{slug}\n" for slug in slugs)
    metrics = "".join(
        f"  - metric: {name}\n    aggregation: mean\n    weight_by_size: true\n"
        for name in metric_names
    )
    return (
        f"group: {group}\n"
        f'group_alias: "{alias}"\n'
        f"task:\n{tasks}aggregate_metric_list:\n{metrics}metadata:\n  version: {version}\n"
    )


def main() -> None:
    """Write every file."""
    for families, group_text, categories in (
        (FAMILIES, group_file, CATEGORIES),
        (LIKELIHOOD_FAMILIES, likelihood_group_file, CLOSED_CATEGORIES),
        (TEXT_FAMILIES, text_group_file, CLOSED_CATEGORIES),
    ):
        for folder, (group, dataset) in families.items():
            (FOLDER / folder / f"_{folder}.yaml").write_text(group_text(group), encoding="utf-8")
            for category in categories.values():
                file = FOLDER / folder / f"{folder}_{category.slug}.yaml"
                file.write_text(leaf(group, dataset, category), encoding="utf-8")


if __name__ == "__main__":
    main()
