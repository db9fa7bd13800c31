"""The report: one page that needs no network, and the same as Markdown, tables and figures in files."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from mmaupro_ext import __version__, extras
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.ablated import answers_of, backbone_of, full_of
from mmaupro_ext.report import charts, claims, reliance
from mmaupro_ext.report.chart_parts import SCHEMA, VERSION, Chart, files_of, theme
from mmaupro_ext.report.clip_media import Media, media_of
from mmaupro_ext.report.comparison import Comparison, as_dict, compare
from mmaupro_ext.report.figures import page_variables
from mmaupro_ext.report.frames import Frames
from mmaupro_ext.report.page_context import Context, context_of
from mmaupro_ext.scoring.answers import BACKBONE
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.reliance import Profile, profile
from mmaupro_ext.util import write_atomically


def write(
    frames: Frames,
    folder: str | Path,
    *,
    data_dir: str | Path | None = None,
    waves: bool | None = None,
    accept_different: bool = False,
    profiles: Mapping[str, Profile] | None = None,
) -> dict[str, Path]:
    """Write the report of runs into a folder.

    Parameters
    ----------
    frames : Frames
        What `frames.load` gave.
    folder : path
        Made where it is missing. Files of an earlier report are replaced.
    data_dir : path, optional
        Where clips are looked for whose file is not where the run read it.
    waves : bool, optional
        Whether all clips are read for their waveforms; by default if they are few.
    accept_different : bool
        As for `comparison.compare`. Without it, runs that cannot be compared stand side by side, and the
        page says why there are no differences.
    profiles : mapping of str to Profile, optional
        By the run's name; by default those of the runs beside which `mmaupro ablate` left other conditions.

    Returns
    -------
    dict of str to Path
        "html", "markdown", "json" and the folder "figures".

    Raises
    ------
    ConfigError
        When a package is missing, or the folder cannot be written.
    """
    extras.require("a report", *extras.PAGE)
    folder = Path(folder)
    comparisons, refused = _comparisons(frames, accept_different)
    unread: list[str] = []
    if profiles is None:
        profiles, unread = _profiles(frames)
    figures = charts.draw(frames, comparisons, profiles)
    context = context_of(frames, comparisons, figures, profiles, [refused, *unread])
    clips, media = _media(frames, folder, data_dir, waves)
    written = {"html": folder / "report.html", "markdown": folder / "report.md"}
    written.update(json=folder / "report.json", figures=folder / "figures")
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for chart in figures:
            for name, content in files_of(chart):
                write_atomically(folder / "figures" / name, content)
        for name in ("items", "clips", "scores", "tasks"):
            table = getattr(frames, name)
            write_atomically(folder / f"{name}.csv", table.to_csv(index=False))
        write_atomically(
            written["json"], json.dumps(_json(frames, comparisons, profiles), indent=2) + "\n"
        )
        write_atomically(written["markdown"], _template("report.md.j2", False).render(context))
        write_atomically(written["html"], _html(frames, context, figures, clips, media))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written ({error}). Use -o DIR") from error
    return written


def clip_files(
    frames: Frames, folder: Path, data_dir: str | Path | None = None
) -> list[Path | None]:
    """Return the file of each clip by the number under which the page asks for it."""
    return [medium.path for medium in _media(frames, folder, data_dir, False)[1]]


def _comparisons(frames: Frames, accept_different: bool) -> tuple[list[Comparison], str]:
    if (frames.runs["items"] > 0).sum() < 2:
        return [], ""
    try:
        return compare(frames, accept_different), ""
    except ConfigError as error:
        return [], f"No differences: {error}"


def _profiles(frames: Frames) -> tuple[dict[str, Profile], list[str]]:
    """Return the profile of each run that `mmaupro ablate` made, and what must be said of them."""
    found, said = {}, []
    for name, about in frames.runs.iterrows():
        folder = Path(about.folder).resolve()
        if about.benchmark and folder == full_of(folder.parent).resolve():
            try:
                made = profile(answers_of([folder.parent], about.benchmark))
            except ScoringError as error:
                said.append(f"No audio-reliance profile of {name}: {error}")
                continue
            if len(made.conditions) > 1:
                found[str(name)] = made
            if BACKBONE in made.conditions:
                said.append(f"The text backbone beside {name}: {backbone_of(folder.parent)}")
    return found, said


# --- the page -------------------------------------------------------------------------------------


def _html(
    frames: Frames,
    context: Context,
    figures: Sequence[Chart],
    clips: Mapping[tuple[str, str, int], int],
    media: Sequence[Media],
) -> str:
    embedded = [medium for medium in media if medium.content is not None]
    numbers = {id(medium): position for position, medium in enumerate(embedded)}
    items = _items(frames, clips, media, numbers)
    content = {"runs": list(frames.runs.index), "outcomes": list(charts.OUTCOMES), "items": items}
    packed = zlib.compress(json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"), 6)
    specs = {
        "schema": SCHEMA,
        "config": theme(),
        "charts": {chart.name: chart.spec for chart in figures},
    }
    template = _template("report.html.j2", True)
    return template.render(
        {
            **context,
            "style": page_variables() + _file("report.css"),
            "script": _file("report.js"),
            "vega": _vega(),
            # Within a script element only "<" could end it.
            "specs": json.dumps(specs, ensure_ascii=False).replace("<", "\\u003c"),
            "data": base64.b64encode(packed).decode(),
            "embedded": embedded,
            "figures": lambda section: _figures(figures, section),
        }
    )


def _figures(figures: Sequence[Chart], section: str) -> Any:
    chosen = [chart for chart in figures if chart.section == section]
    return _template("figures.html.j2", True).render(charts=chosen) if chosen else ""


def _items(
    frames: Frames,
    clips: Mapping[tuple[str, str, int], int],
    media: Sequence[Media],
    embedded: Mapping[int, int],
) -> list[Context]:
    """Return the items, each with its answer of every run."""
    if frames.items.empty:
        return []
    heard = {
        (row["run"], row["id"], row["position"]): row for row in frames.clips.to_dict("records")
    }
    found: dict[tuple[str, str], Context] = {}
    for row in frames.items.to_dict("records"):
        row = {key: _plain(value) for key, value in row.items()}
        key = (row["id"], row["question"])
        if key not in found:
            details = [
                _clip(heard[row["run"], row["id"], position], clips, media, embedded)
                for position in range(row["clips"])
            ]
            gold = row["gold_position"]
            found[key] = {
                "id": row["id"],
                "category": row["category"],
                "question": row["question"],
                "choices": row["choices"],
                "gold": [] if gold is None else [int(gold)],
                "answer": row["answer"] or "",
                "skills": [*row["perceptual_skills"], *row["reasoning_skills"]],
                "sub_category": row["sub_category"],
                "length_type": row["length_type"],
                "clips": details,
                "runs": [],
            }
        chosen = row["details"].get("chosen")
        rest = {
            name: value
            for name, value in row["details"].items()
            if name not in ("stated", "chosen", "answer", "evidence") and value not in (None, "")
        }
        score = float("nan") if row["score"] is None else row["score"]
        found[key]["runs"].append(
            {
                "run": row["run"],
                "reply": row["reply"],
                "evidence": row["evidence"],
                "status": row["status"],
                "outcome": charts.outcome(row["status"], score),
                "score": row["score"],
                "finish": row["finish"],
                "chosen": row["choices"].index(chosen) if chosen in row["choices"] else None,
                "details": json.dumps(rest, ensure_ascii=False) if rest else "",
                **{name: row[name] for name in ("seconds_heard", "windows", "audio_tokens")},
            }
        )
    return list(found.values())


def _plain(value: Any) -> Any:
    """Return a cell as JSON has it: what pandas calls not a number is null."""
    return None if isinstance(value, float) and value != value else value


def _clip(
    row: Mapping[str, Any],
    clips: Mapping[tuple[str, str, int], int],
    media: Sequence[Media],
    embedded: Mapping[int, int],
) -> Context:
    number = clips[row["run"], row["id"], row["position"]]
    medium = media[number]
    return {
        "number": number,
        "name": Path(row["name"]).name,
        "seconds": _plain(row["seconds_in_file"]),
        "channels": _plain(row["channels_in_file"]),
        "rate": _plain(row["sampling_rate_in_file"]),
        "link": medium.link,
        "embedded": embedded.get(id(medium)) if medium.content is not None else None,
        "wave": medium.wave,
    }


def _media(
    frames: Frames, folder: Path, data_dir: str | Path | None, waves: bool | None
) -> tuple[dict[tuple[str, str, int], int], list[Media]]:
    """Return the number of each run's clip, and what the page holds of each, once a name."""
    if frames.clips.empty:
        return {}, []
    samples = set(frames.runs.index[frames.runs.dataset == "sample"])
    numbers: dict[tuple[bool, str], int] = {}
    asked: list[dict[str, Any]] = []
    of_clip: dict[tuple[str, str, int], int] = {}
    for row in frames.clips.to_dict("records"):
        sample = row["run"] in samples
        key = (sample, row["name"])
        if key not in numbers:
            numbers[key] = len(asked)
            asked.append(
                {
                    "name": row["name"],
                    "file": row["file"],
                    "sample": frames.benchmark.name if sample else None,
                }
            )
        of_clip[row["run"], row["id"], row["position"]] = numbers[key]
    return of_clip, media_of(asked, folder.resolve(), data_dir, waves)


