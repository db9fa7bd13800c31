"""Write the leaf and group YAML files of all task folders: `python -m task_configs`.

The files are committed, as lm_eval wants; this script only keeps them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mmaupro_ext.benchmarks import BENCHMARKS, SUITE, VARIANTS, Benchmark
from mmaupro_ext.data import CATEGORIES, Category
from mmaupro_ext.data.questions import prompt_digest

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
    whole: str | None = None,
) -> str:
    tasks = "".join(f"  - {whole or group}_{slug}\n" for slug in slugs)
    metrics = "".join(
        f"  - metric: {name}\n    aggregation: mean\n    weight_by_size: true\n"
        for name in metric_names
    )
    return (
        f"group: {group}\n"
        f'group_alias: "{alias}"\n'
        f"task:\n{tasks}aggregate_metric_list:\n{metrics}metadata:\n  version: {version}\n"
    )


# --- benchmarks that are described by their rows ---------------------------------------------------

VERSION = "1.0"  # of all their tasks; changelogs are in the READMEs
HIDDEN_METRICS = ("parsed", "errored")


def benchmark_files(benchmark: Benchmark) -> dict[Path, str]:
    """Return the YAML of all tasks and groups of a benchmark, by path below the task folder."""
    found: dict[Path, str] = {}
    for sample in (False,) if benchmark.hidden else (False, True):
        for variant in benchmark.asked_as:
            group = benchmark.task(variant, sample)
            folder = Path(benchmark.name.replace("-", "_"), group)
            texts = {f"_{group}": benchmark_group(benchmark, variant, sample)}
            for part in benchmark.parts:
                name = f"{group}_{part}"
                texts[f"_{name}"] = benchmark_group(benchmark, variant, sample, part)
            for category in benchmark.categories:
                name = f"{group}_{category.slug}"
                texts[name] = benchmark_leaf(benchmark, category, variant, sample)
            found |= {folder / f"{name}.yaml": text for name, text in texts.items()}
    return found


def metrics_of(benchmark: Benchmark, variant: str) -> tuple[str, ...]:
    """Return the metrics of a benchmark's tasks."""
    if benchmark.hidden:
        return HIDDEN_METRICS
    return LIKELIHOOD_METRICS if variant == "ll" else GROUP_METRICS


def benchmark_leaf(benchmark: Benchmark, category: Category, variant: str, sample: bool) -> str:
    """Return the YAML of one category."""
    prompt = VARIANTS[variant]
    template = "mmaupro_ll" if variant == "ll" else "mmaupro"
    text = (
        f"include: ../../{template}/_template_yaml\n"
        f"task: {benchmark.task(variant, sample, category.slug)}\n"
        f'task_alias: "{category.slug}"\n'
        "dataset_kwargs:\n"
        f"  mmaupro_benchmark: {benchmark.name}\n"
        f"  mmaupro_category: {category.slug}\n"
        f"  mmaupro_dataset: {'sample' if sample else 'full'}\n"
        f"  mmaupro_prompt: {prompt}\n"
    )
    if benchmark.hidden:
        text += "metric_list:\n" + "".join(
            f"  - metric: {name}\n    aggregation: mean\n    higher_is_better: {better}\n"
            for name, better in zip(HIDDEN_METRICS, ("true", "false"), strict=True)
        )
    return text + (
        f"metadata:\n  version: {VERSION}\n"
        f"  prompt: {prompt}\n"
        f"  prompt_sha256: {prompt_digest(benchmark.name, prompt)}\n"
    )


def benchmark_group(benchmark: Benchmark, variant: str, sample: bool, part: str = "") -> str:
    """Return the YAML of all of a benchmark, or of a part of it."""
    group = benchmark.task(variant, sample, part)
    slugs = benchmark.parts[part] if part else (*benchmark.parts,) or (*benchmark.by_slug,)
    metrics = metrics_of(benchmark, variant)
    about = "answers withheld: replies are kept, not scored" if benchmark.hidden else ""
    alias = f"{group} ({about or ', '.join(metrics[:2])})"
    whole = benchmark.task(variant, sample)
    return _group_text(group, alias, slugs, metrics, VERSION, whole)


def suite_file(sample: bool) -> str:
    """Return the YAML of the group that runs all benchmarks, each with its own row and no row over all."""
    group = f"{SUITE}-sample" if sample else SUITE
    names = "".join(
        f"  - {one.task(sample=sample)}\n" for one in BENCHMARKS.values() if one.in_suite
    )
    alias = f"{group} (one row a benchmark, none over all)"
    return (
        f'group: {group}\ngroup_alias: "{alias}"\ntask:\n{names}metadata:\n  version: {VERSION}\n'
    )


def all_benchmark_files() -> dict[Path, str]:
    """Return the YAML of all benchmarks that are described by their rows, and of the suite."""
    found = {
        Path("audio_suite", f"_{SUITE}.yaml"): suite_file(sample=False),
        Path("audio_suite", f"_{SUITE}-sample.yaml"): suite_file(sample=True),
    }
    for benchmark in BENCHMARKS.values():
        if benchmark.read_row is not None:
            found |= benchmark_files(benchmark)
    return found


def main() -> None:
    """Write every file."""
    for path, text in all_benchmark_files().items():
        (FOLDER / path).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / path).write_text(text, encoding="utf-8")
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
