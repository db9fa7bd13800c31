"""Scores of replies: pure functions that need no model, no audio, no disk and no lm_eval.

`score(doc, reply, preset)` is the one scorer. Under it, `final` gives the part of a reply that answers,
`closed` reads the option out of a multiple-choice reply, `instruction_following` holds the 27 format
checks, `open_ended` the judge's prompt and the reader of its verdict, `official_rules` the released rules of
MMAU, MMAR and MMSU, `model_reader` what a model is asked that reads unparsed replies; `presets` says which
rules apply. `aggregate` and `intervals` give means over many items and how sure they are.
"""

from mmaupro_ext.scoring.by_recipe import score_by_recipe
from mmaupro_ext.scoring.final import final_answer
from mmaupro_ext.scoring.scorer import Verdict, kind_of, score

__all__ = ["Verdict", "final_answer", "kind_of", "score", "score_by_recipe"]
