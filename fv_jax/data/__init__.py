"""Clips: where they come from, their ids on disk, and batches of packed rows."""
