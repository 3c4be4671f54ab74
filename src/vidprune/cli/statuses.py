"""Exit statuses, beside 0: as a shell and argparse have them."""

FAILURE, USAGE, INTERRUPTED = 1, 2, 130
