"""How the epochs of a phase are divided among its rounds."""


def epochs_of_round(epochs: int, rounds: int, number: int) -> tuple[int, int]:
    """The first epoch and the number of epochs of round `number`, from 0; all rounds together make `epochs`.

    >>> [epochs_of_round(10, 3, number) for number in range(3)]
    [(0, 3), (3, 3), (6, 4)]
    """
    first = epochs * number // rounds
    return first, epochs * (number + 1) // rounds - first
