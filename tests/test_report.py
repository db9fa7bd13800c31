"""Reports and comparisons of runs: what stands in them, and that texts of others stay text."""

from __future__ import annotations

import base64
import csv
import dataclasses
import html.parser
import io
import json
import re
import shlex
import shutil
import socket
import sys
import textwrap
import threading
import urllib.error
import urllib.request
import zlib
from pathlib import Path

import pytest
import yaml
from ablated_answers import answers
from logged_runs import DOCS, EARLY, LATE, good_reply, line_of, score, write_lines, write_run

from mmaupro_ext import benchmarks, data, report
from mmaupro_ext.commands import cli
from mmaupro_ext.data import SAMPLE_DIR
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.report import charts, comparison, page, page_context, published, rows, serve
from mmaupro_ext.scoring.errors import ScoringError
from mmaupro_ext.scoring.reliance import profile

HOSTILE = '</script><img src=x onerror="document.title=1">|\x1b[31m{{ 7*7 }}'


def worse(doc: dict) -> str:
    """Wrong on every music item, and a reply that would like to be more than text."""
    if doc["category"] == "music":
        return "Z"
    return HOSTILE if doc["category"] == "multi" else good_reply(doc)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "a", model="org/model-a")
    write_run(folder / "b", model="org/model-b", reply=worse)
    file = next((folder / "b").glob("results_*.json"))
    content = json.loads(file.read_text())
    content["results"] = {"mmlu": {"alias": "mmlu", "acc,none": 0.25, "acc_stderr,none": 0.01}}
    content["groups"] = {}
    file.write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def frames(runs):
    return report.load(runs / "a", runs / "b")


