"""Clips drawn at random from labelled videos, and a model fine-tuned on them.

`sampling` says which frames and which square, `augment` changes how they look, `clips` reads
them, `mixing` blends the clips of a batch, `layers` gives every block its learning rate, and
`trainer` joins them to transformers' Trainer.
"""
