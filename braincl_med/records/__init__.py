"""The run store: what an experiment was, did and reached."""
