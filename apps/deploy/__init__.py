"""A federation's folders: written, checked, renewed and started; `apps/flower` knows Flower's flags and paths."""
