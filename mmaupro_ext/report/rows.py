"""The row of a paper's table: the numbers in the paper's order and precision, in four notations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmaupro_ext.benchmarks import MMAUPRO
from mmaupro_ext.data.conditions import FULL
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.report import notations, published
from mmaupro_ext.report.comparison import OVERALL
from mmaupro_ext.report.frames import Frames
from mmaupro_ext.util import require_choice

FORMATS = ("markdown", "latex", "csv", "model-index")
_NONE = "-"
_DATASETS = {
    "full": {"name": "MMAU-Pro", "type": "gamma-lab-umd/MMAU-Pro", "split": "test"},
    "sample": {"name": "the synthetic sample of mmaupro-ext", "type": "mmaupro-sample"},
}


def rows(frames: Frames, notation: str = "markdown") -> str:
    """Return a row a run and preset, in the order and with the digits of the paper's table.

    Parameters
    ----------
    frames : Frames
        Of runs on MMAU-Pro or the sample.
    notation : {"markdown", "latex", "csv", "model-index"}
        The last is YAML for a model card on the hub.

    Returns
    -------
    str
        Without a final newline. What the numbers rest on (preset, prompt, share errored, identity) is
        named with them; an unscored category is "-", and so is the average that it makes partial.

    Raises
    ------
    ConfigError
        When there is no such notation, nothing was scored, or a run is ablated, or not of all items as they
        were released.
    """
    require_choice("notation", notation, FORMATS)
    if frames.benchmark.name != MMAUPRO:
        raise ConfigError(
            f"--row is the row of MMAU-Pro's table; these runs are of {frames.benchmark.title}. Its "
            "scores are in scores.csv of the report"
        )
    if frames.scores.empty:
        raise ConfigError(
            "these runs have no scores of MMAU-Pro: name runs with samples of its tasks"
        )
    ablated = [run for run in frames.runs.index if frames.runs.loc[run, "condition"] != FULL]
    if ablated:
        raise ConfigError(f"{', '.join(ablated)}: an ablated run has no row in a table of scores")
    for run, about in frames.runs.iterrows():
        if why := [note for note in (about.part, *about.deviations) if note]:
            raise ConfigError(
                f"{run}: {why[0]}. Such a run has no row in a table of scores: run all items of a category, "
                "as they were released"
            )
    found = [
        _row(frames, run, preset)
        for run in frames.runs.index
        for preset in dict.fromkeys(_of(frames, run).preset)
    ]
    header = [
        "Models",
        *published.COLUMNS,
        published.OVERALL,
        "Preset",
        "Prompt",
        "Errored",
        "Identity",
    ]
    cells = [[row[name] for name in header] for row in found]
    if notation == "model-index":
        return "\n---\n".join(_model_index(row) for row in found)
    if notation == "csv":
        return notations.comma_separated(header, cells)
    if notation == "latex":
        return notations.latex(header, cells, column_note())
    return notations.markdown(header, cells)


def column_note() -> str:
    """Return what the columns are."""
    return f"columns and precision of {published.SOURCE}; per cent of all items"


def _of(frames: Frames, run: str) -> Any:
    return frames.scores[frames.scores.run == run]


def _row(frames: Frames, run: str, preset: str) -> dict[str, str]:
    about = frames.runs.loc[run]
    table = _of(frames, run)
    table = table[(table.preset == preset) & table.group.isin(("category", "overall"))]
    scores = table.set_index("name").score
    items = frames.items[frames.items.run == run]
    overall = table[table.group == "overall"].iloc[0]
    found = {"Models": str(about.model)}
    for column, category in published.COLUMNS.items():
        found[column] = _number(scores.get(category))
    found[published.OVERALL] = _number(scores.get(OVERALL)) if overall["complete"] else _NONE
    found["Dataset"] = str(about.dataset)
    found["Preset"] = preset
    found["Prompt"] = str(about.asks_for)
    found["Errored"] = f"{100 * (items.status == 'errored').mean():.1f} %"
    found["Identity"] = str((about.identity or {}).get("id") or "unstated")
    return found


def _number(value: float | None) -> str:
    return _NONE if value is None or value != value else f"{value:.1f}"


def _model_index(row: dict[str, str]) -> str:
    import yaml

    names: Sequence[str] = [*published.COLUMNS, published.OVERALL]
    about = ", ".join(
        f"{key.lower()} {row[key]}" for key in ("Preset", "Prompt", "Errored", "Identity")
    )
    result = {
        "task": {"type": "audio-text-to-text"},
        "dataset": dict(_DATASETS[row["Dataset"]]),
        "metrics": [
            {"type": "accuracy", "name": f"{name} ({row['Preset']})", "value": float(row[name])}
            for name in names
            if row[name] != _NONE
        ],
        "source": {"name": f"mmaupro-ext: {about}"},
    }
    index = {"model-index": [{"name": row["Models"], "results": [result]}]}
    return yaml.safe_dump(index, sort_keys=False, allow_unicode=True).rstrip("\n")
