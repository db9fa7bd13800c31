"""Scoring logged replies: what talks to disks, servers and GPUs; the rules themselves are in `scoring`.

`logged_runs` (with `logged_items`) reads what lm_eval logged, `rescoring` has it scored, and `summary`
(with `kinds`) turns the verdicts into the numbers of a result. `judges` (with `judging` and
`local_judge`) ask a chat model about open replies; `embedders` (with `checkpoints`, `token_embedder`,
`nv_embedder`, `nv_embed`, `sentence_embedder` and `embedding_cache`) give the vectors of the official
multiple-choice match.
"""
