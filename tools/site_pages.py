"""A hook of MkDocs: pages that live beside what they describe become part of the site, with their links.

Pages are written to be read in the repository, where a link is relative to the file that it stands in. Here
each finds its place on the site (`PLACES`), and its links are turned to where the pages that they name are
now. A link to what is no page (a module, an example) keeps its words and says the path.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

REPO = Path(__file__).parents[1]

# File in the repository -> page of the site. Those in docs/ keep their names.
PLACES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "tools/README.md": "makers.md",
    "benchmarks/RESULTS.md": "measured.md",
    "mmaupro_ext/models/nano/README.md": "nano.md",
    "mmaupro_ext/data/sample/README.md": "sample.md",
    **{
        path.relative_to(REPO).as_posix(): f"tasks/{path.parent.name}.md"
        for path in sorted(REPO.glob("tasks/*/README.md"))
    },
}

_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_ROLE = re.compile(r":(?:func|class|meth|mod|data):(?=<code>)")
_CODE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)


def page_of(path: str) -> str | None:
    """Return the page of the site that a file of the repository is, None if it is none.

    Examples
    --------
    >>> page_of("README.md"), page_of("docs/runs.md"), page_of("setup.py")
    ('index.md', 'runs.md', None)
    """
    if path in PLACES:
        return PLACES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else None


def turned(markdown: str, source: str) -> str:
    """Return the text of a page with its links as they are on the site.

    Parameters
    ----------
    markdown : str
        The page as it is written.
    source : str
        Its path in the repository, with slashes.

    Examples
    --------
    >>> turned("[runs](docs/runs.md#where) and [make](Makefile)", "README.md")
    '[runs](runs.md#where) and make (`Makefile`)'
    """
    here = posixpath.dirname(page_of(source) or "")

    def one(match: re.Match[str]) -> str:
        picture, words, target = match.groups()
        name, hash_, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:") or not name:
            return match.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), name))
        page = page_of(path)
        if page is None:
            return words if words.strip("`") == path else f"{words} (`{path}`)"
        return f"{picture}[{words}]({posixpath.relpath(page, here or '.')}{hash_}{anchor})"

    parts = _CODE.split(markdown)  # every other part is code, which stays as it is
    return "".join(part if at % 2 else _LINK.sub(one, part) for at, part in enumerate(parts))


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are not in docs/ (called by MkDocs)."""
    from mkdocs.structure.files import File

    for source, page in PLACES.items():
        text = (REPO / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn the links of a page (called by MkDocs)."""
    sources = {place: source for source, place in PLACES.items()}
    uri = page.file.src_uri
    return turned(markdown, sources.get(uri, f"docs/{uri}"))


def on_page_content(html: str, **_: Any) -> str:
    """Take the roles of docstrings away, which mean nothing here (called by MkDocs)."""
    return _ROLE.sub("", html)
