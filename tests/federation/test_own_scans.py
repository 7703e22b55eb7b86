"""A diagnosis from hospitals' own scans, dealt out or each its own, learned by those without scans too."""

import contextlib
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from braincl_med.federation.extend import add_task
from braincl_med.federation.local import local_hospitals, run_locally
from braincl_med.foundation.errors import ConfigError, DataError, FederationError, MissingScansError
from braincl_med.records.store import RunStore
from braincl_med.scans import index
from braincl_med.scans.cache import Cache
from braincl_med.streams import own
from braincl_med.streams.catalogue import parse_class
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import ClassSpec, Registry, TaskSpec

from .experiments import tiny

SKIN = ("own/Melanoma@icd-10:C43.9", "own/naevus")


def write_scans(folder, classes, count=20, seed=0):
    """Pictures of 40 by 30 pixels, one class bright above, the other below, and all with noise of their own."""
    random = np.random.default_rng(seed)
    for label in classes:
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (30, 40, 3))
            pixels[slice(0, 12) if "aevus" in label else slice(18, 30)] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / label / f"{number}.png")


def registry_of(*texts):
    return Registry(tasks=(TaskSpec(name="skin", classes=tuple(map(parse_class, texts))),))


def source_at(place, hospital=0, hospitals=2, **stream):
    keys = {"train_per_class": 100, "test_per_class": 100} | stream
    config = tiny(place.folder, **{f"stream_{key}": value for key, value in keys.items()})
    return ScanSource(config.stream, place, 1, hospital, hospitals)


def counted(scans):
    return np.bincount(scans.labels, minlength=2).tolist()


def test_names_and_codes_make_one_class_whatever_the_spelling(tmp_path):
    spec = parse_class("own/Basal cell_carcinoma@SNOMED-CT:1338007")
    assert (spec.key, spec.name, spec.code) == (
        "own/basal-cell-carcinoma",
        "own: Basal cell_carcinoma",
        "snomed-ct:1338007",
    )
    assert parse_class("own/basal-cell-CARCINOMA").key == spec.key
    assert parse_class("own-skin/naevus").name == "skin: naevus"
    for wrong in ("own/", "own/a:b", "own/" + "x" * 70, "own/x@icd-10:skin", "own/x@C43"):
        with pytest.raises(ConfigError):
            parse_class(wrong)
    write_scans(tmp_path / "own", ["naevus", "c43.9"])
    scans = source_at(Place(tmp_path), hospitals=1).scans(registry_of(*SKIN), 0, "train")
    assert counted(scans) == [14, 14], "a folder may be named after the class's code"


def test_whose_scans_they_are_is_known_where_a_manifest_says_it_and_nowhere_else(tmp_path):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    nobody = source_at(Place(tmp_path), hospitals=1).scans(registry_of(*SKIN), 0, "train")
    assert nobody.patients is None
    rows = [f"{label}/{n}.png,{label},p{n // 4}" for label in ("melanoma", "naevus") for n in range(20)]
    (tmp_path / "own" / "manifest.csv").write_text("path,label,patient\n" + "\n".join(rows))
    scans = source_at(Place(tmp_path), hospitals=1).scans(registry_of(*SKIN), 0, "train")
    sizes = np.bincount(scans.patients)
    assert set(sizes) == {8}, "four scans of each class, all of them in one split"
    for patient in range(len(sizes)):
        assert set(scans.labels[scans.patients == patient]) == {0, 1}
    assert scans.take(np.arange(3)).patients.tolist() == scans.patients[:3].tolist()


def test_scans_in_a_shared_folder_are_dealt_out_and_a_hospitals_own_are_its_own(tmp_path):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    dealt = [source_at(Place(tmp_path, f"site-{n}"), n).scans(registry_of(*SKIN), 0, "train") for n in range(2)]
    assert [counted(scans) for scans in dealt] == [[7, 7], [7, 7]] or sum(map(len, dealt)) == 28
    together = {scan.tobytes() for scans in dealt for scan in scans.images}
    assert len(together) == 28
    write_scans(tmp_path / "site-1" / "own", ["naevus"], count=30, seed=1)
    assert len(source_at(Place(tmp_path, "site-0"), 0).scans(registry_of(*SKIN), 0, "train")) == 0
    own = source_at(Place(tmp_path, "site-1"), 1)
    assert counted(own.scans(registry_of(*SKIN), 0, "train")) == [0, 21]
    assert counted(own.scans(registry_of(*SKIN), 0, "val")) == [0, 3]
    few = source_at(Place(tmp_path, "site-1"), 1, train_per_class=9)
    assert counted(few.scans(registry_of(*SKIN), 0, "train")) == [0, 9]
    alone = source_at(Place(tmp_path, "anywhere", alone=True), 1)
    assert counted(alone.scans(registry_of(*SKIN), 0, "train")) == [14, 14], "a node's data-dir is its own, undealt"


