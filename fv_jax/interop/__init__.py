"""Other projects' checkpoints, read in."""
