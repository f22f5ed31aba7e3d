"""Scoring videos: two sets of clips, a protocol, numbers, and a result that says all of it.

protocols      how clips are compared, as data; its fields are flags of `fv evaluate`
metrics        the registry of what is computed
folders        two folders of clips, or samples: what an experiment's model makes of unseen ones
clip_sets      clips of folders and .npz, cut and paired
evaluate       the numbers, each computed once (feature_cache)
results        what is written
"""
