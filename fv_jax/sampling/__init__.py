"""From logits to ids: policies and the recurrent sampler."""
