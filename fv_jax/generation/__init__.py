"""From a prompt to frames: a trained model, the sampler, key frames, interpolation, streams."""
