"""Run the C kernels on inputs that nobody would send, under the sanitizers: `python tools/fuzz.py`.

With clang by libFuzzer, which keeps inputs that reach new code; without it, by whatever C compiler there is
and csrc/fuzz/driver.c, which mutates without looking. Both begin with the same inputs and stop at the first
one that a kernel fails on, which they leave in build/fuzz. See csrc/fuzz/fuzz_kernels.c for what is called.
"""

from __future__ import annotations

import argparse
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from unittest import mock

import fuzz_plans

REPO = Path(__file__).parents[1]
BUILD = REPO / "build" / "fuzz"
SANITIZERS = "address,undefined"
# Debian: apt-get install clang. The versions are those whose libFuzzer comes with the compiler or beside it.
CLANGS = ("clang", *(f"clang-{version}" for version in range(22, 13, -1)))
LONGEST = 1 << 14  # bytes of an input


def run(*command: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command, its output as text."""
    return subprocess.run([str(word) for word in command], text=True, **options)  # type: ignore[call-overload, no-any-return]


def links(compiler: str, sanitizers: str) -> bool:
    """Return whether a compiler is there and links a program with these sanitizers."""
    if shutil.which(compiler) is None:
        return False
    entry = "LLVMFuzzerTestOneInput(const char *d, unsigned long n) { return !d && n > 9; }"
    source = BUILD / "probe.c"
    source.write_text(
        f"int {entry}\n" if "fuzzer" in sanitizers else "int main(void) { return 0; }\n"
    )
    options = ("-w", f"-fsanitize={sanitizers}", source, "-o", BUILD / "probe")
    return run(compiler, *options, capture_output=True).returncode == 0


def choose() -> tuple[str, str]:
    """Return compiler and sanitizers; exit where no compiler has any."""
    for compiler in CLANGS:
        if links(compiler, f"fuzzer,{SANITIZERS}"):
            return compiler, f"fuzzer,{SANITIZERS}"
    own = os.environ.get("CC", "cc").split()[0]
    for compiler in (own, "gcc"):
        if links(compiler, SANITIZERS):
            return compiler, SANITIZERS
    sys.exit(
        "no C compiler here has the address and undefined-behaviour sanitizers, so that nothing was tried. "
        "Install clang (with libFuzzer: apt-get install clang), or gcc."
    )


def compile_all(compiler: str, sanitizers: str) -> Path:
    """Compile kernels, at all levels that setup.py knows, and the harness; return the program."""
    with mock.patch("setuptools.setup"):  # what is compiled with which flags stands there
        setup = runpy.run_path(str(REPO / "setup.py"))
    levels = {"scalar": (1, []), **setup["target_levels"]()}
    checks = [f"-fsanitize={sanitizers}", "-fno-sanitize-recover=undefined"]
    common = [
        *setup["UNIX_FLAGS"],
        "-O1",
        "-g1",
        "-DMM_SMALL",
        f"-I{REPO / 'csrc'}",
        f"-I{BUILD}",
        *checks,
    ]
    have = [f"-DMM_HAVE_{name.upper()}" for name in levels]
    jobs = [
        (REPO / "csrc" / "cpu.c", "cpu.o", have),
        (REPO / "csrc/fuzz/fuzz_kernels.c", "main.o", have),
    ]
    if "fuzzer" not in sanitizers:
        jobs.append((REPO / "csrc/fuzz/driver.c", "driver.o", []))
    for name, (lanes, flags) in levels.items():
        for source, macros in setup["KERNELS"]:
            defined = {"MM_LEVEL": name, "MM_LANES": str(lanes), **macros}
            to = "-".join([name, Path(source).stem, *macros.values()]) + ".o"
            jobs.append((REPO / source, to, [*flags, *(f"-D{k}={v}" for k, v in defined.items())]))
    folder = BUILD / Path(compiler).name
    folder.mkdir(exist_ok=True)
    newest = max(
        path.stat().st_mtime for path in [*(REPO / "csrc").rglob("*.[ch]"), BUILD / "plans.h"]
    )
    running: list[subprocess.Popen[bytes]] = []
    for source, to, options in jobs:
        target = folder / to
        if target.exists() and target.stat().st_mtime > newest:
            continue
        running.append(subprocess.Popen([compiler, *common, *options, "-c", source, "-o", target]))
        if len(running) >= (os.cpu_count() or 1) and running.pop(0).wait():
            sys.exit(f"{compiler} does not compile {source}")
    if any(process.wait() for process in running):
        sys.exit(f"{compiler} fails")
    program = folder / "fuzz"
    objects = [folder / to for _, to, _ in jobs]
    run(compiler, *checks, *objects, "-lm", "-o", program, check=True)
    return program


def counted(said: str) -> str:
    """Return how many inputs were tried, by what the program said."""
    found = re.findall(r"stat::number_of_executed_units:\s*(\d+)|^(\d+) inputs", said, re.MULTILINE)
    return str(sum(int(a or b) for a, b in found))


def fuzz(seconds: int) -> None:
    """Build and run; exit with the finding where there is one."""
    BUILD.mkdir(parents=True, exist_ok=True)
    compiler, sanitizers = choose()
    plans, seeds = BUILD / "plans.h", BUILD / "seeds"
    seeds.mkdir(exist_ok=True)
    content = fuzz_plans.header()
    if not plans.exists() or plans.read_text() != content:
        plans.write_text(content)
    fuzz_plans.seeds(seeds)
    program = compile_all(compiler, sanitizers)
    kept = BUILD / "kept"  # by libFuzzer: what reaches code that nothing before it has reached
    kept.mkdir(exist_ok=True)
    if "fuzzer" in sanitizers:
        command: Sequence[object] = (
            program, kept, seeds, f"-max_total_time={seconds}", f"-max_len={LONGEST}", "-timeout=60",
            "-print_final_stats=1", f"-artifact_prefix={BUILD}/", "-verbosity=1",
        )  # fmt: skip
    else:
        command = (program, seconds, *sorted(seeds.iterdir()))
    print(f"{seconds} s with {compiler} (-fsanitize={sanitizers}) ...", flush=True)
    done = run(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        sys.exit(f"{done.stdout[-6000:]}\nthe kernels fail; the input is in {BUILD} (crash-...)")
    print(f"{counted(done.stdout)} inputs, none of which a kernel fails on")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=10)
    fuzz(parser.parse_args().seconds)
