"""Key frames coded as what changed from the one before: a study, not in the core."""
