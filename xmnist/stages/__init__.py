"""What a command does: train, explain, evaluate, report, export."""
