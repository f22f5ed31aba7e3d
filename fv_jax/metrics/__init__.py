"""Numbers that say how close two videos are."""
