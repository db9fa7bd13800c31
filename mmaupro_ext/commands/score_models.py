"""The other models that `mmaupro score` may ask, from its options: embedder, judge and reader."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline.judging import JUDGE, READER, Role
from mmaupro_ext.scoring import scorer
from mmaupro_ext.scoring.open_ended import JUDGE_DTYPE
from mmaupro_ext.scoring.presets import Preset
from mmaupro_ext.store import default_path

if TYPE_CHECKING:
    from mmaupro_ext.offline.embedders import TokenEmbedder
    from mmaupro_ext.offline.judging import CachedJudge

NO_EMBEDDER = "none"
OFFICIAL_EMBEDDER = "nvidia/NV-Embed-v2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of the three."""
    _add_embedder_arguments(parser, OFFICIAL_EMBEDDER, "leaves multiple choice unscored")
    judge = parser.add_argument_group("judge of open questions")
    judge.add_argument(
        "--judge", metavar="JUDGE", help="hf:NAME, or a server's address http://…/v1"
    )
    judge.add_argument("--judge-model", metavar="NAME", help="name of the model at the server")
    judge.add_argument(
        "--judge-key-env",
        metavar="VARIABLE",
        default=JUDGE.key_variable,
        help=f"environment variable with the server's key (default: {JUDGE.key_variable})",
    )
    _add_asking_arguments(judge)
    _add_reader_arguments(parser)


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of embedder and reader, neither of them asked unless it is named."""
    _add_embedder_arguments(parser, NO_EMBEDDER, "computes no rule that needs one")
    _add_reader_arguments(parser)
    _add_asking_arguments(parser.add_argument_group("how the reader is asked"))


def _add_embedder_arguments(parser: argparse.ArgumentParser, default: str, without: str) -> None:
    embedder = parser.add_argument_group("embedder (options closed=embedding)")
    embedder.add_argument(
        "--embedder",
        metavar="NAME",
        default=default,
        help=f"model or folder; {NO_EMBEDDER} {without} (default: {default})",
    )
    embedder.add_argument("--embedder-device", default="auto", metavar="DEVICE")


def _add_asking_arguments(judge: Any) -> None:
    judge.add_argument(
        "--judge-cache",
        metavar="FILE",
        default=str(default_path()),
        help="the store in which answers are kept (default: %(default)s)",
    )
    judge.add_argument(
        "--judge-concurrency", type=int, default=8, metavar="N", help="requests at a time (8)"
    )
    judge.add_argument(
        "--judge-per-minute", type=float, metavar="N", help="requests a minute at most"
    )
    judge.add_argument(
        "--judge-timeout", type=float, default=120.0, metavar="S", help="seconds a request (120)"
    )
    judge.add_argument(
        "--judge-tries", type=int, default=6, metavar="N", help="requests an item at most (6)"
    )
    judge.add_argument("--judge-device", default="auto", metavar="DEVICE", help="of a local judge")
    judge.add_argument("--judge-dtype", default=JUDGE_DTYPE, metavar="DTYPE")
    judge.add_argument("--judge-batch-size", type=int, default=1, metavar="N")


def _add_reader_arguments(parser: argparse.ArgumentParser) -> None:
    reader = parser.add_argument_group(
        "reader of unparsed multiple-choice replies (preset strict)",
        "A model says which option a reply states; never which is right. What it reads is reported apart. "
        "--judge-cache, --judge-concurrency and the other settings of how a judge is asked hold for it too.",
    )
    reader.add_argument(
        "--reader", metavar="READER", help="hf:NAME, or a server's address http://…/v1"
    )
    reader.add_argument("--reader-model", metavar="NAME", help="name of the model at the server")
    reader.add_argument(
        "--reader-key-env",
        metavar="VARIABLE",
        default=READER.key_variable,
        help=f"environment variable with the server's key (default: {READER.key_variable})",
    )


def judge_of(args: argparse.Namespace, preset: Preset) -> CachedJudge:
    """Return the judge that `--judge` names."""
    decoding = scorer.judge_decoding(preset)
    return _asked(args, JUDGE, args.judge, args.judge_model, args.judge_key_env, decoding)


def reader_of(args: argparse.Namespace, preset: Preset) -> CachedJudge:
    """Return the reader that `--reader` names."""
    from mmaupro_ext.offline.reader import require_strict

    require_strict(preset)
    return _asked(args, READER, args.reader, args.reader_model, args.reader_key_env, "greedy")


def _asked(
    args: argparse.Namespace,
    role: Role,
    text: str,
    model: str | None,
    key_variable: str,
    decoding: str,
) -> CachedJudge:
    from mmaupro_ext.offline import judges
    from mmaupro_ext.offline.judging import CachedJudge
    from mmaupro_ext.server_settings import ServerSettings

    settings = ServerSettings(
        concurrency=args.judge_concurrency,
        per_minute=args.judge_per_minute,
        timeout_s=args.judge_timeout,
        tries=args.judge_tries,
    )
    judge = judges.load_judge(
        text,
        decoding,
        model,
        key_variable,
        settings,
        role,
        dtype=args.judge_dtype,
        device=args.judge_device,
        batch_size=args.judge_batch_size,
    )
    return CachedJudge(judge, args.judge_cache, role=role)


def embedder_of(args: argparse.Namespace, preset: Preset) -> TokenEmbedder | None:
    """Return the embedder that a preset needs and `--embedder` names, or None."""
    if preset.options.closed != "embedding" or args.embedder == NO_EMBEDDER:
        return None
    from mmaupro_ext.offline import embedders

    try:
        return embedders.load_embedder(
            args.embedder, store=default_path(), device=args.embedder_device
        )
    except ConfigError as error:
        raise ConfigError(
            f"{error}\nPreset {preset.name} needs an embedder for multiple choice. Name a folder or "
            f"another model with --embedder, or leave multiple choice unscored with --embedder "
            f"{NO_EMBEDDER}"
        ) from error
