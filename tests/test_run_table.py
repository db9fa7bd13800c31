"""The table after a run: every category once, the overall last, within 80 columns."""

from __future__ import annotations

import pytest
from logged_runs import DOCS, good_reply, line_of

from mmaupro_ext.offline import rescoring
from mmaupro_ext.offline.logged_items import Item
from mmaupro_ext.offline.logged_runs import Run
from mmaupro_ext.report import run_table
from mmaupro_ext.scoring import presets


def results_of(scores: dict[str, list[float | None]], **more) -> dict:
    values = {
        task: {
            "alias": task,
            "sample_len": len(own),
            "errored,none": 0.0,
            **({"acc,none": sum(own) / len(own), "parsed,none": 1.0} if None not in own else {}),
        }
        for task, own in scores.items()
    }
    return {
        "results": {**values, **more},
        "configs": dict.fromkeys([*values, *more], {}),
        "groups": {},
    }


def lines_of(results: dict, samples=None) -> list[str]:
    return run_table.render(results, samples).splitlines()


def test_the_overall_is_last_once_and_over_what_is_scored():
    results = results_of(
        {
            "mmaupro_sound": [1.0, 0.0],
            "mmaupro_music": [1.0] * 6,
            "mmaupro_open": [None, None],
        }
    )
    results["results"]["mmaupro_sound"]["errored,none"] = 0.5
    results["group_subtasks"] = {"mmaupro": list(results["configs"])}
    results["results"]["mmaupro"] = {"acc,none": 0.875}
    lines = lines_of(results)
    assert lines[0] == "mmaupro"
    assert [line.split()[0] for line in lines[3:]] == ["sound", "music", "open", "overall"]
    assert "unscored" in lines[5]
    assert lines[-1].startswith("overall (without 2 unscored)")
    assert lines[-1].split()[-5:] == ["8", "87.5", "-", "100.0", "1"]


def test_the_widest_row_fits_80_columns():
    results = results_of({f"mmaupro-sample_{slug}": [0.0] * 4000 for slug in DOCS})
    assert max(map(len, lines_of(results))) <= 80


def test_intervals_are_those_of_mmaupro_score():
    samples, items, verdicts = {}, [], {}
    for slug in ("sound", "multi"):
        docs = DOCS[slug]
        verdicts[slug] = [float(position % 3 > 0) for position in range(len(docs))]
        samples[f"mmaupro-sample_{slug}"] = [
            {
                "doc": doc,
                "acc": score,
                "arguments": [tuple(line_of(doc, "")["arguments"]["gen_args_0"].values())],
            }
            for doc, score in zip(docs, verdicts[slug], strict=True)
        ]
        for doc, score in zip(docs, verdicts[slug], strict=True):
            reply = good_reply(doc) if score else "Z"
            items.append(Item(doc, reply, clips=tuple(doc["audio_sha256"])))
    run = Run("m", "sample", tuple(items), (), ())
    scored, result = rescoring.score_run(run, presets.resolve("strict", []))
    by_task = results_of({f"mmaupro-sample_{slug}": own for slug, own in verdicts.items()})
    if [verdict.score for verdict in scored] != [s for own in verdicts.values() for s in own]:
        pytest.fail("the replies do not score what this test takes them to score")
    expected = [*(result["categories"][name] for name in ("sound", "multi")), result["overall"]]
    for line, entry in zip(lines_of(by_task, samples)[3:], expected, strict=True):
        assert f"{entry['low']:.1f} to {entry['high']:.1f}" in line


def test_other_tasks_keep_lm_eval_s_table():
    results = results_of({"mmaupro_sound": [1.0]}, mmlu={"alias": "mmlu", "acc,none": 0.5})
    results["group_subtasks"] = {"mmaupro": ["mmaupro_sound"]}
    results["groups"] = {"mmaupro": {"acc,none": 1.0}}
    ours, others = run_table.split(results)
    assert ours == {"mmaupro": ["mmaupro_sound"]}
    assert list(others["results"]) == ["mmlu"]
    assert others["groups"] == {}
    assert "mmaupro_sound" in results["results"]  # what is saved stays whole


def test_a_run_without_our_tasks_has_no_table_of_ours():
    assert run_table.render(results_of({}, mmlu={"acc,none": 0.5})) == ""
