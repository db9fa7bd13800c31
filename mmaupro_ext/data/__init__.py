"""Rows and files: what the rows of benchmarks mean, where these are, and the samples in the package.

Public names: `asked`, `load_category`, `load_items`, `load_report`, `locate`, `audio_references`,
`audio_root`,
`file_sha256`, `SAMPLE_DIR`, `CATEGORIES`, `LoadReport`.
"""

from mmaupro_ext.data.asking import asked
from mmaupro_ext.data.digests import file_sha256
from mmaupro_ext.data.items import load_items
from mmaupro_ext.data.load import (
    audio_references,
    audio_root,
    load_category,
    load_report,
    prepare_run,
)
from mmaupro_ext.data.locate import SAMPLE_DIR, folder_setting, locate
from mmaupro_ext.data.rows import normalise_row
from mmaupro_ext.data.schema import (
    CATEGORIES,
    CATEGORY_BY_VALUE,
    CHOICE_LETTERS,
    FACTS,
    TASK_IDENTIFIERS,
    Category,
    Finding,
    LoadReport,
)
from mmaupro_ext.data.selection import Selection, read_selection

__all__ = [
    "CATEGORIES",
    "CATEGORY_BY_VALUE",
    "CHOICE_LETTERS",
    "FACTS",
    "SAMPLE_DIR",
    "TASK_IDENTIFIERS",
    "Category",
    "Finding",
    "LoadReport",
    "Selection",
    "asked",
    "audio_references",
    "audio_root",
    "file_sha256",
    "folder_setting",
    "load_category",
    "load_items",
    "load_report",
    "locate",
    "normalise_row",
    "prepare_run",
    "read_selection",
]
