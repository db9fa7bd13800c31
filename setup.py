"""Build of the C core, the start-up hook and the place of the task folder; the rest is in pyproject.toml."""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import zlib
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError, CompileError, LinkError
from setuptools.modified import newer_group

HERE = Path(__file__).parent
BUILD_FAILURES = (BaseError, CompileError, LinkError, OSError)

# One build for CPython 3.11 and all later ones (what it costs: docs/performance.md). Free-threaded builds
# have no stable ABI yet, and get their own.
STABLE_ABI = sys.implementation.name == "cpython" and not sysconfig.get_config_var(
    "Py_GIL_DISABLED"
)
LIMITED_API = [("Py_LIMITED_API", "0x030b0000")] if STABLE_ABI else []

# What is compiled once per level, with its own macros: the precision that csrc/real.h speaks of.
KERNELS = (
    ("csrc/mix.c", {}),
    ("csrc/normalize.c", {}),
    ("csrc/resample.c", {}),
    ("csrc/stft_mel.c", {"MM_DOUBLE": "0"}),
    ("csrc/stft_mel.c", {"MM_DOUBLE": "1"}),
)
# Level -> (floats per register, GCC/clang flags).
X86_LEVELS = {
    "sse2": (4, []),
    "avx2": (8, ["-mavx2", "-mfma"]),
    "avx512": (
        16,
        [
            "-mavx512f",
            "-mavx512bw",
            "-mavx512dq",
            "-mavx512vl",
            "-mfma",
            "-mprefer-vector-width=512",
        ],
    ),
}
ARM_LEVELS = {"neon": (4, [])}

# No -ffast-math and no -march=native: the numbers and the wheel must be the same on every machine.
# The three -fno flags drop bookkeeping that C asks for and no kernel uses (errno, traps, signed zeros).
UNIX_FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fno-signed-zeros",
    "-ffp-contract=fast",
    "-Wno-psabi",
]
MSVC_FLAGS = ["/O2", "/std:c11"]

# Symbols for a debugger are most of an extension, and hold paths of this machine; -g in CFLAGS keeps them.
DEBUGGED = "-g" in os.environ.get("CFLAGS", "")
STRIP = {"linux": "-Wl,-s", "darwin": "-Wl,-x"}.get(sys.platform)


def target_levels() -> dict[str, tuple[int, list[str]]]:
    """Return the vector levels to compile besides the scalar one."""
    machine = os.environ.get("_PYTHON_HOST_PLATFORM", platform.machine()).lower()
    several_architectures = os.environ.get("ARCHFLAGS", "").count("-arch") > 1
    if several_architectures:  # one set of flags cannot serve both halves of a universal binary
        return {}
    if machine.endswith(("x86_64", "amd64")):
        return X86_LEVELS
    if machine.endswith(("arm64", "aarch64")):
        return ARM_LEVELS
    return {}


