"""How `scoring.closed` reads a reply, in the order of its steps.

`normalise` (the form of words), `options` (ways to write each choice, and replies that are one of them
and nothing else), `mentions` (where a reply names them), `statements` (what each sentence says of them),
with the words of `grammar` (what says or denies that one is the answer).
"""
