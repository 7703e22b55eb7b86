import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from braincl_med.foundation.errors import VaultError
from braincl_med.memory.coding import FrequencyTables
from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import MemoryShape, PatternCompletion
from braincl_med.memory.weights import pack, round_weights
from braincl_med.settings.memory import LinearMemory
from braincl_med.vault.cuefile import CODER, FIXED, CueFile, Header, Shard

GOLDEN_FILES = Path(__file__).parent / "golden"


def stored(completion):
    """A network's bytes, every weight rounded to about a thousandth."""
    worth = {n: np.ones(len(p) if p.ndim > 3 else 1) for n, p in completion.named_parameters() if p.ndim > 1}
    return pack(completion, round_weights(completion, worth, 1e-3))


KINDS = (1, 1, 0, 0, 1, 1)


KEY = hashlib.sha256(b"all that decided the cues").hexdigest()


def cue_file(records=(5, 3), experiment="trial", task=0, seed=0, kinds=(), key=KEY):
    """A small cue file of two classes and its cues by class."""
    rng = np.random.default_rng(seed)
    shape = MemoryShape(1, 8, 8, 4, 2, 2, linear=True, kinds=kinds)
    cues = {label: rng.integers(-3, 4, (n, *shape.cue)).astype(np.int16) for label, n in enumerate(records)}
    header = Header(
        experiment=experiment,
        task=task,
        task_name=f"task-{task}",
        memory="working",
        key=key,
        coder=CODER,
        shape=shape.as_json(),
        shards=tuple(
            Shard(label=label, dataset_label=f"set/{label}", records=n, words=0, recall_error=0.05)
            for label, n in enumerate(records)
        ),
    )
    completion = PatternCompletion(shape)
    for number, parameter in enumerate(completion.parameters()):
        parameter.data = np.sin(1 + number) * 0.1 + 0 * parameter.data
    tables = FrequencyTables.of(np.concatenate(list(cues.values())))
    return CueFile.pack(header, cues, tables, stored(completion)), cues


def test_a_file_comes_back_as_it_was_written():
    file, cues = cue_file()
    again = CueFile.from_bytes(file.to_bytes())
    assert again.header == file.header
    for label, expected in cues.items():
        assert np.array_equal(again.cues(label), expected)
    state = again.network().state_dict()
    assert all((state[n] == t).all() for n, t in file.network().state_dict().items())


def test_a_class_is_decoded_alone():
    file, cues = cue_file()
    broken = CueFile(
        file.header,
        file.shape,
        file.tables,
        file.completion,
        b"\0" * 4 * file.header.shards[0].words + file.payload[4 * file.header.shards[0].words :],
    )
    assert np.array_equal(broken.cues(1), cues[1])


def test_sizes_add_up_to_the_file():
    file, _ = cue_file()
    assert sum(file.sizes().values()) == len(file.to_bytes())


def test_the_recall_after_a_round_trip_is_the_recall_before():
    images = np.random.default_rng(0).integers(0, 255, (20, 28, 28, 3)).astype(np.uint8)
    module = fit(images, LinearMemory(components=10), seed=1)
    cues = module.encode(images)
    file, _ = cue_file()
    header = file.header.model_copy(
        update={
            "shape": module.completion.shape.as_json(),
            "shards": (file.header.shards[0].model_copy(update={"records": 20}),),
        }
    )
    packed = CueFile.pack(header, {0: cues}, FrequencyTables.of(cues), module.stored)
    again = CueFile.from_bytes(packed.to_bytes())
    assert np.array_equal(complete(again.network(), again.cues(0)), complete(module.completion, cues))


def golden_file(version):
    return (GOLDEN_FILES / f"version-{version}.cue").read_bytes()


def test_golden_file():
    """Pins every byte of version 3 except the version of the coder's library."""
    file, cues = cue_file(kinds=KINDS, key="k")
    header = file.header.model_copy(update={"coder": "constriction 0.5.0"})
    assert CueFile.pack(header, cues, file.tables, file.completion).to_bytes() == golden_file(3)


def fixed_file():
    """A small cue file of a fixed basis, and the scans that it stands for."""
    generator = np.random.default_rng(0)
    scans = np.repeat(np.repeat(generator.integers(0, 256, (6, 2, 2, 3)), 4, 1), 4, 2).astype(np.uint8)
    module = fit(scans, LinearMemory(basis="fixed", step=0.5, down_samplings=3, components=32), 0)
    cues = {0: module.encode(scans)}
    shard = Shard(label=0, dataset_label="phantom/0", records=6, words=0, recall_error=0.25)
    header = Header(
        experiment="trial", task=0, task_name="fixed", memory="working", key="k", coder="constriction 0.5.0",
        shape=module.completion.shape.as_json(), shards=(shard,),
    )  # fmt: skip
    return CueFile.pack(header, cues, FrequencyTables.of(cues[0]), module.stored), scans


