"""What the window draws: thin widgets around the view-models."""
