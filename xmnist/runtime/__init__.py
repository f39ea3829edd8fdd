"""Basic services of all packages: devices, files, signals, processes, errors, progress."""