def test_what_is_asked_for_must_be_at_some_hospital(tmp_path):
    specs = [parse_class(text) for text in SKIN]
    source = source_at(Place(tmp_path))
    from braincl_med.streams.availability import require_scans

    with pytest.raises(MissingScansError, match="no hospital's folder 'own' is there"):
        require_scans(specs, ("train",), source.stream, tmp_path)
    write_scans(tmp_path / "site-0" / "own", ["naevus"], 3)
    with pytest.raises(DataError, match="no hospital has scans of 'own/melanoma'; the classes of 'own' are: naevus"):
        require_scans(specs, ("train",), source.stream, tmp_path)
    write_scans(tmp_path / "site-1" / "own", ["melanoma"], 3)
    require_scans(specs, ("train",), source.stream, tmp_path)


def test_files_that_are_no_scans_stop_a_hospital_or_are_left_out(tmp_path, caplog):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    (tmp_path / "own" / "naevus" / "MUSTERMANN.png").write_bytes(b"x")
    with pytest.raises(DataError, match="1 of 41 files of 'own' are no scans to learn from") as caught:
        source_at(Place(tmp_path)).scans(registry_of(*SKIN), 0, "train")
    assert "MUSTERMANN" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    with caplog.at_level(logging.INFO, "braincl"):
        scans = source_at(Place(tmp_path), hospitals=1, bad_scans="skip").scans(registry_of(*SKIN), 0, "train")
    assert counted(scans) == [14, 14]
    assert "are left out" in caplog.text
    assert "MUSTERMANN" not in caplog.text


def test_a_finished_experiment_learns_a_diagnosis_that_one_hospital_has(tmp_path):
    state, data = tmp_path / "state", tmp_path / "data"
    config = tiny(state, data_root=str(data))
    run_locally(config)
    before = RunStore(state).tally("tiny").scans
    write_scans(data / "site-1" / "own", ["melanoma", "naevus"], 40)
    registry = add_task(state, "tiny", "skin", SKIN, data)
    assert [c.key for c in registry.tasks[-1].classes] == ["own/melanoma", "own/naevus"]
    changed = tiny(state, data_root=str(data), sleep_epochs=3, stream_train_per_class=50, selection_per_class=50)
    run_locally(changed)
    store = RunStore(state)
    scans = store.tally("tiny").scans
    assert np.array_equal(scans[: len(before), :, : before.shape[2]], before)
    assert scans[-1, :, -2:].tolist() == [[0, 0], [6, 6]]
    assert store.experiment("tiny").registry.tasks[-1].classes[0].code == "icd-10:c43.9"
    sleeps = [s for s in store.steps("tiny") if s.task == len(registry.tasks) - 1 and s.phase == "sleep"]
    assert all(set(s.hospitals) == {"site-0", "site-1"} and not s.missing for s in sleeps)
    with_scans = local_hospitals(changed)[1]
    assert len(with_scans.recalled(len(registry.tasks) - 1)) == 56
    with pytest.raises(ConfigError, match="between two tasks"):
        run_locally(tiny(state, data_root=str(data), memory_step=0.9))


def test_a_task_of_a_single_new_class(tmp_path):
    state, data = tmp_path / "state", tmp_path / "data"
    run_locally(tiny(state, data_root=str(data)))
    write_scans(data / "own", ["naevus"], 20)
    add_task(state, "tiny", "naevi", ["own/naevus"], data)
    run_locally(tiny(state, data_root=str(data)))
    assert RunStore(state).tally("tiny").scans[-1].sum(0)[-1] == 4


