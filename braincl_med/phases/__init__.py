"""Wake, select, sleep: one function each, from scans and a cortex to an update."""
