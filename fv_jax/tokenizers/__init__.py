"""Text and frames to ids and back."""
