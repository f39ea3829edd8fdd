"""How networks are trained: the loop, losses, objectives, resuming, several side by side."""
