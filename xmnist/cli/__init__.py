"""The command line: its words, Hydra's hooks, sweeps, and the command `runs`."""
