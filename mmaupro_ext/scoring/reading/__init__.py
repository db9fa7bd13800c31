"""How `scoring.closed` reads a reply, in the order of its steps.

`normalise` (the form of words), `options` (ways to write each choice), `mentions` (where a reply
names them), `grammar` (words that say or deny that one is the answer), `skeleton` and `statements`
(what each sentence says of them), `whole` (replies that are an option and nothing else).
"""
