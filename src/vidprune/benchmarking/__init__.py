"""Runs against each other: what they take, where their time goes, and what that looks like."""
