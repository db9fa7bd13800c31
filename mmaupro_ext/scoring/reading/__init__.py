"""How `scoring.closed` reads a reply, in the order of its steps.

`options` (ways to write each choice, once a question), `normalise` (the form of words), `mentions` (where a
reply names choices), `statements` (what each sentence says of them), with the words of `grammar` (what
says or denies that one is the answer).
"""
