"""Frames between key frames: the skip mask and recursive filling."""
