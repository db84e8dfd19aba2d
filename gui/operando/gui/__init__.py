"""The operator's window: a client of a station. Qt is imported here and nowhere else."""
