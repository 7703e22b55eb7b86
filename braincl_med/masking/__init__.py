"""Sums of which nobody sees a part: masks that cancel, shares that repair them. Knows nothing of orders or Flower."""
