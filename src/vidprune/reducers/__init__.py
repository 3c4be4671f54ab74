"""Reducers: tokens and keys in, which tokens stay out. They know torch and no model."""
