"""Models that turn texts into vectors, for the official matching of replies to choices.

`NVEmbedEmbedder` is the released evaluator's: NV-Embed-v2, empty instruction, at most 4,096 tokens.
`SentenceEmbedder` is any other sentence-embedding model; its results are labelled as such.
`CachedEmbedder` keeps what either of them computed on disk. `load_embedder` picks the class by what
the checkpoint is.

Texts are embedded in batches. Padding is masked everywhere, so that a row does not depend on its
company but for the last digits; to hold these still as well, batches have one of few fixed shapes
(`_BUCKETS`, topped up with copies of a row).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from mmaupro_ext.errors import ConfigError
from mmaupro_ext.offline import nv_embed
from mmaupro_ext.offline.embedding_cache import DEFAULT_MAX_BYTES, CachedEmbedder
from mmaupro_ext.scoring.errors import ScoringError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "CachedEmbedder",
    "Embedder",
    "NVEmbedEmbedder",
    "SentenceEmbedder",
    "TokenEmbedder",
    "load_embedder",
]

logger = logging.getLogger(__name__)

PRECISIONS = ("official", "float32", "bfloat16", "float16")
POOLING_MODES = ("mean", "cls", "max", "lasttoken")

# Raised whenever the same model would give other numbers; part of the cache's key.
_SCHEME = 1
# Lengths, in tokens, that batches are padded to.
_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096)
_TOKENS_PER_BATCH = 8192


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into vectors.

    Attributes
    ----------
    name : str
        Of the model.
    label : str
        What a result that rests on it must call it.
    """

    name: str
    label: str

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return float32 (texts, dimensions) with rows of length 1; equal texts, equal rows."""
        ...


@runtime_checkable
class TokenEmbedder(Embedder, Protocol):
    """An embedder that can account for itself.

    Attributes
    ----------
    official : bool
        Whether this is the released evaluator's embedder, set up as there.
    identity : str
        Names everything that the vectors depend on: content of the model files, settings, device
        type. Equal identities give equal vectors up to rounding.
    """

    official: bool
    identity: str

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model does not get to see."""
        ...

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the model, as plain JSON."""
        ...


class _TransformersEmbedder(ABC):
    """What all embedders on transformers share: tokens, batches, device, and weights on demand."""

    label: str
    official: bool
    identity: str

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        revision: str | None,
        device: str,
        batch_size: int,
        max_length: int | None,
        tokenizer_class: str,
    ) -> None:
        import transformers

        self.name = str(source)
        self.folder = _local_folder(self.name, revision)
        if batch_size < 1:
            raise ConfigError(f"batch_size of an embedder must be at least 1, not {batch_size}")
        if max_length is not None and max_length < 2:
            raise ConfigError(f"max_length of an embedder must be at least 2, not {max_length}")
        self.batch_size = batch_size
        self.device = _device(device)
        try:
            self.tokenizer = getattr(transformers, tokenizer_class).from_pretrained(self.folder)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{self.folder}: its tokenizer cannot be loaded ({error}). The folder needs "
                "tokenizer.json and tokenizer_config.json"
            ) from error
        self.max_length = self._default_max_length() if max_length is None else max_length
        self.weights_sha256, self._weight_files = _weights_digest(self.folder)
        self._ready = False

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts; the weights are loaded when this is first called.

        Parameters
        ----------
        texts : sequence of str
            Any; the same text may come several times. What lies beyond `max_length` tokens is not
            seen, which is logged; see `cut_tokens`.

        Returns
        -------
        numpy.ndarray, float32, (texts, dimensions)
            Rows of length 1; (0, 0) for no texts.

        Raises
        ------
        ScoringError
            When a text is no string, or a vector is not finite or has no length.
        """
        import torch

        if not texts:
            return np.zeros((0, 0), dtype=np.float32)
        tokens, cut = self._tokens(texts)
        if any(cut):
            logger.warning(
                "%s sees %d tokens a text at most: %d of %d texts are longer and lose their end",
                self.name,
                self.max_length,
                sum(map(bool, cut)),
                len(texts),
            )
        # Texts that become the same tokens get the very same row, so that ties stay ties.
        unique = dict(zip(reversed(tokens), reversed(texts), strict=True))
        self._load_once()
        rows: dict[tuple[int, ...], np.ndarray] = {}
        with torch.inference_mode():
            for batch, length in _batches(list(unique), self.batch_size, self.max_length):
                ids = torch.full((len(batch), length), self._padding_id(), dtype=torch.long)
                mask = torch.zeros((len(batch), length), dtype=torch.long)
                for i, sequence in enumerate(batch):
                    ids[i, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
                    mask[i, : len(sequence)] = 1
                pooled = self._embed(ids.to(self.device), mask.to(self.device)).float()
                vectors = torch.nn.functional.normalize(pooled, p=2, dim=1).cpu().numpy()
                for sequence, row in zip(batch, vectors, strict=True):
                    if not np.isfinite(row).all() or not row.any():
                        raise ScoringError(
                            f"{self.name} gives no usable vector for the text "
                            f"{unique[sequence][:80]!r}. Use another precision than "
                            f"{self.details().get('precision')!r}"
                        )
                    rows[sequence] = row
        return np.stack([rows[ids] for ids in tokens])

    def cut_tokens(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens of each text the model does not get to see.

        Parameters
        ----------
        texts : sequence of str
            Any.

        Returns
        -------
        list of int
            0 for a text that is seen whole.
        """
        return self._tokens(texts)[1] if texts else []

    def details(self) -> dict[str, Any]:
        """Return what a result should say of the model.

        Returns
        -------
        dict
            Plain JSON, the same for the same model, settings and library versions.
        """
        import torch
        import transformers

        return {
            "name": self.name,
            "label": self.label,
            "official": self.official,
            "weights_sha256": self.weights_sha256,
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "device": self.device.type,
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
            **self._own_details(),
        }

    def _tokens(self, texts: Sequence[str]) -> tuple[list[tuple[int, ...]], list[int]]:
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise ScoringError(
                    f"text {i} to embed is {type(text).__name__}, not a string. Give the replies "
                    "and choices as strings"
                )
        prepared = [self._prepare(text) for text in texts]
        whole = self.tokenizer(prepared, verbose=False)["input_ids"]
        cut_down = self.tokenizer(prepared, truncation=True, max_length=self.max_length)
        cut = [len(a) - len(b) for a, b in zip(whole, cut_down["input_ids"], strict=True)]
        # A model needs at least one token, which "" does not give with every tokenizer.
        return [tuple(ids) or (self._padding_id(),) for ids in cut_down["input_ids"]], cut

    def _load_once(self) -> None:
        if not self._ready:
            logger.info("loading %s on %s", self.name, self.device)
            self._load()
            self._ready = True

    def _padding_id(self) -> int:
        # Masked everywhere, so any token will do where the tokenizer has none for padding.
        return self.tokenizer.pad_token_id or 0

    def _identify(self, **settings: Any) -> str:
        """Return the identity: everything that the vectors depend on, in one line."""
        tokenizer = _digest_of(
            self.folder / name
            for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "tokenizer.model")
        )
        parts = {
            "scheme": _SCHEME,
            "class": type(self).__name__,
            "config": _digest_of([self.folder / "config.json"]),
            "weights": self.weights_sha256,
            "tokenizer": tokenizer,
            "max_length": self.max_length,
            "batch_size": self.batch_size,
            "device": self.device.type,
            **settings,
        }
        return json.dumps(parts, sort_keys=True)

    def _prepare(self, text: str) -> str:
        return text

    @abstractmethod
    def _default_max_length(self) -> int: ...

    @abstractmethod
    def _own_details(self) -> dict[str, Any]: ...

    @abstractmethod
    def _load(self) -> None: ...

    @abstractmethod
    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor: ...


class NVEmbedEmbedder(_TransformersEmbedder):
    """NV-Embed-v2 as the released evaluator runs it, on today's transformers.

    Each text is followed by the end-of-sequence token, tokenised with a beginning-of-sequence
    token, cut after `max_length` tokens (with its end token, where it is longer), and padded on the
    right. No instruction. The checkpoint's own code is not run.

    Parameters
    ----------
    source : str or path
        Folder of the checkpoint, or its name on the hub.
    revision : str, optional
        Commit or branch on the hub.
    device : str
        "auto" (CUDA if there is one, as in the released evaluator), or a torch device.
    precision : {"official", "float32", "bfloat16", "float16"}
        "official" is float32 with, on CUDA, automatic casting of matrix products to float16. Their
        weights are then kept in float16: the same numbers in half the memory, 16 GB. The others
        hold and compute everything in that type.
    batch_size : int
        Texts a batch, at most; the evaluator embeds replies one at a time.
    max_length : int
        Tokens; the evaluator has 4096.

    Raises
    ------
    ConfigError
        When the checkpoint is missing, incomplete, or not NV-Embed; on a wrong option.

    Notes
    -----
    NV-Embed-v2 is licensed CC BY-NC 4.0 by its makers. Lee et al., arXiv 2405.17428.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] = nv_embed.RELEASED_NAME,
        *,
        revision: str | None = None,
        device: str = "auto",
        precision: str = "official",
        batch_size: int = 16,
        max_length: int = nv_embed.OFFICIAL_MAX_LENGTH,
    ) -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r} does not exist. Use one of {PRECISIONS}")
        super().__init__(
            source,
            revision=revision,
            device=device,
            batch_size=batch_size,
            max_length=max_length,
            # What AutoTokenizer would pick goes by the model's type, which transformers does not
            # know; tokenizer.json says all there is to say.
            tokenizer_class="PreTrainedTokenizerFast",
        )
        self.settings = nv_embed.read_settings(_read_json(self.folder / "config.json"), self.name)
        if self._weight_files[0].suffix != ".safetensors":
            raise ConfigError(
                f"{self.folder}: NV-Embed weights are read from *.safetensors, and there are none. "
                f"Fetch {nv_embed.RELEASED_NAME} again, whole"
            )
        self.precision = precision
        if self.tokenizer.eos_token is None:
            raise ConfigError(f"{self.folder}: the tokenizer names no end-of-sequence token")
        deviations = self._deviations()
        self.official = not deviations
        self.label = (
            "NV-Embed-v2, set up as in the released evaluator"
            if self.official
            else f"NV-Embed, not the released evaluator's: {'; '.join(deviations)}"
        )
        self.identity = self._identify(precision=precision)

    def _deviations(self) -> list[str]:
        found = []
        if not self.settings.released_sizes:
            found.append("sizes other than NV-Embed-v2's")
        elif self.weights_sha256 != _combined_sha256(nv_embed.RELEASED_WEIGHTS):
            found.append("weights other than those published as NV-Embed-v2")
        if self.precision != "official":
            found.append(f"precision {self.precision}")
        if self.max_length != nv_embed.OFFICIAL_MAX_LENGTH:
            found.append(f"max_length {self.max_length}")
        return found

    def _default_max_length(self) -> int:
        return nv_embed.OFFICIAL_MAX_LENGTH

    def _own_details(self) -> dict[str, Any]:
        return {
            "instruction": "",
            "pooling": "latent attention, mean over tokens",
            "precision": self.precision,
            "computed_in": "float16 autocast" if self._autocasts else self._weight_type(""),
        }

    @property
    def _autocasts(self) -> bool:
        return self.precision == "official" and self.device.type == "cuda"

    def _prepare(self, text: str) -> str:
        return text + self.tokenizer.eos_token

    def _weight_type(self, name: str) -> str:
        if self.precision != "official":
            return self.precision
        return "float16" if self._autocasts and nv_embed.is_matrix_product(name) else "float32"

    def _load(self) -> None:
        import accelerate
        import torch
        import transformers
        from safetensors import safe_open

        settings = self.settings
        config = transformers.MistralConfig(
            **settings.decoder,
            rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
            sliding_window=None,  # never in force below its 4,096 tokens
        )
        with accelerate.init_empty_weights():
            decoder = transformers.MistralModel(config)
        decoder.set_attn_implementation("sdpa")
        found: dict[str, Path] = {}
        for file in self._weight_files:
            with safe_open(file, framework="pt") as stored:
                found.update(dict.fromkeys(stored.keys(), file))
        parameters = [name for name, _ in decoder.named_parameters()]
        nv_embed.check_names(found, parameters, settings, self.name)
        weights: dict[str, Tensor] = {}
        for file in self._weight_files:
            with safe_open(file, framework="pt", device=str(self.device)) as stored:
                for name in stored.keys():  # noqa: SIM118 - this is no dict
                    weights[name] = stored.get_tensor(name).to(
                        getattr(torch, self._weight_type(name))
                    )
        try:
            decoder.load_state_dict(
                {name: weights[nv_embed.DECODER_PREFIX + name] for name in parameters}, assign=True
            )
        except RuntimeError as error:
            raise ConfigError(
                f"{self.name}: the weights do not fit config.json ({error}). The two do not belong "
                "together"
            ) from error
        self._decoder = decoder.to(self.device).eval()
        cut = len(nv_embed.POOLING_PREFIX)
        self._pooling = nv_embed.LatentPooling(
            {name[cut:]: w for name, w in weights.items() if name.startswith("latent")},
            settings,
            self.name,
        )

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        import torch

        casting: AbstractContextManager[Any] = nullcontext()
        if self._autocasts:
            casting = torch.autocast("cuda", dtype=torch.float16)
        with casting:
            hidden = self._decoder(
                input_ids=ids, attention_mask=nv_embed.attend_to_all(mask), use_cache=False
            ).last_hidden_state
            return self._pooling(hidden, mask)


