"""Messages with something wrong in them, drawn by a seed: bytes, JSON, records and arrays."""

import json
import random

import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from braincl_med.cortex.cortex import Weights
from braincl_med.messages.tensors import KIND, PIECE, in_one_piece, tensors_of

NASTY = (
    None, True, False, 0, -1, 1, 7, 2**31, 2**63, 10**400, 0.5, -1e308, 1e308, float("nan"), float("inf"), "", "x",
    "../../etc/passwd", "\x1b[2J\n", "a" * 100_000, "\u202e", [], {}, [[]], [1, "x"], {"a": {"b": []}}, [10**30] * 50,
)  # fmt: skip


def places(value, path=()):
    """The way to every value within a value."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def changed_json(text: str, rng: random.Random) -> str:
    """A JSON text with one value replaced, left out, added or doubled, or some of its bytes changed."""
    kind = rng.randrange(6)
    if kind == 0 or not text.startswith("{"):
        return changed_bytes(text.encode(), rng).decode("latin-1")
    if kind == 1:
        return '{"a":' * 10**4 + text
    value = json.loads(text)
    path = rng.choice([place for place in places(value) if place])
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    if kind == 2:
        del holder[path[-1]]
    elif kind == 3:
        holder[path[-1]] = [holder[path[-1]]] * rng.choice([1, 2, 1000])
    elif kind == 4 and isinstance(holder, dict):
        holder[rng.choice(["more", "", "\x1b", "a" * 10_000])] = rng.choice(NASTY)
    else:
        holder[path[-1]] = rng.choice(NASTY)
    return json.dumps(value)


def changed_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes of which some are changed, left out, or said twice."""
    held = bytearray(data)
    start = rng.randrange(len(held) or 1)
    kind = rng.randrange(4)
    if kind == 0:
        del held[start:]
    elif kind == 1:
        held[start:start] = held[start : start + rng.randrange(1, 200)]
    elif kind == 2:
        held[:128] = bytes(rng.randrange(256) for _ in range(len(held[:128])))
    else:
        for _ in range(rng.choice([1, 1, 10])):
            if held:
                held[rng.randrange(len(held))] = rng.randrange(256)
    return bytes(held)


def mutated(content: RecordDict, text: str, rng: random.Random) -> RecordDict:
    """The records of a message with something wrong in one of them.

    Args:
        content: tensors in `weights`, JSON and what is said of networks in the record `text`.
        text: the name of that record.
        rng: draws what is wrong.
    """
    weights, said = content["weights"], dict(content[text])
    kind = rng.randrange(10 if weights else 4)
    if kind < 3:
        field = rng.choice(list(said))
        said[field] = changed_json(said[field], rng)
    elif kind == 3:
        return odd_records(content, text, rng)
    elif kind < 6:
        weights = ArrayRecord({PIECE: Array("uint8", (1,), KIND, changed_bytes(weights[PIECE].data, rng))})
    else:
        weights = ArrayRecord(in_one_piece(changed_tensors(tensors_of(weights), kind, rng), Array))
    return RecordDict({"weights": weights, text: ConfigRecord(said)})


def changed_tensors(tensors: Weights, kind: int, rng: random.Random) -> Weights:
    """Tensors of which one has other values, type or shape, is missing, has another's name or is another's."""
    name = rng.choice(list(tensors))
    tensor, others = tensors[name], {other: held for other, held in tensors.items() if other != name}
    if kind == 6:
        changed = bytearray(changed_bytes(tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes(), rng))
        size = tensor.numel() * tensor.element_size()
        if len(changed) >= size > 0:
            return {**others, name: torch.frombuffer(changed[:size], dtype=tensor.dtype).reshape(tensor.shape)}
        return {**others, name: torch.zeros(len(changed), dtype=torch.uint8)}
    if kind == 7:
        return {
            **others,
            name: rng.choice([tensor.double(), tensor.to(torch.int8), tensor[None], tensor.flatten()[:1]]),
        }
    if kind == 8:
        return {
            **others,
            **({rng.choice(["", "\x1b", "w" * 10_000, name + ".more"]): tensor} if rng.random() < 0.5 else {}),
        }
    return {**tensors, name: tensors[rng.choice(list(tensors))].clone()}


def odd_records(content: RecordDict, text: str, rng: random.Random) -> RecordDict:
    """The records under other names, of other kinds, or with more beside them."""
    weights, said = content["weights"], content[text]
    return rng.choice(
        [
            RecordDict(),
            RecordDict({"weights": weights}),
            RecordDict({text: said}),
            RecordDict({"weights": said, text: said}),
            RecordDict({"weights": weights, text: weights}),
            RecordDict({"weights": weights, text: ConfigRecord({"json": rng.choice([1, 0.5, True, b"x", [1, 2]])})}),
            RecordDict({"weights": weights, text: ConfigRecord({**said, "more": "x"})}),
            RecordDict({"weights": weights, text: said, "more": ConfigRecord()}),
        ]
    )
