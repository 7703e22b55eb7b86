"""How far long work is: a bar on a terminal, nothing in a log."""

from collections.abc import Callable
from typing import Any

from tqdm import tqdm

Progress = Callable[[int, int, str], None]
"""Called after each epoch, or other unit of work, with its number, how many there are, and how well it goes."""


def bar(title: str, unit: str = "epoch") -> Progress:
    """A progress bar; it may be used for one work after the other."""
    now: Any = None

    def show(epoch: int, epochs: int, state: str) -> None:
        nonlocal now
        if now is None:
            now = tqdm(desc=title, unit=unit, total=epochs, disable=None, leave=False)
        now.set_postfix_str(state)
        now.update(epoch - now.n)
        if epoch == epochs:
            now.close()
            now = None

    return show
