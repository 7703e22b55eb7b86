"""Flower's error numbers as sentences."""

SENTENCES = {
    0: "Flower could not say what went wrong: look into the log of its SuperNode",
    1: "its client app could not be loaded: its Python lacks a package, or has another version of this program",
    2: "its client app failed: look into the log of its SuperNode",
    3: "the SuperLink no longer has the message: it was restarted, or the message expired before it was fetched",
    4: "the SuperLink no longer has its answer: it was restarted, or the answer expired before it was fetched",
    5: "its SuperNode is away: it has given the SuperLink no sign of life",
    6: "a Flower mod of its own refused the message: start its SuperNode without mods",
    7: "its SuperNode refused the app: another version was submitted than it takes, or the app's bundle was changed",
    8: "its client app ended before it answered: killed, or its machine ran out of memory",
}
"""By Flower's number of an error in a message (`flwr.common.constant.ErrorCode`, 1.41)."""


def sentence_of(code: int) -> str:
    """What an error of Flower's means for whoever runs the federation; the number stands with it."""
    return f"{SENTENCES.get(code, 'Flower tells of an error that this program does not know')} (Flower error {code})"
