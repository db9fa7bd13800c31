"""Licences and known vulnerabilities of what this package brings along.

Licences come from the metadata of what is installed, for each package that pyproject.toml leads to, and are
held against a list: no network. Vulnerabilities are asked for by pip-audit; where its service does not
answer, or knows none of the packages, that is said, and is no pass.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import environment

# What a user installs; of `dev` and the like nothing reaches anybody.
EXTRAS = ("families", "vision", "models", "server", "plot", "report", "media", "ray")
ALLOWED = re.compile(
    r"\b(?:mit|expat|0?bsd|apache|isc|psf|python software foundation|mpl|mozilla public|lgpl\w*|"
    r"lesser general public|unlicense|zlib|hpnd|cc0|bsl-1|cnri|blueoak)",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(
    r"\b(?:a?gpl)|(?<!lesser )general public|proprietary|nvidia|non-?commercial|sspl|busl", re.I
)
# Libraries that torch for GPUs brings, under NVIDIA's own licence: named, and no failure.
OF_TORCH = ("nvidia-", "cuda-")


def licence_of(package: Distribution) -> str:
    """Return what the metadata of a package says of its licence, in one line; "" where it says nothing."""
    about = package.metadata
    classified = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or []
        if line.startswith("License ::") and not line.endswith("OSI Approved")
    ]
    text = about["License-Expression"] or ", ".join(classified) or about["License"] or ""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def allowed(licence: str) -> bool:
    """Return whether a licence is on the list.

    Of an expression each part that is joined by AND has to be, and one of those joined by OR.

    Examples
    --------
    >>> allowed("Apache-2.0 AND (MIT OR GPL-3.0-only)"), allowed("GPL-3.0-only"), allowed("")
    (True, False, False)
    """
    if not licence:
        return False
    parts = re.split(r"\s+AND\s+|,|;", licence.replace("(", " ").replace(")", " "))
    return all(
        any(
            ALLOWED.search(way) and not FORBIDDEN.search(way)
            for way in re.split(r"\s+OR\s+", part, flags=re.IGNORECASE)
        )
        for part in parts
        if part.strip()
    )


def reached() -> Iterator[tuple[str, Distribution | None]]:
    """Yield each package that the requirements lead to, by name; None for one that is not installed here."""
    todo = [Requirement(line) for line in environment.requirements(EXTRAS)]
    seen: set[tuple[str, str]] = set()
    given: set[str] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *sorted(wanted.extras)):
            if (name, extra) in seen or (
                wanted.marker and not any(wanted.marker.evaluate({"extra": e}) for e in ("", extra))
            ):
                continue
            seen.add((name, extra))
            try:
                package = distribution(name)
            except PackageNotFoundError:
                package = None
            if name not in given:
                given.add(name)
                yield name, package
            for line in (package.requires or []) if package else []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    needed.marker = None
                    todo.append(needed)


def licences() -> int:
    """Print what is not on the list, and return how many packages that are."""
    found = sorted(reached(), key=lambda pair: pair[0])
    gpu = [name for name, package in found if package is not None and name.startswith(OF_TORCH)]
    here = [(name, package) for name, package in found if package is not None and name not in gpu]
    wrong = [
        (name, licence) for name, package in here if not allowed(licence := licence_of(package))
    ]
    for name, licence in wrong:
        print(f"  {name}: {licence or 'states no licence in its metadata'}")
    missing = [name for name, package in found if package is None]
    print(
        f"licences: {len(here) - len(wrong)} of {len(here)} packages have one that is allowed. Not checked, "
        f"as not installed here: {', '.join(missing) or 'none'}. NVIDIA's own, with torch: "
        f"{', '.join(gpu) or 'none'}."
    )
    return len(wrong)


def vulnerabilities() -> int:
    """Print what is known, or that nothing could be learned; return how many there are."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    command += ["--timeout", "15"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except (json.JSONDecodeError, KeyError):
        said = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        print(f"vulnerabilities: NOT CHECKED, pip-audit gives no answer here ({' '.join(said)})")
        return 0
    asked = [package for package in packages if "vulns" in package]
    found = [package for package in asked if package["vulns"]]
    for package in found:
        for one in package["vulns"]:
            fixed = ", ".join(one["fix_versions"]) or "no release"
            print(f"  {package['name']} {package['version']}: {one['id']}, mended in {fixed}")
    if not asked:
        print(
            f"vulnerabilities: NOT CHECKED, the service knows none of {len(packages)} packages here"
        )
    else:
        print(
            f"vulnerabilities: {len(found)} of {len(asked)} packages have known ones; "
            f"{len(packages) - len(asked)} could not be checked"
        )
    return len(found)


if __name__ == "__main__":
    sys.exit(bool(licences() + vulnerabilities()))
