"""icetk, the tokenizer of the paper, from your own copy of its weights."""
