"""What every room stands on: files, locks, logs, processes, devices, seeds and errors."""
