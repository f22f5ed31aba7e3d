"""Scoring videos: protocols as data, sets of clips, cached features, results, and the report."""
