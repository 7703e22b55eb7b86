"""A message holds one record of tensors and one of text, and its fields have limits."""

import pytest
import torch
from flwr.app import Array, ArrayRecord

from braincl_med.foundation.errors import FederationError
from braincl_med.messages.compact import coded, digest_of
from braincl_med.messages.tensors import in_one_piece
from braincl_med.messages.wire import LONGEST_NOTE, opened, told

BEFORE = {"backbone.conv": torch.zeros(2, 2), "classifier.bias": torch.zeros(2)}
AFTER = {**BEFORE, "classifier.bias": torch.ones(2)}
SENT = coded(AFTER, BEFORE, stepped=False)


def message(**fields):
    said = {**told("{}", SENT, holds="x"), **fields}
    return {"weights": ArrayRecord(in_one_piece(SENT.tensors, Array)), "report": said}


def read(content, base=BEFORE):
    return opened(content, "report", {digest_of(BEFORE): base}.get)


def test_a_message_is_read_as_it_was_meant():
    came = read(message())
    assert (came.text, came.holds) == ("{}", "x")
    assert all(torch.equal(came.weights[name], tensor) for name, tensor in AFTER.items())


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**message(), "more": {}}, "holds other records"),
        ({"weights": message()["weights"]}, "holds other records"),
        (message(more="x"), "its 'report' is not one text"),
        (message(holds=1), "its 'report' is not one text"),
        (message(holds="x" * LONGEST_NOTE), "characters, too many to read"),
        (message(coded="x" * LONGEST_NOTE), "characters, too many to read"),
        (message(coded="{}"), "how a network was coded cannot be read"),
        (message(coded=SENT.note.replace(SENT.base, "0" * 64)), "no longer holds the network"),
        (message(coded=SENT.note.replace(SENT.digest, "0" * 64)), "its digest is another"),
    ],
)
def test_what_is_no_message_is_refused_in_one_sentence(content, reason):
    with pytest.raises(FederationError, match=reason):
        read(content)
