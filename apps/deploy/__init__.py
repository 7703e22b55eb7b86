"""A federation's folders: written, checked, renewed and started. Only `flower.py` knows Flower's flags and paths."""
