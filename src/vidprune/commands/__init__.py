"""The verbs of the command line as functions: they return what they found and print nothing."""
