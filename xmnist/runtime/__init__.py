"""What everything stands on: devices, files, signals, processes, errors, progress."""