@pytest.fixture(scope="module")
def written(frames, tmp_path_factory):
    found = {frames.runs.index[0]: profile(answers())}
    return page.write(frames, tmp_path_factory.mktemp("report"), profiles=found)


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Return a function from frames to their report as Markdown, without the slow figures in files."""
    monkeypatch.setattr(page, "files_of", lambda chart: ())

    def tell(frames) -> str:
        made = page.write(frames, tmp_path / "report", waves=False)
        return made["markdown"].read_text(encoding="utf-8")

    return tell


@pytest.fixture(scope="module")
def markup(written):
    return written["html"].read_text(encoding="utf-8")


def embedded(markup: str) -> dict:
    (packed,) = re.findall(r'<script type="text/plain" id="data">([^<]*)</script>', markup)
    return json.loads(zlib.decompress(base64.b64decode(packed)))


def test_the_page_asks_whether_a_run_listened(written, markup):
    start, end = (markup.index(f'<section id="{name}">') for name in ("listening", "where"))
    section = markup[start:end]
    assert 'data-chart="listening_model_a"' in section
    assert section.count("<table") == 5
    assert '<th scope="row">text-backbone</th>' in section
    assert "Published under ablations" not in section  # the sample is no benchmark
    assert (written["figures"] / "listening_model_a.svg").is_file()
    assert "## Did it listen? model-a" in written["markdown"].read_text(encoding="utf-8")
    content = json.loads(written["json"].read_text(encoding="utf-8"))
    assert content["reliance"]["model-a"]["conditions"] == ["full", "none", "text-backbone"]


# --- frames ---------------------------------------------------------------------------------------


def test_frames_hold_each_item_and_clip_once_a_run(frames):
    docs = [doc for part in DOCS.values() for doc in part]
    assert list(frames.runs.index) == ["model-a", "model-b"]
    assert len(frames.items) == 2 * len(docs)
    assert len(frames.clips) == 2 * sum(len(doc["audio_path"]) for doc in docs)
    assert not frames.items.duplicated(["run", "id"]).any()


def test_scores_of_frames_are_those_of_the_items(frames):
    table = frames.scores[(frames.scores.run == "model-b") & (frames.scores.group == "category")]
    items = frames.items[frames.items.run == "model-b"]
    for row in table[table.score.notna()].to_dict("records"):
        own = items[items.category == row["name"]]
        # Scores are rounded to four digits after the point of a per cent.
        assert row["score"] == pytest.approx(100 * own.score.mean(), abs=5e-5)


def test_a_folder_without_samples_of_ours_has_its_tasks_alone(tmp_path):
    content = {"model_name": "text-only", "results": {"mmlu": {"acc,none": 0.5}}, "config": {}}
    (tmp_path / "results_2026-01-01T00-00-00.json").write_text(json.dumps(content))
    found = report.load(tmp_path)
    assert found.items.empty
    assert found.tasks.value.tolist() == [0.5]
    written = page.write(found, tmp_path / "report")
    assert "mmlu" in written["html"].read_text(encoding="utf-8")


def test_other_benchmarks_are_reported_by_name(tmp_path):
    from mmaupro_ext.data import load_items
    from mmaupro_ext.data.questions import prompt

    docs = load_items("mmar", sample=True)
    stamp = "2026-01-03T10-00-00.000001"
    for category in {doc["category"] for doc in docs}:
        own = [doc for doc in docs if doc["category"] == category]
        slug = benchmarks.BENCHMARKS["mmar"].by_value[category].slug
        lines = [line_of(doc, doc["answer"]) for doc in own]
        for line, doc in zip(lines, own, strict=True):
            line["arguments"]["gen_args_0"]["arg_0"] = prompt(doc, "own")
        write_lines(tmp_path / f"samples_mmar-sample_{slug}_{stamp}.jsonl", lines)
    write_run(tmp_path, slugs=("sound",), time=stamp)
    assert report.load(tmp_path).benchmark.name == "mmaupro"
    found = report.load(tmp_path, benchmark="mmar")
    assert set(found.items.category) == {doc["category"] for doc in docs}
    assert found.items.score.mean() == 1.0
    written = page.write(found, tmp_path / "out")
    content = embedded(written["html"].read_text(encoding="utf-8"))
    assert all(clip["embedded"] is not None for item in content["items"] for clip in item["clips"])
    with pytest.raises(ConfigError, match="MMAU-Pro's table"):
        rows.rows(found)


def test_log_likelihoods_alone_have_their_row_of_lm_eval_s_table(tmp_path):
    task, stamp = "mmaupro-sample-ll_speech", "2026-01-03T10-00-00.000001"
    write_lines(tmp_path / f"samples_{task}_{stamp}.jsonl", [{"doc": DOCS["speech"][0]}])
    content = {"results": {task: {"alias": "speech", "acc,none": 0.5}}, "configs": {task: {}}}
    (tmp_path / f"results_{stamp}.json").write_text(json.dumps(content))
    found = report.load(tmp_path)
    assert found.items.empty
    assert found.tasks[["task", "value"]].values.tolist() == [[task, 0.5]]


def test_log_likelihoods_beside_replies_keep_their_row(tmp_path):
    write_run(tmp_path)
    file = next(tmp_path.glob("results_*.json"))
    scores = {"acc,none": 0.5}
    asked = ("mmaupro-sample_speech", "mmaupro-sample-ll_speech")
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"results": dict.fromkeys(asked, scores)})
    )
    assert list(report.load(tmp_path).tasks.task) == ["mmaupro-sample-ll_speech"]


@pytest.mark.parametrize("order", [("a", "plain"), ("plain", "a"), ("plain",)])
def test_a_run_of_plain_lm_eval_has_a_page_by_itself_and_beside_others(order, runs, tmp_path, told):
    plain = tmp_path / "plain"
    plain.mkdir()
    content = {"results": {"mmlu": {"acc,none": 0.25}}, "configs": {"mmlu": {}}}
    content |= {"config": {"model": "hf", "gen_kwargs": "temperature=0"}, "model_name": "gpt2"}
    (plain / "results_2026-01-03T10-00-00.000001.json").write_text(json.dumps(content))
    found = report.load(*(plain if name == "plain" else runs / name for name in order))
    assert found.benchmark.name == "mmaupro"
    assert "hf --tasks mmlu --gen_kwargs temperature=0" in told(found)
    if order == ("plain",):
        with pytest.raises(ConfigError, match="no scores of MMAU-Pro"):
            rows.rows(found)


def test_a_run_whose_every_item_is_unscored_says_so(tmp_path, told):
    write_run(tmp_path / "run", slugs=["open"])
    found = report.load(tmp_path / "run")
    assert found.scores.score.isna().all()
    assert "| unscored |" in told(found)


def test_a_reply_that_no_file_can_hold_is_written_out(tmp_path, told):
    write_run(tmp_path / "run", slugs=["speech"])
    file = next((tmp_path / "run").glob("samples_*"))
    file.write_text(file.read_text().replace('"resps": [["', '"resps": [["\\ud800'))
    found = report.load(tmp_path / "run")
    assert found.items.reply.str.startswith("\\ud800").all()
    assert told(found)
    with (tmp_path / "report" / "items.csv").open(encoding="utf-8", newline="") as lines:
        assert all(row["reply"].startswith("\\ud800") for row in csv.DictReader(lines))
    items = tmp_path / "items.jsonl"
    assert score(tmp_path / "run", "--accept-changed", "--items", items) == 0
    assert json.loads(items.read_text(encoding="utf-8").splitlines()[0])["reply"][0] == "\ud800"


def test_other_files_of_scores_are_left_out_and_named(runs, tmp_path, caplog):
    shutil.copytree(runs / "a", tmp_path / "run")
    (tmp_path / "run" / "scores_mine.json").write_text("[1")
    assert set(report.load(tmp_path / "run").scores.preset) == {"strict"}
    assert "scores_mine.json" in caplog.text


def test_an_earlier_run_of_a_folder_is_named_by_its_results_file(tmp_path, told):
    write_run(tmp_path, time=EARLY, reply=lambda doc: "Z")
    write_run(tmp_path, time=LATE)
    found = report.load(tmp_path / f"results_{EARLY}.json", tmp_path)
    assert list(found.runs.time) == [EARLY, LATE]
    assert list(found.runs.index) == ["m (1)", "m (2)"]
    assert "the newest" in found.runs.loc["m (2)", "taken"][0]
    assert "the newest" in told(found)
    (pair,) = comparison.compare(found)
    assert pair.rows["speech"].lost == 0 < pair.rows["speech"].won
    assert pair.notes == tuple(found.runs.loc["m (2)", "taken"])
    said = " ".join(comparison.render([pair]).split())
    assert f"{tmp_path} holds runs of 2 times; the newest, {LATE}, is taken, not {EARLY}" in said


def test_names_of_runs_are_told_apart_whatever_they_are(tmp_path):
    for position, model in enumerate(("x", "org/x", "x (1)")):
        write_run(tmp_path / str(position), model=model, slugs=["speech"])
    found = report.load(*sorted(tmp_path.iterdir()))
    assert found.runs.index.is_unique
    assert len(found.items) == 3 * len(DOCS["speech"])


def test_runs_without_a_common_benchmark_are_named_with_what_they_have(tmp_path, runs):
    plain, other = tmp_path / "plain", tmp_path / "other"
    plain.mkdir()
    (plain / f"results_{LATE}.json").write_text("{}")
    lines = [line_of(doc, "A") for doc in data.load_items("mmau", "sound", sample=True)]
    write_lines(other / f"samples_mmau-sample_sound_{LATE}.jsonl", lines)
    with pytest.raises(ConfigError, match=f"{runs / 'a'}: mmaupro; {other}: mmau"):
        report.load(plain, runs / "a", other)


def test_a_command_is_shown_as_it_was(tmp_path, told):
    write_run(tmp_path / "run", slugs=["speech"])
    file = next((tmp_path / "run").glob("results_*.json"))
    content = json.loads(file.read_text())
    content["system_instruction"] = "say <b> | or\n```\n# not"
    content["configs"] = {"mmaupro-sample_speech": {}}
    file.write_text(json.dumps(content))
    block = re.search(r"(?m)(?:^ {4}.*\n)+", told(report.load(tmp_path / "run")))[0]
    typed = shlex.split(textwrap.dedent(block).removeprefix("$ "))
    assert typed[typed.index("--system_instruction") + 1] == content["system_instruction"]


def test_a_run_without_results_has_no_invented_command(tmp_path, told):
    write_run(tmp_path / "run", slugs=["speech"])
    next((tmp_path / "run").glob("results_*.json")).unlink()
    text = told(report.load(tmp_path / "run"))
    assert "do not say how the run was started" in text
    assert "lm_eval --model" not in text


@pytest.mark.parametrize(
    ("missing", "arguments"),
    [
        ("pandas", ["report", "RUN"]),
        ("vl_convert", ["report", "RUN"]),
        ("pandas", ["report", "RUN", "--row"]),
        ("pandas", ["compare", "RUN", "RUN"]),
    ],
)
def test_a_missing_package_is_named_with_its_extra(missing, arguments, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    said = capsys.readouterr().err
    assert missing in said
    assert "mmaupro-ext[report]" in said


def test_a_page_that_is_named_as_a_file_becomes_a_folder_of_that_name(runs, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["report", str(runs / "a"), "-o", str(tmp_path / "page.html")])
    assert "name a folder" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_small_p_value_is_not_printed_as_nothing(frames):
    entry = dataclasses.replace(comparison.compare(frames)[0].rows["overall"], p_corrected=1e-9)
    assert comparison.p_text(entry) == "<0.001"
    assert comparison.p_text(dataclasses.replace(entry, p_corrected=0.0006)) == "0.001"


def test_colours_and_fonts_are_named_in_one_file():
    folder = Path(page.__file__).parent
    files = [*folder.glob("*.py"), *(folder / "templates").iterdir()]
    named = re.compile(r"#[0-9a-fA-F]{6}\b|#[0-9a-fA-F]{3}\b|DejaVu|system-ui")
    assert {file.name for file in files if named.search(file.read_text("utf-8"))} == {"figures.py"}


@pytest.mark.parametrize("name", ["typo", "results_typo.json", "samples_mmlu_typo.jsonl"])
def test_a_mistyped_name_is_not_the_run_beside_it(name, runs):
    with pytest.raises(ScoringError, match=name):
        report.load(runs / "a" / name)


def test_a_folder_of_nothing_is_refused(tmp_path):
    with pytest.raises(ScoringError, match="no samples_"):
        report.load(tmp_path)


def test_a_damaged_samples_file_is_an_error_not_a_run_without_items(runs, tmp_path):
    folder = write_run(tmp_path / "c", slugs=("sound",))
    file = next(folder.glob("samples_*"))
    file.write_text(file.read_text()[:-40])
    with pytest.raises(ScoringError, match="not JSON"):
        report.load(folder)


def test_scores_of_other_presets_count_only_for_the_same_replies(runs, tmp_path):
    folder = write_run(tmp_path / "d")
    cli_score = ["score", str(folder), "--preset", "strict", "--set", "gold=exact"]
    with pytest.raises(SystemExit) as end:
        cli.main(cli_score)
    assert end.value.code == 0
    assert set(report.load(folder).scores.preset) == {"strict", "strict+gold=exact"}
    write_run(folder, reply=worse)
    assert set(report.load(folder).scores.preset) == {"strict"}


# --- the page -------------------------------------------------------------------------------------


class Reader(html.parser.HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self):
        super().__init__()
        self.loaded, self.handlers, self.scripts = [], [], 0

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.loaded += [value for key, value in found.items() if key in ("src", "href")]
        self.handlers += [key for key in found if key.startswith("on")]
        self.scripts += tag == "script" and "type" not in found


def test_the_page_loads_nothing_and_runs_only_its_own_scripts(markup):
    reader = Reader()
    reader.feed(markup)
    assert all(value.startswith(("#", "data:")) for value in reader.loaded)
    assert reader.handlers == ["onsubmit"]  # the filter's form, which is never sent
    assert reader.scripts == 2  # the figures' library and ours


def test_hostile_replies_are_data(markup, written):
    assert "document.title=1" not in markup
    assert "<img" not in written["markdown"].read_text(encoding="utf-8")
    content = embedded(markup)
    replies = {run["reply"] for item in content["items"] for run in item["runs"]}
    assert HOSTILE in replies


def test_hostile_names_are_escaped(tmp_path):
    folder = write_run(tmp_path / "e", slugs=("sound",), model=f"org/{HOSTILE}")
    found = page.write(report.load(folder), tmp_path / "out")
    reader = Reader()
    reader.feed(found["html"].read_text(encoding="utf-8"))
    assert reader.handlers == ["onsubmit"]
    assert reader.scripts == 2
    lines = found["markdown"].read_text(encoding="utf-8").splitlines()
    shown = [line for line in lines if "<img" in line]
    assert all(
        line.startswith("    $ lm_eval") for line in shown
    )  # a block of code, with its command
    assert len(shown) == 1


def test_the_page_has_every_item_with_its_clips_and_what_decided(markup):
    content = embedded(markup)
    docs = {doc["id"]: doc for part in DOCS.values() for doc in part}
    assert {item["id"] for item in content["items"]} == set(docs)
    for item in content["items"]:
        assert [clip["name"] for clip in item["clips"]] == [
            path.rpartition("/")[2] for path in docs[item["id"]]["audio_path"]
        ]
        assert all(clip["embedded"] is not None and clip["wave"] for clip in item["clips"])
        assert [run["run"] for run in item["runs"]] == ["model-a", "model-b"]
        if docs[item["id"]]["choices"]:
            assert item["runs"][0]["evidence"] in item["runs"][0]["reply"]
            chosen, right = item["runs"][0]["chosen"], item["runs"][0]["outcome"] == "right"
            assert (chosen in item["gold"]) == right


def test_embedded_clips_are_the_files(markup):
    found = re.findall(
        r'<script type="text/plain" id="clip-\d+" data-mime="([^"]+)">([^<]*)<', markup
    )
    names = {path for part in DOCS.values() for doc in part for path in doc["audio_path"]}
    assert len(found) == len(names)
    played = {(SAMPLE_DIR / name).read_bytes() for name in names if name.endswith((".wav", ".mp3"))}
    contents = {base64.b64decode(content) for _, content in found}
    assert played <= contents
    assert {mime.partition("/")[0] for mime, _ in found} == {"audio"}


def test_a_file_that_is_no_sound_stays_out_of_the_page(runs, tmp_path):
    secret = tmp_path / "secret.wav"
    secret.write_text("a key that a hostile log would like to see in a report")
    (medium,) = page.media_of([{"name": "x.wav", "file": str(secret)}], tmp_path)
    assert medium.content is None
    assert medium.wave is None


def test_markdown_tables_have_as_many_cells_as_their_heads(written):
    lines = written["markdown"].read_text(encoding="utf-8").splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) > 30
    cells = None
    for previous, line in zip(["", *lines], lines, strict=False):
        if line.startswith("|"):
            count = len(re.findall(r"(?<!\\)\|", line))
            if previous.startswith("|"):
                assert count == cells, line
            cells = count


def test_tables_beside_the_page_say_the_same(written, frames):
    with (written["html"].parent / "items.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(frames.items)
    content = json.loads(written["json"].read_text(encoding="utf-8"))
    assert [run["run"] for run in content["runs"]] == ["model-a", "model-b"]
    assert content["comparisons"][0]["rows"]["music"]["won"] == 0


def test_each_figure_is_in_the_page_and_in_files(written, markup):
    (specs,) = re.findall(r'id="specs">(.*?)</script>', markup, flags=re.DOTALL)
    names = set(json.loads(specs)["charts"])
    assert {"categories", "skill_map", "outcomes", "by_position"} <= names
    for name in names:
        svg = (written["figures"] / f"{name}.svg").read_bytes()
        png = (written["figures"] / f"{name}.png").read_bytes()
        assert svg.startswith(b"<svg")
        assert png.startswith(b"\x89PNG")
        # More than a frame: an empty plot of Vega is about 700 bytes.
        assert len(svg) > 3000
        assert f'data-chart="{name}"' in markup


def test_published_scores_stand_beside_runs_on_the_benchmark_only(frames):
    assert "published" not in [chart.name for chart in charts.draw(frames)]
    full = report.Frames(
        frames.runs.assign(dataset="full"), frames.items, frames.clips, frames.scores, frames.tasks
    )
    by_name = {chart.name: chart for chart in charts.draw(full)}
    systems = {row["system"] for row in by_name["published"].spec["data"]["values"]}
    assert "Gemini-2.5 Flash" in systems
    assert "▶ model-a" not in systems
    found = {"model-a": profile(answers())}
    beside = [page_context.context_of(each, [], [], found, []) for each in (frames, full)]
    assert beside[0]["listening_beside"] == []
    overall, by_category = beside[1]["listening_beside"]
    assert {row[-1] for row in overall.rows} == {"Foo et al.", "table 4", "table 5"}
    assert len(by_category.rows) == 24  # eight models, three conditions


def test_the_paper_s_average_is_that_of_its_categories_by_size():
    from mmaupro_ext.data import CATEGORY_BY_VALUE

    table = published.paper().drop(index=["Random Choice"])
    sizes = {name: category.expected_count for name, category in CATEGORY_BY_VALUE.items()}
    total = sum(sizes.values())
    mean = sum(table[name] * size for name, size in sizes.items()) / total
    # The human row and most systems agree to the digit printed; the paper's rounding and errata, 1 point.
    assert ((mean - table.overall).abs() < 1.0).mean() > 0.8


# --- comparing ------------------------------------------------------------------------------------


def test_a_difference_is_where_it_was_made(frames):
    (found,) = comparison.compare(frames)
    music = sum(1 for doc in DOCS["music"])
    assert found.rows["music"].lost == music
    assert found.rows["music"].difference == -1.0
    assert found.rows["speech"].agreement == 1.0
    assert set(found.lost) == {doc["id"] for slug in ("music", "multi") for doc in DOCS[slug]}
    assert found.rows["music"].p_corrected >= found.rows["music"].p
    text = comparison.render([found])
    assert max(map(len, text.splitlines())) <= 100
    assert "model-b" in text


def test_runs_that_were_asked_something_else_are_refused_unless_told(runs, tmp_path):
    other = write_run(tmp_path / "t", model="m", asks_for="text", slugs=("sound", "music"))
    frames = report.load(runs / "a", other)
    with pytest.raises(ConfigError, match=r"asked the same.*prompt asks for.*--accept-different"):
        comparison.compare(frames)
    (found,) = comparison.compare(frames, accept_different=True)
    assert found.rows["overall"].items == len(DOCS["sound"]) + len(DOCS["music"])
    assert any("only in" in remark for remark in found.remarks)


def test_one_run_is_no_comparison(runs, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", str(runs / "a")])
    assert end.value.code == 2
    assert "at least two runs" in capsys.readouterr().err


def test_a_run_is_not_compared_with_itself(runs):
    file = next((runs / "a").glob("results_*.json"))
    with pytest.raises(ConfigError, match=f"are one run.*{file.name}: name another"):
        comparison.compare(report.load(runs / "a", runs / "b" / ".." / "a" / file.name))


def test_compare_prints_json(runs, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["compare", str(runs / "a"), str(runs / "b"), "--json"])
    assert end.value.code == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["rows"]["overall"]["difference"] < 0


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value"),
    [("part", "a part: 40 of 100 items"), ("deviations", ["music: 4 items, the dataset has 8"])],
)
def test_a_run_on_a_part_of_the_items_has_no_row(frames, column, value):
    runs = frames.runs.copy()
    runs.at[runs.index[1], column] = value
    with pytest.raises(ConfigError, match="has no row in a table of scores: run all items"):
        rows.rows(dataclasses.replace(frames, runs=runs))


def test_rows_are_the_paper_s_in_every_notation(frames):
    header, *found = csv.reader(io.StringIO(rows.rows(frames, "csv")))
    assert header[1:14] == [*published.COLUMNS, "Avg."]
    assert [row[0] for row in found] == ["org/model-a", "org/model-b"]
    assert found[1][header.index("Music")] == "0.0"
    assert found[1][header.index("Avg.")] == "-"
    markdown = rows.rows(frames, "markdown").splitlines()
    assert [cell.strip() for cell in markdown[2].split("|")[1:-1]] == found[0]
    assert rows.rows(frames, "latex").splitlines()[-1].count("&") == len(header) - 1
    documents = list(yaml.safe_load_all(rows.rows(frames, "model-index")))
    result = documents[1]["model-index"][0]["results"][0]
    assert {"type": "accuracy", "name": "Music (strict)", "value": 0.0} in result["metrics"]
    assert result["dataset"]["type"] == "mmaupro-sample"  # never as if it were the benchmark


# --- over loopback --------------------------------------------------------------------------------


def test_served_clips_come_whole_and_in_parts_and_nothing_else_does(written, frames):
    clips = page.clip_files(frames, written["html"].parent)
    with serve.server(written["html"].parent, clips) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"

        def get(path, method="GET", **headers):
            asked = urllib.request.Request(address + path, headers=headers, method=method)
            with urllib.request.urlopen(asked) as got:
                return got.status, got.read()

        assert get("/")[1] == written["html"].read_bytes()
        whole = get("/clip/0")
        assert whole == (200, clips[0].read_bytes())
        assert get("/clip/0", Range="bytes=10-19") == (206, whole[1][10:20])
        assert get("/clip/0", Range="bytes=-5") == (206, whole[1][-5:])
        for path, code in [("/clip/99999", 404), ("/../secret", 404), ("/figures/", 404)]:
            with pytest.raises(urllib.error.HTTPError) as error:
                get(path)
            assert error.value.code == code
        with pytest.raises(urllib.error.HTTPError) as error:
            get("/clip/0", Host="evil.example:80")
        assert error.value.code == 403
        with pytest.raises(urllib.error.HTTPError) as error:
            get("/", Host="127.0.0.1.evil.example", method="HEAD")
        assert error.value.code == 403
        assert get("/", Host="localhost") == get("/")  # as on port 80
        assert get("/", method="HEAD") == (200, b"")
        with pytest.raises(urllib.error.HTTPError) as error:
            get("/clip/0", Range=f"bytes={len(whole[1])}-")
        assert error.value.code == 416
        server.shutdown()


def test_a_player_that_hangs_up_and_a_damaged_request_leave_no_traceback(tmp_path, capsys):
    clip = tmp_path / "long.wav"
    clip.write_bytes(bytes(20_000_000))  # more than any socket's buffer, so that sending fails
    with serve.server(tmp_path, [clip]) as server:
        server.daemon_threads = False  # so that closing waits for them
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for path in ("/clip/0", "/%00", "//["):
            with socket.create_connection(server.server_address) as asked:
                asked.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost:1\r\n\r\n".encode())
                asked.recv(10)
        server.shutdown()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("port", [99_999, None])
def test_a_port_that_cannot_be_had_is_said(port, tmp_path):
    with serve.server(tmp_path, []) as taken, pytest.raises(ConfigError, match="--port"):
        serve.server(tmp_path, [], port or taken.server_address[1])


# --- the notebook ---------------------------------------------------------------------------------


def test_the_example_notebook_runs_from_top_to_bottom(tmp_path, monkeypatch):
    write_run(tmp_path / "results" / "nano", model="nano")
    monkeypatch.chdir(tmp_path)
    notebook = Path(__file__).parents[1] / "examples" / "look_at_a_run.ipynb"
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    names: dict = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert len(names["items"]) == sum(map(len, DOCS.values()))
    assert names["pictures"]["categories.png"].startswith(b"\x89PNG")
