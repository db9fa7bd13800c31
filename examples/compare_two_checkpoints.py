"""Is a difference between two checkpoints more than chance? Both answer the same items, then item by item.

$ python compare_two_checkpoints.py nano tiny-random
$ python compare_two_checkpoints.py checkpoints/step-1000 checkpoints/step-2000

The same as `mmaupro run …` twice and `mmaupro compare RUN RUN`, for scripts that go on with the numbers.
"""

import sys
from pathlib import Path

from mmaupro_ext import report
from mmaupro_ext.commands import cli
from mmaupro_ext.report.comparison import compare


def main(first, second, out="results", tasks="mmaupro-sample_sound,mmaupro-sample_music"):
    folders = []
    for name in (first, second):
        folders.append(Path(out) / Path(name).name)
        cli.main(
            ["run", "--model", "hf-audio", "--model_args", f"pretrained={name}", "--tasks", tasks]
            + ["--batch_size", "8", "--output_path", str(folders[-1]), "--log_samples"]
        )
    (comparison,) = compare(report.load(*folders))
    overall = comparison.rows["overall"]
    print(
        f"{second} is {100 * overall.difference:+.1f} points from {first}, on {overall.items} items"
    )
    print(
        f"95 % interval {100 * overall.low:+.1f} to {100 * overall.high:+.1f}; p = {overall.p:.3g}"
    )
    print(f"won {len(comparison.won)} items, lost {len(comparison.lost)}")
    return comparison


if __name__ == "__main__":
    main(*sys.argv[1:])
