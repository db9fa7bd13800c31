"""Write the table of options into docs/scoring.md: `python tools/scoring_presets_table.py`."""

from __future__ import annotations

from pathlib import Path

from mmaupro_ext.scoring.presets import options_table

PAGE = Path(__file__).parents[1] / "docs" / "scoring.md"
BEGIN = "<!-- made by: python tools/scoring_presets_table.py -->\n"
END = "<!-- end -->"


def main() -> None:
    """Write the table."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{options_table()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
