"""Models as files that run without vidprune, and the proof that they do what the model does."""
