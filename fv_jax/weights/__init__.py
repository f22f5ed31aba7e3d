"""Files of weights: safetensors, and those of torch, without torch."""