def _json(
    frames: Frames, comparisons: Sequence[Comparison], profiles: Mapping[str, Profile]
) -> Context:
    def records(table: pd.DataFrame) -> list[Context]:
        return [
            {key: _plain(value) for key, value in row.items()} for row in table.to_dict("records")
        ]

    return json.loads(
        json.dumps(
            {
                "made_by": {"name": "mmaupro-ext", "version": __version__},
                "runs": records(frames.runs.reset_index().drop(columns="config")),
                "scores": records(frames.scores),
                "tasks": records(frames.tasks),
                "claims": claims.beside_measured(frames),
                "comparisons": as_dict(list(comparisons)),
                "reliance": {name: reliance.as_dict(found) for name, found in profiles.items()},
            },
            default=str,
        )
    )


@cache
def _vega() -> str:
    import vl_convert

    return vl_convert.javascript_bundle(
        "window.vegaEmbed = vegaEmbed;", vl_version=VERSION
    ).replace("</script", "<\\/script")


@cache
def _file(name: str) -> str:
    return (files("mmaupro_ext.report") / "templates" / name).read_text(encoding="utf-8")


def _template(name: str, html: bool) -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_file),
        autoescape=html,
        undefined=jinja2.StrictUndefined,
        trim_blocks=not html,
        lstrip_blocks=not html,
    )
    if not html:  # what would end a cell of a Markdown table, or begin HTML in it
        environment.finalize = lambda value: (
            value.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
            if isinstance(value, str) and not hasattr(value, "__html__")  # which `safe` gives
            else value
        )
    return environment.get_template(name)
