"""The `mmaupro` command: lm_eval's own command line with our models and tasks, and what stands around it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import textwrap
from pathlib import Path
from typing import Any

from mmaupro_ext import __version__, plugin
from mmaupro_ext.errors import MMAUProError

LM_EVAL_COMMANDS = ("run", "ls", "validate")

EXAMPLES = """
first steps:
  mmaupro run --model hf-audio --model_args pretrained=nano \\
              --tasks 'mmaupro-sample_*' --output_path results --log_samples
                        the embedded sample on the small model that ships with this package
  mmaupro run --model hf-audio --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct \\
              --tasks mmaupro --metadata data_dir=DIR --apply_chat_template
                        the real benchmark (5,305 questions) with its overall row
  accelerate launch -m mmaupro_ext run ...
                        the same on several GPUs
  mmaupro run --model openai-audio --model_args base_url=http://localhost:8000/v1,model=NAME ...
                        a model behind vLLM, SGLang, llama-server, transformers serve or a cloud
  mmaupro run --model vllm-audio --model_args pretrained=NAME,tensor_parallel_size=2 ...
                        vLLM in this process

`mmaupro run`, `ls` and `validate` take exactly the options of `lm_eval run`, `ls` and `validate`.
After a plain pip install the bare `lm_eval` command does the same.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the `mmaupro` command (lm_eval's subcommands are handed on before it)."""
    parser = argparse.ArgumentParser(
        prog="mmaupro",
        description="Evaluate audio-language models on MMAU-Pro inside lm-evaluation-harness.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mmaupro-ext {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for name, text in (
        ("run", "run an evaluation (options: mmaupro run --help)"),
        ("ls", "list tasks, groups and tags, ours included"),
        ("validate", "check that task names exist"),
    ):
        commands.add_parser(name, help=text, add_help=False)
    info = commands.add_parser(
        "info",
        help="what this installation computes with: SIMD level, backend, versions, data",
        description="Print the versions, the native frontend's backend and SIMD level, and where "
        "the tasks and the data are.",
    )
    info.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    commands.add_parser(
        "path",
        help="print the task folder, for lm_eval --include_path",
        description="Print the folder of the task YAML files. `lm_eval --include_path $(mmaupro path)` "
        "finds the tasks without the start-up hook.",
    )
    _add_data_commands(commands)
    _add_score_command(commands)
    _add_frontend_command(commands)
    _add_doctor_command(commands)
    _add_models_command(commands)
    hook = commands.add_parser(
        "hook",
        help="the start-up hook that lets the bare lm_eval command find us: status, enable, disable",
        description=textwrap.dedent(
            f"""\
            lm_eval 0.4.13 discovers no plug-ins. A plain pip install therefore adds a one-line
            start-up file to site-packages that lets the bare `lm_eval` command find our models and
            tasks. `mmaupro run` never needs it. Set {plugin.OFF_SWITCH}=1 to switch it off for one
            process."""
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    hook.add_argument(
        "action", nargs="?", choices=("status", "enable", "disable"), default="status"
    )
    return parser


def _add_score_command(commands: Any) -> None:
    from mmaupro_ext.report import score_command

    score = commands.add_parser("score", help="score logged replies again, offline, in another way")
    score_command.add_score_arguments(score)
    score.set_defaults(run=score_command.run_score)


def _add_frontend_command(commands: Any) -> None:
    from mmaupro_ext.report import frontend_command

    frontend = commands.add_parser(
        "frontend", help="look inside the frontend: info, bench, plot; on your files and machine"
    )
    frontend_command.add_frontend_arguments(frontend)
    frontend.set_defaults(run=frontend_command.run_frontend)


def _add_doctor_command(commands: Any) -> None:
    from mmaupro_ext.report import doctor_command

    doctor = commands.add_parser("doctor", help="does a checkpoint listen? a check before a run")
    doctor_command.add_doctor_arguments(doctor)
    doctor.set_defaults(run=doctor_command.run_doctor)


def _add_models_command(commands: Any) -> None:
    from mmaupro_ext.report import models_command

    models = commands.add_parser("models", help="the audio models that hf-audio knows")
    models_command.add_models_arguments(models)
    models.set_defaults(run=models_command.run_models)


def _add_data_commands(commands: Any) -> None:
    from mmaupro_ext.data import fetch, verify
    from mmaupro_ext.report import item, overview

    data = commands.add_parser(
        "data",
        help="the dataset: fetch, verify, info, show",
        description="Fetch MMAU-Pro whole or in part, check a copy, and look into it.",
    )
    actions = data.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text, add_arguments, run in (
        (
            "fetch",
            "download all of it, or only the clips of some items",
            fetch.add_fetch_arguments,
            fetch.run_fetch,
        ),
        (
            "verify",
            "read every clip and compare with what is known of the release",
            verify.add_verify_arguments,
            verify.run_verify,
        ),
        (
            "info",
            "what is in it, as tables and one picture",
            overview.add_info_arguments,
            overview.run_info,
        ),
        (
            "show",
            "one item as a person would look at it",
            item.add_show_arguments,
            item.run_show,
        ),
    ):
        action = actions.add_parser(name, help=text)
        add_arguments(action)
        action.set_defaults(run=run)


def main(argv: list[str] | None = None) -> None:
    """Run the `mmaupro` command.

    Parameters
    ----------
    argv : list of str, optional
        The arguments without the program's name; `sys.argv[1:]` by default.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv and (argv[0] in LM_EVAL_COMMANDS or _is_legacy_run(argv)):
        _hand_to_lm_eval(argv)
        return
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.command == "info":
        _info(as_json=args.json)
    elif args.command == "path":
        print(plugin.tasks_dir())
    elif args.command == "hook":
        _hook(args.action)
    elif args.command in ("data", "score", "frontend", "doctor", "models"):
        sys.exit(_run(args))
    else:
        parser.print_help()


def _run(args: argparse.Namespace) -> int:
    """Run a subcommand of our own; an error made on purpose is a sentence, not a traceback."""
    try:
        return args.run(args)
    except BrokenPipeError:  # `| head` has read enough; nothing more can be said to it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the process ends
        return 0
    except MMAUProError as error:
        print(f"mmaupro {args.command}: {error}", file=sys.stderr)
        return 2


def _is_legacy_run(argv: list[str]) -> bool:
    """Return whether this is `mmaupro --model … --tasks …`, which lm_eval takes to mean `run`."""
    return (
        len(argv) > 1 and argv[0].startswith("-") and argv[0] not in ("-h", "--help", "--version")
    )


def _hand_to_lm_eval(argv: list[str]) -> None:
    plugin.install()
    # The built-in models must be in the registry before ours, or lm_eval takes it for filled.
    import lm_eval.models  # noqa: F401
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["mmaupro", *argv]
    cli_evaluate()


def _info(*, as_json: bool) -> None:
    from importlib.metadata import PackageNotFoundError, version

    from mmaupro_ext import data, native
    from mmaupro_ext.errors import DataError

    versions = {"mmaupro-ext": __version__}
    for name in ("lm-eval", "transformers", "torch", "numpy", "soundfile", "soxr"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    try:
        where = str(data.locate())
    except DataError:
        where = "not found (the embedded sample always works)"
    facts = {
        "versions": versions,
        "native": native.info(),
        "tasks": plugin.tasks_dir(),
        "hook": _hook_status(),
        "data": where,
    }
    if as_json:
        print(json.dumps(facts, indent=2, default=str))
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {text}" for name, text in value.items())
        print(f"{key + ':':10}{value}")


def _hook_file() -> Path:
    import sysconfig

    return Path(sysconfig.get_paths()["purelib"]) / "mmaupro_ext_hook.pth"


def _hook_status() -> str:
    if os.environ.get(plugin.OFF_SWITCH):
        return f"off ({plugin.OFF_SWITCH} is set)"
    return f"on ({_hook_file()})" if _hook_file().exists() else "off (not installed)"


def _hook(action: str) -> None:
    file = _hook_file()
    try:
        if action == "enable":
            source = Path(__file__).with_name("mmaupro_ext_hook.pth")
            file.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        elif action == "disable":
            file.unlink(missing_ok=True)
    except OSError as error:
        raise SystemExit(
            f"mmaupro hook {action}: {error}. Use an environment that you can write to "
            "(python -m venv .venv), or use `mmaupro run`, which needs no hook."
        ) from None
    print(f"hook: {_hook_status()}")
