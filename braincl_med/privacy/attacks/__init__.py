"""What somebody could find out who has a vault, a network or an update: each attack a function of arrays."""