def test_a_hospitals_refusal_names_no_file(tmp_path):
    state, data = tmp_path / "state", tmp_path / "data"
    run_locally(tiny(state, data_root=str(data)))
    write_scans(data / "own", ["naevus"], 20)
    (data / "own" / "naevus" / "MUSTERMANN.png").write_bytes(b"x")
    add_task(state, "tiny", "naevi", ["own/naevus"], data)
    with pytest.raises(
        FederationError, match=r"site-0: 1 of 21 files of 'own' are no scans .*not a picture"
    ) as caught:
        run_locally(tiny(state, data_root=str(data)))
    assert "MUSTERMANN" not in str(caught.value)


def test_a_cache_holds_pixels_until_the_training_scans_are_read(tmp_path, monkeypatch):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    place, notes = Place(tmp_path, notes=tmp_path / "notes"), tmp_path / "notes"
    cached = source_at(place, hospitals=1, cache=True, size=36)
    seen, opened, put = [], [], Cache.put
    read = index.read_file
    monkeypatch.setattr(index, "read_file", lambda path, frame: opened.append(path) or read(path, frame))
    monkeypatch.setattr(own, "read_scan", lambda *_: pytest.fail("a scan was decoded twice"))

    def watched(self, rows):
        put(self, rows)
        seen.append(self.path.stat().st_mode & 0o777)

    monkeypatch.setattr(Cache, "put", watched)
    train = cached.scans(registry_of(*SKIN), 0, "train")
    assert len(opened) == 40
    assert set(seen) == {0o600}
    assert not list(notes.glob("*.pixels*"))
    monkeypatch.undo()
    again = source_at(Place(tmp_path), hospitals=1, size=36).scans(registry_of(*SKIN), 0, "train")
    assert np.array_equal(train.images, again.images)
    assert train.images.shape[1:] == (36, 36, 3)


def test_no_cache_outlives_a_refusal_a_kill_or_an_evaluation(tmp_path, monkeypatch):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    place, notes = Place(tmp_path, notes=tmp_path / "notes"), tmp_path / "notes"
    notes.mkdir()
    for split in ("test", "train"):
        (notes / "own-64-crop.pixels").write_bytes(b"of a run that was killed")
        source_at(place, hospitals=1, cache=split == "test").scans(registry_of(*SKIN), 0, split)
        assert not list(notes.glob("*.pixels*"))
    (tmp_path / "own" / "naevus" / "more.png").write_bytes(b"x")
    with pytest.raises(DataError, match="1 of 41 files"):
        source_at(place, hospitals=1, cache=True).scans(registry_of(*SKIN), 0, "train")
    assert not list(notes.glob("*.pixels*"))


def test_a_scan_is_padded_or_cropped(tmp_path):
    write_scans(tmp_path / "own", ["naevus"], 5)
    padded, cropped = (
        source_at(Place(tmp_path), hospitals=1, fit=fit).scans(registry_of("own/naevus"), 0, "train").images
        for fit in ("pad", "crop")
    )
    assert not padded[:, :3].any()
    assert not padded[:, -3:].any()
    assert padded[:, 10:15].any()
    assert cropped[:, :3].any()


@pytest.mark.parametrize("becomes", ["another picture", "no picture"])
def test_a_scan_that_changes_between_look_and_reading_is_not_learned(tmp_path, monkeypatch, becomes):
    write_scans(tmp_path / "own", ["naevus"])
    read = own.read_scan

    def late(path, *how):
        if becomes == "no picture":
            path.write_bytes(b"x")
            return read(path, *how)
        pixels = read(path, *how)
        Image.fromarray(pixels).save(path)
        return pixels

    monkeypatch.setattr(own, "read_scan", late)
    with pytest.raises(DataError, match="a scan of 'own' has changed since it was looked into"):
        source_at(Place(tmp_path), hospitals=1).scans(registry_of("own/naevus"), 0, "train")


def test_labels_and_scans_are_of_one_look(tmp_path, monkeypatch):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    source = source_at(Place(tmp_path, notes=tmp_path / "notes"), hospitals=1)
    before = source.scans(registry_of(*SKIN), 0, "train")
    shares = ScanSource._share

    def late(self, *rest):
        (tmp_path / "own" / "melanoma" / "0.png").unlink(missing_ok=True)
        return shares(self, *rest)

    tested = source.scans(registry_of(*SKIN), 0, "test")
    monkeypatch.setattr(ScanSource, "_share", late)
    with contextlib.suppress(DataError):
        after = source.scans(registry_of(*SKIN), 0, "train")
        known = {i.tobytes(): n for i, n in zip(before.images, before.labels, strict=True)}
        assert all(known[i.tobytes()] == n for i, n in zip(after.images, after.labels, strict=True))
    assert len(tested) == 8


