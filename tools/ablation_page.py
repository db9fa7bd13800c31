"""Write the numbers of docs/ablations.md: `python -m ablation_page [conditions] [profile] [cost]`.

`conditions` is their table. For `profile` nano is asked the sample's closed questions on short clips under
all conditions, and the page has what `mmaupro ablate` prints; what listening adds is drawn for
docs/reliance.md (`FIGURE`). For `cost` it is asked the whole sample,
in full and then in full and under the ten conditions of `TEN`; the page has what both took, counted.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmaupro_ext import data
from mmaupro_ext.commands.cli import main as command
from mmaupro_ext.data.conditions import CONDITIONS
from mmaupro_ext.models.hf.model import HFAudioLM
from mmaupro_ext.offline.ablated import answers_of
from mmaupro_ext.report.chart_parts import files_of
from mmaupro_ext.report.reliance_chart import reliance_chart
from mmaupro_ext.scoring import reliance

DOCS = Path(__file__).parents[1] / "docs"
PAGE, FIGURE = DOCS / "ablations.md", DOCS / "figures" / "listening_nano.svg"
# Without sound, music and speech, which have clips of minutes, and without what has no choices.
SHORT = ("sound_music", "music_speech", "sound_speech", "sound_music_speech", "spatial_audio") + (
    "voice_chat",
    "multi",
)
# Without fragments, as the promise of cost has it; of the sounds that nothing else shares (silence, noise of
# two levels, backwards) with one.
TEN: tuple[str, ...] = (
    "none",
    "text-backbone",
    "noise",
    "swap",
    "permute",
    "rephrase",
    "repeat",
    "mono",
)
TEN += ("first-30s", "absent")


@contextlib.contextmanager
def models_made() -> Iterator[list[Any]]:
    """Note which models a command makes."""
    made: list[Any] = []
    create, generate = HFAudioLM.__init__, HFAudioLM._model_generate

    def noted(self: Any, *arguments: Any, **options: Any) -> None:
        create(self, *arguments, **options)
        self.text_tokens = 0
        made.append(self)

    def counted(self: Any, context: Any, **options: Any) -> Any:
        self.text_tokens += context.numel()
        return generate(self, context, **options)

    HFAudioLM.__init__ = noted  # type: ignore[method-assign]
    HFAudioLM._model_generate = counted  # type: ignore[method-assign]
    try:
        yield made
    finally:
        HFAudioLM.__init__ = create  # type: ignore[method-assign]
        HFAudioLM._model_generate = generate  # type: ignore[method-assign]


def ask(words: Sequence[str]) -> tuple[str, dict[str, int]]:
    """Run a command of `mmaupro`; return what it prints, and what its first model was made to do.

    Prompts without audio, which lm_eval's own code reads, are added to the tokens.
    """
    printed = io.StringIO()
    with models_made() as made, contextlib.redirect_stdout(printed):
        try:
            command(list(words))
        except SystemExit as end:
            if end.code:
                raise
    model = made[0]
    counts = model.passes.counts.as_dict()
    counts["prefilled_tokens"] += model.text_tokens
    return printed.getvalue(), counts


def words_of(command: str, slugs: Sequence[str], folder: Path, *more: str) -> list[str]:
    """Return a command on nano and the sample."""
    tasks = ",".join(f"mmaupro-sample_{slug}" for slug in slugs)
    model = "--model hf-audio --model_args pretrained=nano --batch_size 8"
    return [command, *model.split(), "--tasks", tasks, "--output_path", str(folder), *more]


def cost(slugs: Sequence[str], folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return what a full run takes, and what a profile of the ten conditions does."""
    _, full = ask(words_of("run", slugs, folder / "full"))
    needs = needs_of(slugs, folder)
    ten = words_of("ablate", slugs, folder / "ten", "--conditions", ",".join(TEN), *needs)
    return full, ask(ten)[1]


def needs_of(slugs: Sequence[str], folder: Path) -> list[str]:
    """Return the options of text-backbone and rephrase: nano itself, questions with a word before them."""
    file = folder / "rephrasings.jsonl"
    docs = [doc for slug in slugs for doc in data.load_category(slug, sample=True)]
    lines = [{"id": doc["id"], "question": f"Listen. {doc['question']}"} for doc in docs]
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return ["--backbone_args", "pretrained=nano", "--rephrasings", str(file)]


def main(parts: Sequence[str]) -> None:
    """Write parts of the page, all by default."""
    for name in parts or MAKERS:
        with tempfile.TemporaryDirectory() as place:
            block = MAKERS[name](Path(place))
        text = PAGE.read_text(encoding="utf-8")
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{block}\n\n{end}{rest.split(end)[1]}"
        PAGE.write_text(text, encoding="utf-8")


def conditions_table(folder: Path) -> str:
    """Return the conditions as Markdown."""
    rows = [f"| `{one.name}` | {one.changes} | {one.tells} |" for one in CONDITIONS.values()]
    return "\n".join(["| condition | what is changed | what it tells |", "|---|---|---|", *rows])


def profile(folder: Path) -> str:
    """Return what `mmaupro ablate` prints of nano on short clips, and draw what listening adds."""
    printed, _ = ask(words_of("ablate", SHORT, folder / "out", *needs_of(SHORT, folder)))
    FIGURE.write_bytes(figure(folder / "out" / "nano"))
    shown = printed[
        printed.index("nano on the embedded sample") : printed.index("Profile:")
    ].rstrip()
    return f"```\n{shown}\n```"


def figure(ablated: Path) -> bytes:
    """Return the figure of the folder of an ablation, as `mmaupro report` draws it, in SVG."""
    found = reliance.profile(answers_of([ablated]))
    chart = reliance_chart(ablated.name, found, found.categories)
    assert chart is not None, "nothing was asked without audio"
    return dict(files_of(chart))[FIGURE.name]


def cost_table(folder: Path) -> str:
    """Return what both took, and how often the first goes into the second."""
    full, ten = cost(list(data.CATEGORIES), folder)
    rows = [
        f"| {name} | {full[key]:,} | {ten[key]:,} | {ten[key] / full[key]:.2f} |"
        for name, key in (
            ("blocks of audio through the encoder", "encoded"),
            ("tokens of prompts that were read", "prefilled_tokens"),
        )
    ]
    head = "| | the full run | the full run and ten conditions | times |"
    return "\n".join([head, "|---|---|---|---|", *rows])


MAKERS = {"conditions": conditions_table, "profile": profile, "cost": cost_table}

if __name__ == "__main__":
    main(sys.argv[1:])
