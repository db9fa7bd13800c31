"""Features of whole corpora: `extract` plans blocks of clips, each of which becomes a shard.

`sources` says which clips there are, `families` what is computed of one, `shards` what is written; `on_ray`
spreads blocks over processes and machines.
"""
