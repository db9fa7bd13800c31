"""Evaluates a model from Python, and looks at what came out.

$ python evaluate_from_python.py                                   # nano, which ships with this package
$ python evaluate_from_python.py Qwen/Qwen2-Audio-7B-Instruct
"""

import sys

import lm_eval

from mmaupro_ext import compat

compat.install()  # only editable installs need this line: others have a start-up hook


def main(model="nano", limit=None):
    found = lm_eval.simple_evaluate(
        model="hf-audio",
        model_args={"pretrained": model},
        tasks=["mmaupro-sample_sound", "mmaupro-sample_music"],
        batch_size=8,
        limit=limit,
        log_samples=True,
    )
    for task, numbers in found["results"].items():
        print(
            f"{task}: {100 * numbers['acc,none']:.1f} % of {found['n-samples'][task]['effective']}"
        )
    for task, samples in found["samples"].items():
        wrong = [sample for sample in samples if not sample["acc"]]
        for sample in wrong[:3]:
            reply = sample["filtered_resps"][0]
            print(f"{task}: {sample['doc']['question']} {reply!r}, not {sample['doc']['answer']!r}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:])
