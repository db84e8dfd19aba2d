"""The operator's window, a client of a station. Nothing is here yet."""
