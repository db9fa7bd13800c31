"""Where MMAU-Pro, the other benchmarks and the embedded samples are on this machine."""

from __future__ import annotations

import os
from pathlib import Path

from mmaupro_ext.benchmarks import BENCHMARKS, MMAUPRO, Benchmark
from mmaupro_ext.errors import DataError
from mmaupro_ext.util import cache_dir

DATA_DIR_VARIABLE = "MMAUPRO_DATA"
SAMPLE_DIR = Path(__file__).resolve().parent / "sample"
SAMPLES_DIR = SAMPLE_DIR.with_name("samples")
ROWS = "rows.jsonl"
PARQUET, ARCHIVE, AUDIO_FOLDER = "test.parquet", "data.zip", "data/"


def named_folder(
    data_dir: str | os.PathLike[str] | None = None, name: str = MMAUPRO
) -> tuple[Path, str]:
    """Return the folder that is meant, whether or not it holds a benchmark's data, and who named it.

    Parameters
    ----------
    data_dir : path, optional
        Where the user says it is. Without it: its environment variable (`folder_variable`), else its
        title in the user's cache folder.
    name : str
        Key of `benchmarks.BENCHMARKS`.

    Returns
    -------
    folder : pathlib.Path
        Absolute.
    origin : str
        What named it, for messages.
    """
    benchmark = BENCHMARKS[name]
    variable = folder_variable(benchmark)
    if data_dir is not None and str(data_dir).strip():
        folder, origin = Path(data_dir), folder_setting(benchmark)
    elif os.environ.get(variable, "").strip():
        folder, origin = Path(os.environ[variable]), variable
    else:
        folder, origin = cache_dir() / benchmark.title, "the default place"
    return folder.expanduser().absolute(), origin


def folder_variable(benchmark: Benchmark) -> str:
    """Return the environment variable that names a benchmark's folder, such as MMAU_TEST_DATA."""
    return f"{benchmark.name.upper().replace('-', '_')}_DATA"


def folder_setting(benchmark: Benchmark) -> str:
    """Return the key of lm_eval's --metadata that names a benchmark's folder: mmau_test_dir, say."""
    if benchmark.name == MMAUPRO:
        return "data_dir"
    return f"{benchmark.name.replace('-', '_')}_dir"


def benchmark_folder(
    benchmark: Benchmark, data_dir: str | os.PathLike[str] | None = None, sample: bool = False
) -> Path:
    """Return the folder of a benchmark other than MMAU-Pro.

    Parameters
    ----------
    benchmark : Benchmark
        Which one.
    data_dir : path, optional
        Where the user says it is. Without it: its environment variable (`folder_variable`), else its
        title in the user's cache folder.
    sample : bool
        True for the generated sample that ships with the package, wherever the data is.

    Returns
    -------
    pathlib.Path
        Absolute path of a folder that holds `rows.jsonl` and `data/`.

    Raises
    ------
    DataError
        When the folder does not hold them, with what names it. A folder that was named and is wrong is never
        replaced by the next place.
    """
    folder, origin = SAMPLES_DIR / benchmark.name, "this package"
    if not sample:
        folder, origin = named_folder(data_dir, benchmark.name)
    problem = _benchmark_problem(folder)
    if problem is None:
        return folder
    if sample:
        raise DataError(
            f"the sample of {benchmark.title} in {folder} is damaged: {problem}. Reinstall."
        )
    raise DataError(
        f"{benchmark.title} was not found in {folder} (from {origin}): {problem}.\n"
        "A folder other than the default is named in either way:\n"
        f"  lm_eval ... --metadata {folder_setting(benchmark)}=DIR\n"
        f"  export {folder_variable(benchmark)}=DIR\n"
        f"To try everything without the data: --tasks {benchmark.task(sample=True)}, and --sample in "
        "`mmaupro data`.\n"
        f"To get it (resumable):\n"
        f"  mmaupro data fetch {benchmark.name} --to '{folder}'"
    )


def _benchmark_problem(folder: Path) -> str | None:
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / ROWS).is_file():
        return f"it has no {ROWS}"
    if not (folder / AUDIO_FOLDER).is_dir():
        return f"it has no folder {AUDIO_FOLDER}"
    return None


def locate(data_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the real dataset.

    Parameters
    ----------
    data_dir : path, optional
        As for `named_folder`.

    Returns
    -------
    pathlib.Path
        Absolute path of a folder that holds `test.parquet` and `data/`.

    Raises
    ------
    DataError
        When the folder does not hold them. The message has the commands that get the data. A
        folder that was named and is wrong is never replaced by the next place.
    """
    folder, origin = named_folder(data_dir)
    problem = folder_problem(folder)
    if problem:
        raise DataError(_how_to_get_the_data(folder, origin, problem))
    return folder


def folder_problem(folder: Path) -> str | None:
    """Return why a folder is not the dataset, or None when it is."""
    if not folder.is_dir():
        return "there is no such folder"
    if not (folder / PARQUET).is_file():
        return "it has no test.parquet"
    if not (folder / AUDIO_FOLDER).is_dir():
        if (folder / ARCHIVE).is_file():
            return "data.zip is there but was not extracted to data/"
        return "it has no folder data/"
    return None


def _how_to_get_the_data(folder: Path, origin: str, problem: str) -> str:
    target = f"'{folder}'"
    return (
        f"MMAU-Pro was not found in {folder} (from {origin}): {problem}.\n"
        "A folder other than the default is named in either way:\n"
        f"  lm_eval ... --metadata data_dir=DIR\n"
        f"  export {DATA_DIR_VARIABLE}=DIR\n"
        "To try everything without the data, use the sample inside this package: --tasks mmaupro-sample, "
        "and --sample in `mmaupro data`.\n"
        "By other means: `hf download gamma-lab-umd/MMAU-Pro --repo-type dataset --local-dir DIR`, "
        "then unzip data.zip there.\n"
        "To get all of it (47.5 GB to download, 53 GB on disk; resumable), or a part, here:\n"
        f"  mmaupro data fetch --to {target}\n"
        f"  mmaupro data fetch --to {target} --limit 120    (a stratified sample, about 1 GB)"
    )
