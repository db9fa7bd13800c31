"""Scores of logged replies: pure functions that need no model, no audio and no lm_eval.

`closed` reads the option out of a multiple-choice reply, `instruction_following` holds the 27
format checks, `open_ended` the judge's prompt and the reader of its verdict, and `aggregate`
the means and intervals over many items.
"""

from mmaupro_ext.scoring.final import final_answer

__all__ = ["final_answer"]
