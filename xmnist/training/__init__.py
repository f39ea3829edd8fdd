"""Training of networks: the loop, losses, objectives, resuming, several trainings side by side."""
