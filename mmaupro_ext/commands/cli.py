"""The entry point of `mmaupro`: which subcommand is which module, and what is handed to lm_eval."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mmaupro_ext import __version__, extras, versions
from mmaupro_ext.commands.help import Help
from mmaupro_ext.errors import MMAUProError
from mmaupro_ext.util import nearest, visible

LM_EVAL_COMMANDS = {
    "run": "run an evaluation (options: mmaupro run --help)",
    "ls": "list tasks, groups and tags, ours included",
    "validate": "check that task names exist",
}

# Command -> its module below mmaupro_ext.commands, and what `--help` says of it in one line.
COMMANDS = {
    "info": ("info", "what this installation computes with: SIMD level, backend, versions, data"),
    "path": ("path", "print the task folder, for lm_eval --include_path"),
    "data fetch": ("data_fetch", "download all of it, or only the clips of some items"),
    "data verify": ("data_verify", "read every clip and compare with what is known of the release"),
    "data info": ("data_info", "what is in it, as tables and one picture"),
    "data show": ("data_show", "one item as a person would look at it"),
    "runs": ("runs", "runs that were started: done, left, errored, and the command that goes on"),
    "ablate": ("ablate", "did it listen? the same items without audio, with noise, in pieces, …"),
    "score": ("score", "score logged replies again, offline, in another way"),
    "reconcile": (
        "reconcile",
        "the same replies under every published rule, and why two numbers differ",
    ),
    "compare": ("compare", "is the difference between two runs more than chance?"),
    "report": ("report", "a page to look at, with figures and every item; tables for papers"),
    "doctor": ("doctor", "does a checkpoint listen? a check before a run"),
    "recipes": ("recipes", "how a model's authors asked, decoded and read, and what they claim"),
    "models": ("models", "the audio models that hf-audio knows"),
    "features": ("features", "log-mel frames of a whole corpus, in files to train on"),
    "completion": ("completion", "completion of commands and options, for bash, zsh or fish"),
    "hook": (
        "hook",
        "the start-up hook that lets the bare lm_eval command find us: status, enable, disable",
    ),
}

GROUPS = {
    "data": (
        "the dataset: fetch, verify, info, show",
        "Fetch MMAU-Pro whole or in part, check a copy, and look into it.",
    )
}

EXAMPLES = """
first steps:
  mmaupro run --model hf-audio --model_args pretrained=nano \\
              --tasks 'mmaupro-sample_*' --output_path results --log_samples
                        the embedded sample on the small model that ships with this package
  mmaupro run --model hf-audio --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct \\
              --tasks mmaupro --metadata data_dir=DIR --apply_chat_template
                        the real benchmark (5,305 questions) with its overall row
  mmaupro run ... --tasks mmaupro --until-se 2
                        stops when the overall is known to two points (docs/anytime.md)
  mmaupro run ... --tasks mmau --metadata recipe=r1-aqa
                        asked, decoded and read as its authors did (mmaupro recipes)
  mmaupro run ... --tasks audio-suite
                        MMAU-Pro, MMAU, MMAR and MMSU, one overall row each (docs/benchmarks.md)
  accelerate launch -m mmaupro_ext run ...
                        the same on several GPUs
  mmaupro run --model openai-audio --model_args base_url=http://localhost:8000/v1,model=NAME ...
                        a model behind vLLM, SGLang, llama-server, transformers serve or a cloud
  mmaupro run --model vllm-audio --model_args pretrained=NAME,tensor_parallel_size=2 ...
                        vLLM in this process

