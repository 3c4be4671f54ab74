"""The setting for a target: what is asked for, what may be chosen, how it is tried and found."""
