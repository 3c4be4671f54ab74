"""What people see in a terminal: tables and progress bars."""

from vidprune.terminal.accuracy import (
    agreement_table,
    comparison_table,
    prediction_table,
    report_table,
    reproduction_table,
    tradeoff_table,
    training_table,
)
from vidprune.terminal.costs import benchmark_tables, costs_table, demo_table, summary_table
from vidprune.terminal.exports import export_table
from vidprune.terminal.progress import ProgressBar, progress_columns, progress_of
from vidprune.terminal.tunings import tried_line, tuning_table

__all__ = [
    "ProgressBar",
    "agreement_table",
    "benchmark_tables",
    "comparison_table",
    "costs_table",
    "demo_table",
    "export_table",
    "prediction_table",
    "progress_columns",
    "progress_of",
    "report_table",
    "reproduction_table",
    "summary_table",
    "tradeoff_table",
    "training_table",
    "tried_line",
    "tuning_table",
]
