"""Tiny checkpoints with random weights, one module a family: the true classes, the layout of the hub.

Each module has `build(folder)`, which writes a checkpoint that loads as one from the hub does. A seed
makes the weights, and they are large enough that sound and text move the logits.
"""