def test_golden_file_of_a_basis_that_the_tasks_scans_did_not_teach():
    file, scans = fixed_file()
    assert file.to_bytes() == golden_file(4)
    again = CueFile.from_bytes(golden_file(4))
    assert again.version == 4
    assert len(again.completion) == 4 + 32 // 8
    assert np.abs(complete(again.network(), again.cues(0)).astype(int) - scans).mean() < 25
    assert again.packed_again({0: again.cues(0)}).to_bytes() == golden_file(4)


def test_a_version_that_belongs_to_another_basis_is_refused():
    file, _ = fixed_file()
    with pytest.raises(VaultError, match="names the basis 'dct'"):
        CueFile.from_bytes(replace(file, version=3).to_bytes())


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_file_of_every_version_still_reads(version):
    file, cues = CueFile.from_bytes(golden_file(version)), cue_file()[1]
    assert file.version == version
    for label, expected in cues.items():
        assert np.array_equal(file.cues(label), expected)
    expected = cue_file(kinds=KINDS if version == 3 else ())[0].network()
    for parameter, other in zip(file.network().parameters(), expected.parameters(), strict=True):
        assert np.allclose(parameter.detach(), other.detach(), atol=1e-3)
    assert file.packed_again(cues).to_bytes() == golden_file(version)


@pytest.mark.parametrize(
    "kinds", [(1, 1, 1, 1, 1, 1), (2, 1, 0, 0, 1, 0), (4,), (3, 2), (2.0, 2), (5, -1), "1111", (0, 0, 0, 4, 0)]
)
def test_kinds_that_no_symmetry_has_are_refused(kinds):
    with pytest.raises(VaultError, match="kinds"):
        MemoryShape(1, 8, 8, 4, 2, 2, linear=True, kinds=kinds)


@pytest.mark.parametrize("version", [1, 2])
def test_the_older_golden_files_were_not_touched(version):
    assert hashlib.sha256(golden_file(version)).hexdigest() == OLDER[version]


OLDER = {
    1: "84abcd7bfebaaca700c406e488c96c531df26b362a0c8bad98d3a4e65c5f6b79",
    2: "531f11a5c2495179bcbec8f648d8191b06e6ccc647f76224f9c7cf8d8d3e9bd7",
}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_every_changed_byte_is_refused(data):
    content = bytearray(cue_file()[0].to_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(VaultError):
        CueFile.from_bytes(bytes(content))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 400))
def test_every_truncation_is_refused(length):
    content = cue_file()[0].to_bytes()
    with pytest.raises(VaultError):
        CueFile.from_bytes(content[: min(length, len(content) - 1)])


def resealed(content):
    body = content[:-32]
    return body + hashlib.sha256(body).digest()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        (1, 4, "version 4"),
        (3, 2**25, "header claims"),
        (4, 2**40, "tables claims"),
        (6, 8, "lengths add up"),
    ],
)
def test_a_well_sealed_file_with_wrong_lengths_is_refused(field, value, reason):
    content = bytearray(cue_file()[0].to_bytes())
    fixed = list(FIXED.unpack_from(content))
    fixed[field] = value
    struct.pack_into(FIXED.format, content, 0, *fixed)
    with pytest.raises(VaultError, match=reason):
        CueFile.from_bytes(resealed(bytes(content)))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"task":0', b'"task":x', "not JSON"),
        (b'"memory":"working"', b'"memory":"wakeful"', "memory"),
        (b'"channels":1', b'"channels":2', "channels is 2"),
        (b'"records":5', b'"recalls":5', "records"),
        (b'"label":1', b'"label":0', "two shards"),
    ],
)
def test_a_well_sealed_file_with_a_wrong_header_is_refused(old, new, reason):
    content = cue_file()[0].to_bytes()
    assert content.count(old) >= 1
    with pytest.raises(VaultError, match=reason):
        CueFile.from_bytes(resealed(content.replace(old, new)))


@pytest.mark.parametrize(
    ("ordinals", "reason"),
    [
        ((0, 1, 2, 3, 10**60), r"header's 'shards\.0\.ordinals\.4' is refused"),
        ((-1, 1, 2, 3, 4), r"header's 'shards\.0\.ordinals\.0' is refused"),
        ((0, 1, 3, 2, 4), "class 0 has ordinals that do not ascend"),
        ((0, 1, 1, 2, 4), "class 0 has ordinals that do not ascend"),
        ((0, 1), "5 records but 2 ordinals"),
    ],
)
def test_ordinals_that_no_writer_gives_are_refused(ordinals, reason):
    file, _ = cue_file()
    shards = (file.header.shards[0].model_copy(update={"ordinals": ordinals}), file.header.shards[1])
    content = replace(file, header=file.header.model_copy(update={"shards": shards})).to_bytes()
    with pytest.raises(VaultError, match=reason):
        CueFile.from_bytes(content)


def test_a_completion_network_of_another_shape_is_refused():
    file, _ = cue_file()
    other = PatternCompletion(MemoryShape(1, 8, 8, 5, 2, 2, linear=True))
    swapped = CueFile(file.header, file.shape, file.tables, stored(other), file.payload)
    with pytest.raises(VaultError, match=r"weight|completion network"):
        CueFile.from_bytes(swapped.to_bytes()).network()
