"""The packed sequence of Fig. 3, and the one id space of everything in it."""
