"""Learning-rate schedules, one in a module."""
