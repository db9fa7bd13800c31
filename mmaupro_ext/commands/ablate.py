"""`mmaupro ablate`: the same items under several conditions in one run, and what their answers rest on."""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmaupro_ext.compat.command import UNTIL
from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import visible, write_json

OUTPUT = "results"
PROFILE = "reliance.json"

_BACKBONE, _REPHRASE = "text-backbone", "rephrase"

DESCRIPTION = """\
Did it listen? Ask the same items again without audio, with noise, with another clip, in pieces, with the
choices in other orders, … and print what the answers rest on: accuracy under each condition with paired
intervals, the share of items that need the audio, and how much of it is choice order or chance.

All conditions are asked in one process and kept in one journal: a clip is decoded once, and hf-audio encodes
the same sound once. The same command goes on after an interruption. All options of `mmaupro run` are taken
as well; --limit counts items.
"""


def _epilog() -> str:
    from mmaupro_ext.data.conditions import CONDITIONS

    lines = [
        f"  {one.name:<14} {one.changes};\n{'':17}tells {one.tells}" for one in CONDITIONS.values()
    ]
    return (
        "conditions (the items as they are, `full`, are always asked as well):\n"
        + "\n".join(lines)
        + f"""

examples:
  mmaupro ablate --model hf-audio --model_args pretrained=nano --tasks mmaupro-sample
  mmaupro ablate --model hf-audio --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct \\
                 --apply_chat_template --tasks mmau --conditions none,noise,swap,permute
  mmaupro ablate --model openai-audio --model_args base_url=http://localhost:8000/v1,model=NAME \\
                 --tasks mmar --limit 50 --conditions none,silence,fragments
  mmaupro ablate --model hf-audio --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct --tasks mmau \\
                 --backbone hf-audio --backbone_args pretrained=Qwen/Qwen-7B-Chat
  mmaupro compare {OUTPUT}/MODEL/full {OUTPUT}/MODEL/noise

One condition alone, in any run: lm_eval … --metadata condition=noise. An item that cannot be asked (mono
without a stereo clip, permute without choices, …) is counted with the reason. Each condition's results and
samples go to OUTPUT/MODEL/CONDITION, the profile to OUTPUT/MODEL/{PROFILE}. docs/ablations.md has an example.
"""
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the description, options and examples of `mmaupro ablate`."""
    parser.description, parser.epilog = DESCRIPTION, _epilog()
    parser.allow_abbrev = False  # what is not ours is lm_eval's
    parser.add_argument(
        "--conditions",
        metavar="A,B",
        help="which ones (default: all; text-backbone and rephrase where what they need is given)",
    )
    parser.add_argument(
        "--backbone",
        metavar="CLASS",
        help="for text-backbone: class of the text model, any of lm_eval's (default: hf-audio)",
    )
    parser.add_argument(
        "--backbone_args",
        metavar="ARGS",
        help="its arguments, as for --model_args: pretrained=NAME",
    )
    parser.add_argument(
        "--rephrasings",
        metavar="FILE",
        help='for rephrase: lines of {"id": …, "question": …, "choices": […]}, question or choices or both',
    )


def run(args: argparse.Namespace) -> int:
    """Run `mmaupro ablate` and return the exit status."""
    wanted = _wanted(args)
    given = [*args.more]
    if not {"--output_path", "-o"} & {word.partition("=")[0] for word in given}:
        given += ["--output_path", OUTPUT]
    if args.rephrasings:
        given += ["--metadata", f"rephrasings={args.rephrasings}"]
    options = _parsed(["run", *given, "--log_samples"])
    if str(options.output_path).endswith(".json"):
        raise ConfigError(f"--output_path {options.output_path}: name a folder")
    if hasattr(options, UNTIL):
        raise ConfigError("--until-se stops at a score of the benchmark. An ablation takes --limit")

    from mmaupro_ext.compat.ablation import Ablation
    from mmaupro_ext.compat.lm_eval_0_4_13 import asking_under

    heard = Ablation(tuple(name for name in wanted if name != _BACKBONE))
    with asking_under(heard):
        _ask(copy.copy(options))
    # Of several processes, the first writes; all of them ask.
    folder = heard.written["full"].parents[1] if heard.written else None
    if _BACKBONE in wanted:
        its_args = ["--model_args", args.backbone_args] if args.backbone_args else []
        other = _parsed(["run", "--model", args.backbone or "hf-audio", *its_args])
        options.model, options.model_args = other.model, other.model_args
        read = Ablation((_BACKBONE,), full=False, folder=folder)
        with asking_under(read):
            _ask(options)
        heard.not_asked |= read.not_asked
        heard.written |= read.written
    if folder is not None:
        _report(folder, heard.written, heard.not_asked)
    return 0


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of lm_eval's command as it reads them; SystemExit for those that it has not."""
    from mmaupro_ext import compat

    compat.install()
    # The built-in models must be in the registry before ours, or lm_eval takes it for filled.
    import lm_eval.models  # noqa: F401
    from lm_eval._cli.harness import HarnessCLI
    from lm_eval.utils import setup_logging

    setup_logging()  # as lm_eval's own command does: else only warnings are shown, and their secrets too
    before, sys.argv = sys.argv, ["mmaupro", *words]
    try:
        return HarnessCLI().parse_args()
    finally:
        sys.argv = before  # by which an interrupted run names the command that goes on


def _ask(options: argparse.Namespace) -> None:
    """Run lm_eval's command; SystemExit where it fails or is interrupted, with what to do."""
    options.func(options)


def _wanted(args: argparse.Namespace) -> list[str]:
    """Return the conditions that are asked, in their order; refuse those without what they need."""
    from mmaupro_ext.data.conditions import CONDITIONS, FULL, known

    needs = {
        _BACKBONE: (args.backbone_args or args.backbone, "--backbone_args pretrained=NAME"),
        _REPHRASE: (args.rephrasings, "--rephrasings FILE"),
    }
    if args.conditions is None:
        return [name for name in CONDITIONS if name not in needs or needs[name][0]]
    named = [name.strip() for name in args.conditions.split(",") if name.strip()]
    if not named:
        raise ConfigError("--conditions names none. Leave it out for all, or see --help")
    for name in named:
        if name != FULL:
            known(name)
        if name in needs and not needs[name][0]:
            raise ConfigError(f"the condition {name} needs {needs[name][1]}")
    for name, (value, option) in needs.items():
        if value and name not in named:
            raise ConfigError(
                f"{option.partition(' ')[0]} is for {name}, which --conditions leaves out"
            )
    return [name for name in CONDITIONS if name in named]


def _report(folder: Path, written: dict[str, Path], not_asked: dict[str, Any]) -> None:
    """Print the profile of each benchmark, write all beside the results, and say what was not asked."""
    from mmaupro_ext.benchmarks import MMAUPRO
    from mmaupro_ext.data.items import dataset_title
    from mmaupro_ext.offline.ablated import answers_of, backbone_of
    from mmaupro_ext.offline.logged_runs import read_all
    from mmaupro_ext.offline.rescoring import own_prompt
    from mmaupro_ext.report import reliance as shown
    from mmaupro_ext.report.after_run import not_asked_line
    from mmaupro_ext.scoring import reliance

    runs = [file.parent for file in written.values()]
    profiles = {}
    for one in read_all([folder / "full"], accept_changed=True):
        found = reliance.profile(answers_of(runs, one.name))
        profiles[one.name] = shown.as_dict(found)
        sample = one.dataset == "sample"
        there = {item.doc["category"] for item in one.items}
        whole = not one.deviations and there == set(one.benchmark.by_value)
        as_released = one.asks_for == own_prompt(one.name) and not one.recipe
        published = one.name == MMAUPRO and not sample and whole and as_released
        title = (
            f"{visible(one.model)} on {'the ' if sample else ''}{dataset_title(one.name, sample)}"
        )
        title += " (says nothing about the benchmark)" if sample else ""
        if one.recipe:
            title += f"\nAsked by the recipe {one.recipe}; replies are read as strict reads them"
        elif not as_released:
            title += f"\nIn other words than the authors': -{one.asks_for}"
        if one.deviations:
            title += f"\nNot all of it: {one.deviations[0]}"
        print(f"\n{title}\n\n{shown.render(found, published)}")
    backbone = backbone_of(folder) if _BACKBONE in written else None
    if backbone is not None:
        print(f"{_BACKBONE}: {visible(backbone)}")
    for name, reasons in not_asked.items():
        if reasons:
            print(f"NOT ASKED {not_asked_line(name, reasons)}")
    content = {
        "not_asked": {name: dict(reasons) for name, reasons in not_asked.items()},
        "backbone": backbone,
        "runs": sorted(os.path.relpath(run, folder) for run in runs),
        "profiles": profiles,
    }
    write_json(folder / PROFILE, content)
    print(f"Profile: {folder / PROFILE}", file=sys.stdout)
