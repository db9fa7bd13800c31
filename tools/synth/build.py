"""Build the embedded sample: `python -m synth.build --out DIR --seed N`.

The folder gets the layout of MMAU-Pro: `test.parquet`, `data/<uuid>.<ext>` and, beside them,
`manifest.json` with sha256, seconds, rate, channels, format and seed.

What is guaranteed: equal seeds give equal questions, choices, answers, ids and file names, and the
same waveforms before encoding. Waveforms are rounded to the grid of their file's sample type, so
WAV files, which are written here, are the same to the byte, and FLAC files decode to the same
samples. (On a machine whose numpy computes a sine differently in its last bit, a sample may round
to the neighbouring value.) What is not guaranteed: the bytes of FLAC, OGG and MP3 files, which
depend on the version of the encoder, and OGG streams carry a random serial number; so do the
bytes of the parquet file, which depend on the version of pyarrow.

Beyond 400 lines, because how items are chosen, stored and written is one subject, made in one pass.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import struct
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import soundfile
from numpy.random import Generator

from mmaupro_ext.data import schema
from synth import questions, signals, speech
from synth.instructions import INSTRUCTIONS
from synth.questions import Item
from synth.signals import Signal

DEFAULT_SEED = 20250905
_NAMESPACE = uuid.UUID("6d6d6175-7072-4f2d-8578-742073616d70")

# How many items of each closed skill the sample has. The items of a skill have different answers.
PLAN: dict[str, int] = {
    "beep count": 2,
    "kind of sound": 2,
    "louder half": 2,
    "sweep": 2,
    "event order": 1,
    "click pace": 2,
    "approach": 1,
    "last sound": 1,
    "pitch pair": 2,
    "contour": 2,
    "chord quality": 2,
    "tempo": 2,
    "timbre": 2,
    "note count": 1,
    "last instrument": 1,
    "digit": 2,
    "word": 2,
    "word count": 2,
    "speaker": 2,
    "last word": 1,
    "place": 2,
    "last number": 1,
    "sound with music": 3,
    "noise position": 2,
    "word over music": 3,
    "voice position": 2,
    "beeps before voice": 2,
    "number after beep": 3,
    "scene order": 2,
    "number in scene": 3,
    "side by level": 2,
    "side by delay": 2,
    "movement": 2,
    "word on the left": 2,
    "capital": 2,
    "sum": 2,
    "riddle": 1,
    "speech pace": 1,
    "louder clip": 2,
    "higher clip": 2,
    "highest of three": 1,
    "same melody": 1,
    "effect": 1,
    "clip with word": 1,
}


@dataclass(frozen=True)
class Storage:
    """How a clip is stored.

    Parameters
    ----------
    extension : str
        "wav", "flac", "ogg" or "mp3".
    subtype : str
        soundfile's name of the sample type or codec.
    sampling_rate : int
        Hz.
    """

    extension: str
    subtype: str
    sampling_rate: int

    @property
    def bits(self) -> int:
        """Return the bits per sample of the grid to which waveforms are rounded.

        Wider types keep 20 bits: the coarser the grid, the rarer a last-bit difference between
        two machines decides a rounding.
        """
        return 20 if self.subtype in {"PCM_24", "FLOAT"} else 16


def _wav(sampling_rate: int, subtype: str = "PCM_16") -> Storage:
    return Storage("wav", subtype, sampling_rate)


def _flac(sampling_rate: int) -> Storage:
    return Storage("flac", "PCM_16", sampling_rate)


def _ogg(sampling_rate: int) -> Storage:
    return Storage("ogg", "VORBIS", sampling_rate)


def _mp3(sampling_rate: int) -> Storage:
    return Storage("mp3", "MPEG_LAYER_III", sampling_rate)


# Clips take these in turn; lossless files come at low rates more often, to keep the wheel small.
STORAGES: tuple[Storage, ...] = (
    _wav(16000),
    _mp3(44100),
    _ogg(32000),
    _flac(16000),
    _wav(8000),
    _ogg(48000),
    _mp3(24000),
    _wav(11025),
    _flac(22050),
    _mp3(16000),
    _ogg(16000),
    _wav(16000, "FLOAT"),
    _mp3(48000),
    _ogg(22050),
    _flac(11025),
    _wav(24000, "PCM_24"),
    _mp3(32000),
    _ogg(44100),
    _mp3(22050),
    _ogg(24000),
)
# Binaural cues are small; lossy joint stereo may blur them.
STEREO_STORAGES: tuple[Storage, ...] = (
    _wav(44100),
    _flac(48000),
    _wav(16000, "FLOAT"),
    _flac(32000),
    _wav(24000, "PCM_24"),
    _flac(44100),
    _wav(16000),
    _flac(24000),
)
LONG_STORAGES: dict[str, Storage] = {
    "last sound": _ogg(8000),
    "last number": _mp3(11025),
    "last instrument": _ogg(22050),
}


def make_items(seed: int = DEFAULT_SEED) -> list[tuple[Item, tuple[Storage, ...]]]:
    """Make the items of the sample, with how each clip is stored.

    Parameters
    ----------
    seed : int
        Equal seeds give equal items.

    Returns
    -------
    list of (Item, tuple of Storage)
        Ordered by category, as the dataset is. Every item has a random stream of its own, so that
        a change to one skill leaves the other items as they are. The answers of the items with k
        choices stand equally often (give or take one) in each of the k places.
    """
    storages = itertools.cycle(STORAGES)
    stereo_storages = itertools.cycle(STEREO_STORAGES)
    positions = _balanced_positions(_stream(seed, "positions"))
    made: list[tuple[Item, tuple[Storage, ...]]] = []
    for name, count in PLAN.items():
        skill = questions.SKILLS[name]
        options = len(questions.make_text(skill, _stream(seed, name))[0].options)
        answers = _stream(seed, f"{name}, answers").permutation(options)
        for number in range(count):
            turn = stereo_storages if skill.category == "spatial_audio" else storages
            stored = tuple(LONG_STORAGES.get(name) or next(turn) for _ in range(skill.clips))
            item = questions.make_item(
                skill,
                _stream(seed, f"{name} {number}"),
                [storage.sampling_rate for storage in stored],
                answer=int(answers[number]),
                position=next(positions[options]),
            )
            made.append((item, stored))

    taken: list[Storage] = []

    def next_rate() -> int:
        taken.append(next(storages))
        return taken[-1].sampling_rate

    for item in questions.open_items(_stream(seed, "open"), next_rate):
        stored, taken = tuple(taken[: len(item.clips)]), taken[len(item.clips) :]
        made.append((item, stored))
    for number, instruction in enumerate(INSTRUCTIONS):
        storage = next(storages)
        rng = _stream(seed, f"instruction {number}")
        item = questions.instruction_item(instruction, number, rng, storage.sampling_rate)
        made.append((item, (storage,)))
    order = list(schema.CATEGORIES)
    return sorted(made, key=lambda pair: order.index(pair[0].category))


def _stream(seed: int, name: str) -> Generator:
    """Return the random stream of one named thing."""
    digest = hashlib.sha256(name.encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest[:8], "little")]))


def _balanced_positions(rng: Generator) -> dict[int, Iterator[int]]:
    """Return, per number of choices, an endless run of places in which all come equally often."""

    def run(choices: int) -> Iterator[int]:
        while True:
            yield from (int(place) for place in rng.permutation(choices))

    return {choices: run(choices) for choices in range(2, 11)}


def stored_waveform(clip: Signal, storage: Storage) -> Signal:
    """Return the samples that are handed to the encoder: rounded to the grid of the file."""
    return signals.quantise(clip, storage.bits)


def write_clip(path: Path, clip: Signal, storage: Storage) -> None:
    """Write one clip.

    Parameters
    ----------
    path : pathlib.Path
        The file, with the extension of `storage`.
    clip : ndarray, shape (n,) or (2, n)
        Samples in [-1, 1].
    storage : Storage
        Format and rate.
    """
    samples = stored_waveform(clip, storage)
    frames = samples.reshape(-1, 1) if samples.ndim == 1 else samples.T
    if storage.extension == "wav":
        path.write_bytes(wav_bytes(frames, storage.sampling_rate, storage.subtype))
        return
    options: dict[str, Any] = {"format": storage.extension.upper(), "subtype": storage.subtype}
    if storage.extension == "mp3":
        # At most other settings some file makes the decoder complain on stderr.
        options["bitrate_mode"], options["compression_level"] = "VARIABLE", 0.7
    with soundfile.SoundFile(
        path, "w", storage.sampling_rate, frames.shape[1], **options
    ) as stream:
        for start in range(0, len(frames), 1 << 16):  # libsndfile's Vorbis writer needs this
            stream.write(frames[start : start + (1 << 16)])


def wav_bytes(frames: Signal, sampling_rate: int, subtype: str) -> bytes:
    """Return a WAV file; libsndfile's float files carry the time of writing, these do not.

    Parameters
    ----------
    frames : ndarray, shape (n, channels)
        Samples in [-1, 1].
    sampling_rate : int
        Hz.
    subtype : {"PCM_16", "PCM_24", "FLOAT"}
        Sample type, little-endian.

    Returns
    -------
    bytes
        RIFF with the chunks fmt, fact (float only) and data.
    """
    count, channels = frames.shape
    if subtype == "FLOAT":
        code, width, body = 3, 4, frames.astype("<f4").tobytes()
    elif subtype == "PCM_24":
        whole = np.round(frames * 2.0**23).astype("<i4")
        code, width = 1, 3
        body = whole.reshape(-1, 1).view(np.uint8)[:, :3].tobytes()
    else:
        code, width, body = 1, 2, np.round(frames * 2.0**15).astype("<i2").tobytes()
    step = channels * width
    layout = struct.pack(
        "<HHIIHH", code, channels, sampling_rate, sampling_rate * step, step, 8 * width
    )
    chunks = [(b"fmt ", layout), (b"data", body)]
    if code == 3:
        chunks[0] = (b"fmt ", layout + struct.pack("<H", 0))
        chunks.insert(1, (b"fact", struct.pack("<I", count)))
    content = b"WAVE" + b"".join(
        name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
        for name, data in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content)) + content


def item_id(seed: int, number: int, part: str = "item") -> str:
    """Return a repeatable id in the form of a version-4 UUID."""
    digest = bytearray(uuid.uuid5(_NAMESPACE, f"{seed} {number} {part}").bytes)
    digest[6] = (digest[6] & 0x0F) | 0x40
    digest[8] = (digest[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))


PARQUET_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("audio_path", pa.list_(pa.string())),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("choices", pa.list_(pa.string())),
        ("length_type", pa.string()),
        ("perceptual_skills", pa.list_(pa.string())),
        ("reasoning_skills", pa.list_(pa.string())),
        ("category", pa.string()),
        ("transcription", pa.string()),
        ("task_classification", pa.string()),
        ("task_identifier", pa.string()),
        (
            "kwargs",
            pa.struct(
                [(key, pa.int64()) for key in schema.NUMBER_KWARGS]
                + [(key, pa.string()) for key in schema.TEXT_KWARGS]
            ),
        ),
        ("sub-cat", pa.string()),
    ]
)


def make_row(item: Item, number: int, stored: tuple[Storage, ...], seed: int) -> dict[str, Any]:
    """Return one row of test.parquet. Clip names follow from the id, as in the dataset."""
    identifier = item_id(seed, number)
    paths = []
    for index, storage in enumerate(stored):
        stem = identifier if index == 0 else item_id(seed, number, f"clip {index}")
        paths.append(f"data/{stem}.{storage.extension}")
    longest = max(
        clip.shape[-1] / rate for clip, rate in zip(item.clips, item.sampling_rates, strict=True)
    )
    instruction = item.instruction
    return {
        "id": identifier,
        "audio_path": paths,
        "question": item.question,
        "answer": item.answer,
        "choices": list(item.choices),
        "length_type": questions.length_type(longest),
        "perceptual_skills": list(item.perceptual),
        "reasoning_skills": list(item.reasoning),
        "category": schema.CATEGORIES[item.category].value,
        "transcription": item.transcription,
        "task_classification": instruction.group if instruction else None,
        "task_identifier": instruction.identifier if instruction else None,
        "kwargs": instruction.kwargs if instruction else None,
        "sub-cat": item.skill,
    }


def describe_file(path: Path) -> dict[str, Any]:
    """Return the manifest entry of a clip: sha256, bytes, seconds, rate, channels, format."""
    info = soundfile.info(path)
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "seconds": round(info.frames / info.samplerate, 4),
        "sampling_rate": info.samplerate,
        "channels": info.channels,
        "format": info.format,
        "subtype": info.subtype,
    }


def build(out: Path, seed: int = DEFAULT_SEED) -> dict[str, Any]:
    """Write the sample.

    Parameters
    ----------
    out : pathlib.Path
        Folder; created when needed. Clips of an earlier build in it are removed.
    seed : int
        Seed of everything.

    Returns
    -------
    dict
        The manifest that was written.
    """
    data = out / "data"
    data.mkdir(parents=True, exist_ok=True)
    for extension in sorted({s.extension for s in (*STORAGES, *STEREO_STORAGES)}):
        for old in data.glob(f"*.{extension}"):
            old.unlink()
    rows = []
    files: dict[str, Any] = {}
    for number, (item, stored) in enumerate(make_items(seed)):
        row = make_row(item, number, stored, seed)
        rows.append(row)
        for path, clip, storage in zip(row["audio_path"], item.clips, stored, strict=True):
            write_clip(out / path, clip, storage)
            files[path] = describe_file(out / path)
    table = pa.Table.from_pylist(rows, schema=PARQUET_SCHEMA)
    pyarrow.parquet.write_table(table, out / "test.parquet")
    manifest = {
        "name": "mmaupro-ext embedded sample",
        "seed": seed,
        "items": len(rows),
        "speech_bank": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(speech.BANK_DIR.iterdir())
        },
        "files": files,
    }
    text = json.dumps(manifest, indent=1) + "\n"
    (out / "manifest.json").write_text(text, encoding="utf-8")
    return manifest


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Build the embedded sample.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED, help="default: %(default)s")
    options = parser.parse_args(arguments)
    manifest = build(options.out, options.seed)
    size = sum(entry["bytes"] for entry in manifest["files"].values())
    print(
        f"{manifest['items']} items, {len(manifest['files'])} clips, {size / 1e6:.2f} MB "
        f"in {options.out}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