class SentenceEmbedder(_TransformersEmbedder):
    """Any sentence-embedding model that transformers can load. Not the official embedder.

    A folder in the layout of sentence-transformers says itself how its tokens are pooled
    (`modules.json`), how many it takes, and whether it lower-cases; a folder without gets mean
    pooling. Prompts and instructions are not used. Vectors are brought to length 1.

    Parameters
    ----------
    source : str or path
        Folder of the checkpoint, or its name on the hub.
    revision : str, optional
        Commit or branch on the hub.
    device : str
        "auto" (CUDA if there is one) or a torch device.
    batch_size : int
        Texts a batch, at most.
    max_length : int, optional
        Tokens; what the model takes when left out.
    pooling : {"mean", "cls", "max", "lasttoken"}, optional
        Instead of what the folder says.

    Raises
    ------
    ConfigError
        When the checkpoint is missing or incomplete, or has a step after the pooling that is not
        built here, such as a dense layer; on a wrong option.
    """

    official = False

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        batch_size: int = 32,
        max_length: int | None = None,
        pooling: str | None = None,
    ) -> None:
        super().__init__(
            source,
            revision=revision,
            device=device,
            batch_size=batch_size,
            max_length=max_length,
            tokenizer_class="AutoTokenizer",
        )
        if _read_json(self.folder / "config.json").get("model_type") == nv_embed.MODEL_TYPE:
            raise ConfigError(f"{self.name} is NV-Embed: use NVEmbedEmbedder, or load_embedder")
        if pooling is not None and pooling not in POOLING_MODES:
            raise ConfigError(f"pooling {pooling!r} does not exist. Use one of {POOLING_MODES}")
        self.pooling = pooling or _stated_pooling(self.folder)
        self.lower_case = bool(self._sentence_settings().get("do_lower_case"))
        short = Path(self.name).name if Path(self.name).is_dir() else self.name
        self.label = f"sentence embeddings of {short} ({self.pooling} pooling), not official"
        self.identity = self._identify(pooling=self.pooling, lower_case=self.lower_case)

    def _sentence_settings(self) -> dict[str, Any]:
        file = self.folder / "sentence_bert_config.json"
        return _read_json(file) if file.is_file() else {}

    def _default_max_length(self) -> int:
        stated = self._sentence_settings().get("max_seq_length")
        positions = _read_json(self.folder / "config.json").get("max_position_embeddings")
        limits = [self.tokenizer.model_max_length, stated, positions]
        # A tokenizer without a limit says 10^30.
        return min(int(limit) for limit in (*limits, _BUCKETS[-1]) if limit)

    def _own_details(self) -> dict[str, Any]:
        return {"pooling": self.pooling, "lower_case": self.lower_case, "precision": "float32"}

    def _prepare(self, text: str) -> str:
        return text.lower() if self.lower_case else text

    def _load(self) -> None:
        import torch
        import transformers

        try:
            model = transformers.AutoModel.from_pretrained(self.folder, dtype=torch.float32)
        except (OSError, ValueError, ImportError) as error:
            raise ConfigError(f"{self.name} cannot be loaded by transformers ({error})") from error
        self._model = model.to(self.device).eval()

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        import torch

        hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
        real = mask.unsqueeze(-1).bool()
        if self.pooling == "cls":
            return hidden[:, 0]
        if self.pooling == "lasttoken":
            last = mask.sum(dim=1) - 1
            return hidden[torch.arange(len(hidden), device=hidden.device), last]
        if self.pooling == "max":
            return hidden.masked_fill(~real, -torch.inf).amax(dim=1)
        return hidden.masked_fill(~real, 0.0).sum(dim=1) / mask.sum(dim=1, keepdim=True)


