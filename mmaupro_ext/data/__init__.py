"""Rows and files: the schema of MMAU-Pro, where it is, and the sample that ships with the package.

Public names: `load_category`, `load_report`, `locate`, `audio_references`, `audio_root`,
`file_sha256`, `SAMPLE_DIR`, `CATEGORIES`, `LoadReport`.
"""

from mmaupro_ext.data.digests import file_sha256
from mmaupro_ext.data.load import (
    audio_references,
    audio_root,
    load_category,
    load_report,
    prepare_run,
)
from mmaupro_ext.data.locate import SAMPLE_DIR, locate
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
    "audio_references",
    "audio_root",
    "file_sha256",
    "load_category",
    "load_report",
    "locate",
    "normalise_row",
    "prepare_run",
    "read_selection",
]
