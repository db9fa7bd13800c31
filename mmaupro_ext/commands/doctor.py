"""`mmaupro doctor`: does a checkpoint listen? One minute before a night of evaluation."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

from mmaupro_ext import __version__
from mmaupro_ext.errors import ConfigError

DESCRIPTION = """\
Check a checkpoint before an overnight run: does the audio change what the model expects, in what
order are clips heard, is the end of a 10-minute clip heard, are left and right told apart, do stock
and native features agree, do answers depend on the batch, how fast is it. A plain verdict each.
"""

EPILOG = """\
examples:
  mmaupro doctor --model hf-audio --model_args pretrained=nano
  mmaupro doctor --model hf-audio --apply_chat_template \\
                 --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct,dtype=bfloat16
  mmaupro doctor --model hf-audio --model_args pretrained=...,channels=stereo-as-two --json doctor.json

Give the model_args, the batch size and --apply_chat_template of the planned run. The sounds are
made up (tones and noise), so nothing needs to be downloaded but the model. "moves it by" is the
largest change of a log-probability among the likely first tokens of the reply.

exit status: 0; 1 when some verdict is NO; 2 when the model cannot be loaded.
"""

_MARKS = {"yes": "yes ", "NO": "NO  ", "note": "note"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro doctor`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", default="hf-audio", help="hf-audio (the default)")
    parser.add_argument(
        "--model_args",
        default="",
        metavar="KEY=VALUE,...",
        help="as for lm_eval: pretrained=..., dtype=..., long_audio=..., ...",
    )
    parser.add_argument("--batch_size", default="4", help="as for lm_eval (default: 4)")
    parser.add_argument("--device", help="as for lm_eval")
    parser.add_argument(
        "--apply_chat_template",
        action="store_true",
        help="ask through the model's chat template, as the run will",
    )
    parser.add_argument("--json", metavar="FILE", help="write the findings there, too")


def run(args: argparse.Namespace) -> int:
    """Load the model, print a verdict a line, and return the exit status."""
    if args.model != "hf-audio":
        raise ConfigError(
            f"the doctor looks inside the model, which --model {args.model} does not let it. Give "
            "--model hf-audio."
        )
    from lm_eval.utils import simple_parse_args_string

    from mmaupro_ext.models.doctor import BAD, Doctor
    from mmaupro_ext.models.hf.model import HFAudioLM

    options = simple_parse_args_string(args.model_args)
    if not options.get("pretrained"):
        raise ConfigError("which model? Give --model_args pretrained=NAME_OR_PATH.")
    start = time.perf_counter()
    lm = HFAudioLM(
        **{"batch_size": args.batch_size, "device": args.device} | options  # type: ignore[arg-type]
    )
    if lm.family is None:
        raise ConfigError(
            f"the model of type {lm.config.model_type!r} takes no audio: there is nothing to listen for."
        )
    doctor = Doctor(lm, use_template=args.apply_chat_template)
    about = describe(lm, time.perf_counter() - start)
    for line in about_lines(about):
        print(line)
    print()
    findings = []
    width = max(len(question) for question, _ in doctor.checks())
    for finding in doctor.examine():
        findings.append(finding)
        print(
            f"{_MARKS[finding.verdict]}  {finding.question:<{width}}  {finding.detail}", flush=True
        )
    bad = [finding for finding in findings if finding.verdict == BAD]
    print()
    print(conclusion(len(bad), len(findings), time.perf_counter() - start))
    if not args.apply_chat_template and lm.has_chat_template:
        print(
            "The checkpoint has a chat template that was not used: if the run will, add "
            "--apply_chat_template here, too."
        )
    if args.json:
        content = {"about": about, "findings": [finding.as_dict() for finding in findings]}
        Path(args.json).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        print(f"Findings: {args.json}", file=sys.stderr)
    return 1 if bad else 0


def describe(lm: Any, load_s: float) -> dict[str, Any]:
    """Return what was loaded."""
    family = lm.family
    return {
        "mmaupro_ext": __version__,
        "pretrained": str(lm.config.name_or_path or type(lm.model).__name__),
        "class": type(lm.model).__name__,
        "family": family.name,
        "parameters": sum(parameter.numel() for parameter in lm.model.parameters()),
        "dtype": str(lm.model.dtype).removeprefix("torch."),
        "device": str(lm.device),
        "max_length": lm.max_length,
        "frontend": lm.frontend,
        "channels": lm.channels,
        "long_audio": lm.long_audio.policy,
        "whole_s": family.writing.whole_s,
        "window_s": family.writing.window_s,
        "notes": list(family.notes),
        "load_s": round(load_s, 2),
    }


def about_lines(about: dict[str, Any]) -> list[str]:
    """Return the head of the report."""
    whole = "of any length" if about["whole_s"] is None else f"up to {about['whole_s']:g} s"
    return [
        f"{about['class']} ({about['family']}): {about['parameters']:,} weights, {about['dtype']} on "
        f"{about['device']}, context {about['max_length']:,} tokens, loaded in {about['load_s']:.1f} s",
        f"hears clips {whole} its own way; long_audio={about['long_audio']}, "
        f"channels={about['channels']}, frontend={about['frontend']}",
    ]


def conclusion(bad: int, findings: int, seconds: float) -> str:
    """Return the last line."""
    if bad:
        return f"{bad} of {findings} checks failed: read them before you start. ({seconds:.0f} s in all)"
    return f"The audio gets through: nothing speaks against a run. ({seconds:.0f} s in all)"
