"""The command line: the one place that parses arguments, prints and exits; a file for each verb."""

from vidprune.cli.main import VERBS, main, parser
from vidprune.cli.statuses import FAILURE, INTERRUPTED, USAGE

__all__ = ["FAILURE", "INTERRUPTED", "USAGE", "VERBS", "main", "parser"]
