"""`mmaupro doctor`: does a checkpoint listen? One minute before a night of evaluation."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.util import visible

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mmaupro doctor`."""
    parser.description, parser.epilog = DESCRIPTION, EPILOG
    parser.add_argument("--model", default="hf-audio", help="hf-audio (the default)")
    parser.add_argument(
        "--model_args",
        default="",
        metavar="KEY=VALUE,...",
        help="as for lm_eval: pretrained=...,dtype=...,long_audio=..., or a JSON object, which a path "
        "with a comma needs",
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
    """Examine the model, and return the exit status."""
    if args.model != "hf-audio":
        raise ConfigError(
            f"the doctor looks inside the model, which --model {args.model} does not let it. Give "
            "--model hf-audio."
        )
    options = model_args(args.model_args)
    if not options.get("pretrained"):
        raise ConfigError("which model? Give --model_args pretrained=NAME_OR_PATH.")
    from mmaupro_ext import util
    from mmaupro_ext.report import doctor

    found = doctor.examine(
        {"batch_size": args.batch_size, "device": args.device} | options,
        args.apply_chat_template,
        say=lambda line: print(visible(line), flush=True),
    )
    if args.json:
        util.write_json(args.json, found)
        print(f"Findings: {args.json}", file=sys.stderr)
    return 1 if doctor.failed(found) else 0


def model_args(text: str) -> dict[str, Any]:
    """Return model arguments that are written as lm_eval takes them: name=value pairs, or JSON."""
    if not text.lstrip().startswith("{"):
        from lm_eval.utils import simple_parse_args_string

        return simple_parse_args_string(text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"--model_args is no JSON ({error}). Quote it for the shell: '{{...}}'."
        ) from None
