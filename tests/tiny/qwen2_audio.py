"""The package's own tiny Qwen2-Audio."""

from pathlib import Path

from mmaupro_ext.models import tiny_random


def build(folder: Path) -> None:
    model, processor = tiny_random.make(1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
