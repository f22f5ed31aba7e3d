"""How a network comes about: tasks, one jitted step, checkpoints, the loop."""
