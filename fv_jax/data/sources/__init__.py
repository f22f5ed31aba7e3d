"""Sets of clips, each behind the same small interface."""
