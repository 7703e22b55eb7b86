"""The network in use: answers to scans, and the folder in which it leaves this program."""