def load_embedder(
    source: str | os.PathLike[str] = nv_embed.RELEASED_NAME,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    cache_max_bytes: int = DEFAULT_MAX_BYTES,
    **options: Any,
) -> TokenEmbedder:
    """Return the embedder for a checkpoint.

    Parameters
    ----------
    source : str or path
        Folder of a checkpoint, or its name on the hub. NV-Embed checkpoints are told by their
        `config.json`; everything else is a `SentenceEmbedder`.
    cache_dir : str or path, optional
        Where embeddings are kept; nowhere when left out.
    cache_max_bytes : int
        Bytes that they may take.
    **options
        For the class: `revision`, `device`, `batch_size`, `max_length`, and `precision` (NV-Embed)
        or `pooling` (others).

    Returns
    -------
    TokenEmbedder

    Raises
    ------
    ConfigError
        When the checkpoint cannot be used, or an option does not exist for it.
    """
    folder = _local_folder(str(source), options.get("revision"))
    kind = _read_json(folder / "config.json").get("model_type")
    chosen = NVEmbedEmbedder if kind == nv_embed.MODEL_TYPE else SentenceEmbedder
    try:
        embedder: TokenEmbedder = chosen(source, **options)
    except TypeError as error:
        raise ConfigError(f"{chosen.__name__} of {source}: {error}") from error
    if cache_dir is None:
        return embedder
    return CachedEmbedder(embedder, cache_dir, cache_max_bytes)


