"""What can be trained: a network, a frame tokenizer, the features of shapes-FVD."""