`mmaupro run`, `ls` and `validate` take exactly the options of `lm_eval run`, `ls` and `validate`.
After a plain pip install the bare `lm_eval` command does the same.
"""


class _Parser(argparse.ArgumentParser):
    """A parser that imports its command's module when it is first used, and says errors in one line."""

    module: str | None = None

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": Help, **options})

    def load(self) -> None:
        """Add the options of the command, if that was not done yet."""
        if self.module is not None:
            command = importlib.import_module(f"mmaupro_ext.commands.{self.module}")
            self.module = None
            command.add_arguments(self)
            self.set_defaults(run=command.run)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # What is not an option of `ablate` is lm_eval's, which says itself what it does not take.
        is_command = self.module not in (None, "ablate")
        self.load()
        namespace, others = super().parse_known_args(args, namespace)
        if others and is_command:
            known = [name for action in self._actions for name in action.option_strings]
            self.error(f"there is no argument {others[0]!r}.{nearest(others[0], known)}")
        return namespace, others

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            what = action.metavar or "/".join(action.option_strings) or action.dest
            near = nearest(str(value), known) or f" Known: {', '.join(known)}."
            self.error(f"{what}: {value!r} is unknown.{near}")

    def error(self, message: str) -> NoReturn:
        """End with one line, and where the options are explained."""
        end = "" if message.endswith(".") else "."
        self.exit(2, visible(f"{self.prog}: {message}{end} See: {self.prog} --help") + "\n")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the `mmaupro` command; lm_eval's own subcommands only have their help line."""
    parser = _Parser(
        prog="mmaupro",
        description="Evaluate audio-language models in lm-evaluation-harness: MMAU-Pro, MMAU, MMAR, MMSU.",
        epilog=EXAMPLES,
    )
    parser.add_argument("--version", action="version", version=f"mmaupro-ext {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in LM_EVAL_COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    groups: dict[str, Any] = {}
    for name, (module, text) in COMMANDS.items():
        group, _, action = name.rpartition(" ")
        if group and group not in groups:
            help_line, description = GROUPS[group]
            groups[group] = commands.add_parser(
                group, help=help_line, description=description
            ).add_subparsers(dest="action", metavar="ACTION", required=True)
        groups.get(group, commands).add_parser(action, help=text).module = module
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the `mmaupro` command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments without the program's name; `sys.argv[1:]` by default.

    Raises
    ------
    SystemExit
        With the exit status of the subcommand; 2 for arguments that it does not take and for an
        error that names what to do.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv and (argv[0] in LM_EVAL_COMMANDS or _is_legacy_run(argv)):
        _hand_to_lm_eval(argv)
        return
    parser = build_parser()
    args = _parse(parser, argv)
    if args.command is None:
        parser.print_help()
        return
    sys.exit(_run(args))


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Return the options; as `more` the words for lm_eval's own command, which only `ablate` takes."""
    args, more = parser.parse_known_args(argv)
    if more and args.command != "ablate":
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    args.more = more
    return args


def _run(args: argparse.Namespace) -> int:
    """Run a subcommand of our own; an error made on purpose is a sentence, not a traceback."""
    try:
        return args.run(args)
    except BrokenPipeError:  # `| head` has read enough; nothing more can be said to it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the process ends
        return 0
    except MMAUProError as error:
        print(visible(f"mmaupro {args.command}: {error}"), file=sys.stderr)
        return 2
    except Exception as error:
        if missing := extras.advice(error):
            print(f"mmaupro {args.command}: this needs {missing}", file=sys.stderr)
            return 2
        versions.explain(error)
        raise


def _is_legacy_run(argv: Sequence[str]) -> bool:
    """Return whether this is `mmaupro --model … --tasks …`, which lm_eval takes to mean `run`."""
    return (
        len(argv) > 1 and argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")
    )


def _hand_to_lm_eval(argv: Sequence[str]) -> None:
    from mmaupro_ext import compat

    compat.install()
    try:
        # The built-in models must be in the registry before ours, or lm_eval takes it for filled.
        import lm_eval.models  # noqa: F401
        from lm_eval.__main__ import cli_evaluate

        sys.argv = ["mmaupro", *argv]
        cli_evaluate()
    except KeyboardInterrupt:  # before a run has begun; from then on it says more
        print("\nInterrupted.", file=sys.stderr)
        raise SystemExit(130) from None
    except ModuleNotFoundError as error:
        if missing := extras.advice(error):
            print(f"mmaupro {argv[0]}: this needs {missing}", file=sys.stderr)
            raise SystemExit(2) from error
        raise
