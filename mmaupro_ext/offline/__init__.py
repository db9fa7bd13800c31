"""Scoring logged replies: what talks to disks, servers and GPUs; the rules themselves are in `scoring`.

`logged_runs` reads what lm_eval logged, `judges` ask a chat model about open replies, `embedders`
(with `nv_embed` and `embedding_cache`) give the vectors of the official multiple-choice match, and
`summary` turns verdicts into the numbers of a result.
"""