# --- batches -------------------------------------------------------------------------------------


def _batches(
    sequences: Sequence[tuple[int, ...]], batch_size: int, max_length: int
) -> Iterator[tuple[list[tuple[int, ...]], int]]:
    """Yield batches of token sequences, each with the length that it is padded to.

    The shape of a batch follows from the length of its sequences alone, whatever else is asked
    for: short batches are topped up with copies, since another shape may round otherwise.
    """
    by_length: dict[int, list[tuple[int, ...]]] = {}
    for sequence in sequences:
        longest = len(sequence)
        length = next((bucket for bucket in _BUCKETS if bucket >= longest), longest)
        # A model with a table of positions has none past its own maximum.
        length = min(length, max(max_length, longest))
        by_length.setdefault(length, []).append(sequence)
    for length in sorted(by_length):
        rows = max(1, min(batch_size, _TOKENS_PER_BATCH // length))
        members = by_length[length]
        for start in range(0, len(members), rows):
            batch = members[start : start + rows]
            yield batch + batch[:1] * (rows - len(batch)), length


# --- files ---------------------------------------------------------------------------------------


def _local_folder(source: str, revision: str | None) -> Path:
    folder = Path(source).expanduser()
    if not folder.is_dir():
        # Only what the classes above read; a repository may hold the weights in five formats.
        folder = _download(source, revision, ["*.json", "*.txt", "*.model", "*.safetensors"])
        if not any(folder.glob("*.safetensors")):
            folder = _download(source, revision, ["pytorch_model*.bin"])
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder}: there is no config.json. Give the folder of a checkpoint")
    return folder


def _download(source: str, revision: str | None, patterns: list[str]) -> Path:
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    if source.startswith((".", "/", "~")) or not re.fullmatch(r"[\w.-]+(?:/[\w.-]+)?", source):
        raise ConfigError(f"{source}: there is no such folder")
    try:
        return Path(
            huggingface_hub.snapshot_download(
                source,
                revision=revision,
                allow_patterns=patterns,
                ignore_patterns=["onnx/*", "openvino/*"],
            )
        )
    except (OSError, HfHubHTTPError, HFValidationError, ValueError) as error:
        raise ConfigError(
            f"{source} is no folder here, and cannot be had from the hub ({error}). Fetch it where "
            f"there is a network with `hf download {source} --local-dir FOLDER`, and give the "
            "folder"
        ) from error


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read as JSON ({error}). Fetch it again") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: holds no JSON object. Fetch it again")
    return content


