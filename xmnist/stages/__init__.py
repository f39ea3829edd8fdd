"""The stages, one for each command: train, explain, evaluate, report, export."""