class BuildCore(build_ext):
    """Compile each kernel per instruction-set level; without a compiler, install without the C core.

    Objects of an earlier build are used again where nothing that they are made of has changed since, which
    setuptools does not do by itself. Compiled with another command, they have another folder.
    """

    def build_extensions(self) -> None:
        command = repr(getattr(self.compiler, "compiler_so", None))
        self.build_temp = str(Path(self.build_temp, f"{zlib.crc32(command.encode()):08x}"))
        self.compile_always, self.compiler.compile = self.compiler.compile, self.compile_changed
        try:
            super().build_extensions()
        except BUILD_FAILURES as error:
            if os.environ.get("MMAUPRO_REQUIRE_C"):
                raise
            self.extensions.clear()
            print(
                f"warning: mmaupro-ext: the C core was not built ({error}). The package works on its "
                "Numba twin, several times slower; install a C11 compiler and reinstall to get the "
                "C core.",
                file=sys.stderr,
            )

    def compile_changed(
        self,
        sources: list[str],
        output_dir: str,
        *,
        depends: list[str] | None = None,
        **options: Any,
    ) -> list[str]:
        """Compile what is newer than its object, and return all objects."""
        objects = self.compiler.object_filenames(sources, output_dir=output_dir)
        for source, made in zip(sources, objects, strict=True):
            if newer_group([source, *(depends or [])], made):
                self.compile_always([source], output_dir, **options)
        return objects

    def build_extension(self, ext: Extension) -> None:
        msvc = self.compiler.compiler_type == "msvc"
        common = MSVC_FLAGS if msvc else UNIX_FLAGS
        if not msvc and not DEBUGGED:
            common = [*common, "-g0"]
            ext.extra_link_args = [STRIP] if STRIP else []
        ext.extra_compile_args = list(common)
        levels = {"scalar": (1, [])}
        if not msvc:  # the kernels' vectors are a GCC/clang extension
            levels |= {k: v for k, v in target_levels().items() if self.accepts(v[1])}
        ext.define_macros = [*LIMITED_API, *((f"MM_HAVE_{name.upper()}", "1") for name in levels)]

        def compile_kernel(job: tuple[str, str, dict[str, str]]) -> list[str]:
            name, source, macros = job
            lanes, flags = levels[name]
            return self.compiler.compile(
                [source],
                output_dir=str(Path(self.build_temp, name, *macros.values())),
                macros=[("MM_LEVEL", name), ("MM_LANES", str(lanes)), *macros.items()],
                include_dirs=ext.include_dirs,
                extra_postargs=[*common, *flags],
                depends=ext.depends,
            )

        jobs = [(name, source, macros) for name in levels for source, macros in KERNELS]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            ext.extra_objects = [
                made for objects in pool.map(compile_kernel, jobs) for made in objects
            ]
        super().build_extension(ext)

    def copy_extensions_to_source(self) -> None:
        """Put the core into the checkout, in place of earlier builds that Python would prefer to it."""
        super().copy_extensions_to_source()
        for ext in self.extensions:
            path = Path(self.get_ext_fullpath(ext.name))
            for suffix in EXTENSION_SUFFIXES:
                if path.name.endswith(suffix):
                    break
                path.with_name(f"core{suffix}").unlink(missing_ok=True)

    def accepts(self, flags: list[str]) -> bool:
        """Return whether the compiler knows these flags."""
        if not flags:
            return True
        probe = Path(self.build_temp) / "probe.c"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("int probe(void) { return 0; }\n")
        try:
            self.compiler.compile(
                [str(probe)], output_dir=str(probe.parent), extra_postargs=["-Werror", *flags]
            )
        except BUILD_FAILURES:
            return False
        return True


class BuildWithHook(build_py):
    """Put the start-up files for lm_eval 0.4.13 at the top of the wheel (see mmaupro_ext/compat)."""

    start_up = ("mmaupro_ext_hook.pth", "mmaupro_ext_hook.py")

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            Path(self.build_lib).mkdir(parents=True, exist_ok=True)
            for name in self.start_up:
                self.copy_file(
                    str(HERE / "mmaupro_ext" / "compat" / name), str(Path(self.build_lib) / name)
                )

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs = super().get_outputs(include_bytecode)
        top = [] if self.editable_mode else [str(Path(self.build_lib) / n) for n in self.start_up]
        return [*outputs, *top]


setup(
    packages=[*find_packages(include=["mmaupro_ext", "mmaupro_ext.*"]), "mmaupro_ext.tasks"],
    # The tasks stay at top level, where lm_eval's contributors look for them, and travel inside the package.
    package_dir={"mmaupro_ext": "mmaupro_ext", "mmaupro_ext.tasks": "tasks"},
    package_data={
        "mmaupro_ext": ["py.typed"],
        "mmaupro_ext.benchmarks": ["faults/*.json"],
        "mmaupro_ext.compat": ["*.pth"],
        "mmaupro_ext.tasks": ["**/*.yaml", "**/*_yaml", "**/*.md", "**/*.py"],
        "mmaupro_ext.data": [
            "sample/*.parquet",
            "sample/*.json",
            "sample/*.md",
            "sample/data/*",
            "samples/**/*",
        ],
        "mmaupro_ext.models.nano": ["README.md", "checkpoint/*"],
        "mmaupro_ext.native": ["*.pyi"],
        "mmaupro_ext.recipes": ["*.yaml"],
        "mmaupro_ext.report": ["templates/*"],
        "mmaupro_ext.report.published": ["*.csv"],
    },
    ext_modules=[
        Extension(
            "mmaupro_ext.native.core",
            sources=["mmaupro_ext/native/core.pyx", "csrc/cpu.c"],
            include_dirs=["csrc"],
            py_limited_api=STABLE_ABI,
            # This file has the flags: objects of an earlier build are used again only if they are the same.
            depends=[
                "setup.py",
                *(str(path.relative_to(HERE)) for path in (HERE / "csrc").glob("*.[ch]")),
            ],
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if STABLE_ABI else {},
    cmdclass={"build_ext": BuildCore, "build_py": BuildWithHook},
)