def _weights_digest(folder: Path) -> tuple[str, list[Path]]:
    """Return one SHA-256 over all weight files, and the files."""
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ConfigError(
            f"{folder}: there are no weights (*.safetensors). Fetch the checkpoint again, whole"
        )
    return _combined_sha256({file.name: _content_sha256(file) for file in files}), files


def _content_sha256(file: Path) -> str:
    # The hub's own cache names large files after their SHA-256, which saves reading 16 GB.
    stored = file.resolve().name
    if file.is_symlink() and re.fullmatch(r"[0-9a-f]{64}", stored):
        return stored
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _combined_sha256(digests: Mapping[str, str]) -> str:
    """Return one SHA-256 for several files, from their names and digests."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _digest_of(files: Iterable[Path]) -> str:
    return _combined_sha256({file.name: _content_sha256(file) for file in files if file.is_file()})


def _stated_pooling(folder: Path) -> str:
    """Return how a folder in the layout of sentence-transformers pools its tokens."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return "mean"
    try:
        steps = json.loads(modules.read_text(encoding="utf-8"))
        kinds = [(step["type"].rsplit(".", 1)[-1], step["path"]) for step in steps]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{modules}: cannot be read ({error}). Fetch it again") from error
    pooling = None
    for kind, path in kinds:
        if kind == "Pooling":
            pooling = _pooling_mode(folder / path / "config.json")
        elif kind not in ("Transformer", "Normalize"):
            raise ConfigError(
                f"{folder}: the model has a {kind} step, which is not built here. Name a model "
                "that consists of a transformer and a pooling"
            )
    return pooling or "mean"


def _pooling_mode(file: Path) -> str:
    settings = _read_json(file)
    stated = settings.get("pooling_mode")
    if stated is None:
        prefix = "pooling_mode_"
        names = {f"{prefix}{mode}_tokens": mode for mode in ("mean", "max", "cls")}
        names |= {f"{prefix}cls_token": "cls", f"{prefix}lasttoken": "lasttoken"}
        chosen = [key for key, value in settings.items() if key.startswith(prefix) and value]
        stated = names.get(chosen[0], chosen[0]) if len(chosen) == 1 else chosen
    if stated not in POOLING_MODES:
        raise ConfigError(
            f"{file}: the pooling {stated!r} is not built here. Choose one of {POOLING_MODES} "
            "with the option pooling"
        )
    return stated


def _device(name: str) -> Any:
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} does not exist for torch ({error})") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device {name!r}: torch finds no CUDA device here. Use device=cpu")
    return device
