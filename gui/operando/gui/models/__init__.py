"""What the window shows and does, as plain objects: no Qt here, so that it is tested without."""
