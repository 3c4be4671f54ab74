"""Backbones: model families behind one protocol, and the loading of their checkpoints."""