@pytest.mark.parametrize("folders", [["site-2/own"], ["site-0/own", "site-1/own"]])
def test_a_task_that_nobody_can_train_is_refused_and_can_be_mended(tmp_path, folders):
    state, data = tmp_path / "state", tmp_path / "data"
    config = tiny(state, data_root=str(data))
    run_locally(config)
    for folder in folders:
        write_scans(data / folder, ["naevus"], 4, seed=len(folder) + ord(folder[5]))
        names = [path.relative_to(data / folder).as_posix() for path in (data / folder).rglob("*.png")]
        (data / folder / "manifest.csv").write_text(
            "path,label,split\n" + "\n".join(f"{name},naevus,test" for name in names)
        )
    if folders == ["site-2/own"]:
        with pytest.raises(DataError, match=r"'site-2/own' belongs to no hospital: .* site-0 to site-1"):
            add_task(state, "tiny", "naevi", ["own/naevus"], data)
    add_task(state, "tiny", "naevi", ["own/naevus"], data, look=False)
    with pytest.raises(FederationError, match=r"no hospital has a training scan of it: .*tasks remove tiny naevi"):
        run_locally(config)
    shutil.rmtree(data / "site-2", ignore_errors=True)
    for folder in ("site-0/own", "site-1/own"):
        shutil.rmtree(data / folder, ignore_errors=True)
        write_scans(data / folder, ["naevus"], 8, seed=9 + ord(folder[5]))
    run_locally(config)
    assert RunStore(state).experiment("tiny").status == "finished"


def test_settings_do_not_change_once_a_hospital_has_encoded(tmp_path):
    state, data = tmp_path / "state", tmp_path / "data"
    run_locally(tiny(state, data_root=str(data)))
    write_scans(data / "site-0" / "own", ["naevus"], 20)
    write_scans(data / "site-1" / "own", ["naevus"], 20, seed=1)
    (data / "site-1" / "own" / "naevus" / "bad.png").write_bytes(b"x")
    add_task(state, "tiny", "naevi", ["own/naevus"], data)
    with pytest.raises(FederationError, match="site-1: 1 of 21 files"):
        run_locally(tiny(state, data_root=str(data)))
    with pytest.raises(ConfigError, match="stream-fit was 'pad', is 'crop'"):
        run_locally(tiny(state, data_root=str(data), stream_fit="crop"))
    run_locally(tiny(state, data_root=str(data), stream_bad_scans="skip"))


def test_codes_and_names_of_one_set_are_unique(tmp_path):
    for one, other in (
        ("own/melanoma@icd-10:C43.9", "own/c43.9"),
        ("own/melanoma@icd-10:C43.9", "own/naevus@icd-10:c43.9"),
    ):
        with pytest.raises(ValueError, match="are one class"):
            registry_of(one, other)
        with pytest.raises(ConfigError, match="would be one class"):
            registry_of(one).with_task(TaskSpec(name="more", classes=(parse_class(other),)))
    registry_of("own/melanoma@icd-10:C43.9", "own-skin/naevus@icd-10:c43.9")
    write_scans(tmp_path / "own", ["icd-10:C43.9"])
    scans = source_at(Place(tmp_path), hospitals=1).scans(registry_of("own/melanoma@icd-10:C43.9"), 0, "train")
    assert len(scans) == 14, "a folder may bear the code with its system"


@pytest.mark.parametrize(
    "told",
    [
        {"label": 3},
        {"label": "Melanoma"},
        {"label": True},
        {"label": 3.0},
        {"code": "x:naevus"},
        {"code": "ICD-10:C43"},
        {"dataset": "bloodmnist"},
    ],
)
def test_a_class_that_is_not_spelt_as_its_set_wants_is_refused(told):
    spec = {"dataset": "own", "label": "melanoma", "name": "own: melanoma", "code": "icd-10:c43.9"}
    ClassSpec.model_validate(spec)
    with pytest.raises(ValueError, match="validation error"):
        ClassSpec.model_validate({**spec, **told})
