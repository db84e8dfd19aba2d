"""The papers' results, measured through the bench: targets, measurements, verdicts, the fit."""
