"""The papers' results, measured through the bench. Nothing is here yet."""
