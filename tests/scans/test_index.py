import os
import sqlite3
import unicodedata
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from braincl_med.foundation.errors import DataError, LockedError, VaultError
from braincl_med.scans import index as index_module
from braincl_med.scans.index import Index
from braincl_med.scans.listing import list_scans
from braincl_med.scans.refusals import Kind
from braincl_med.scans.splits import TAUGHT

from .pictures import picture, write


def look(folder, notes=None, seed=0, name="own"):
    with Index(notes) as index:
        return index.look_through(name, list_scans(folder), seed)


def splits(found):
    return {scan.entry.name: scan.split for scan in found.scans}


@pytest.fixture
def folder(tmp_path):
    for seed in range(40):
        write(tmp_path / "own" / ("naevus" if seed % 2 else "melanoma") / f"{seed:02}.png", seed)
    return tmp_path / "own"


def test_splits_are_stratified_seeded_and_stay_when_scans_are_added(folder, tmp_path):
    notes = tmp_path / "notes.sqlite"
    first = look(folder, notes)
    counts = Counter((scan.entry.label, scan.split) for scan in first.scans)
    assert counts == {
        (label, split): n for label in ("melanoma", "naevus") for split, n in (("train", 14), ("test", 4), ("val", 2))
    }
    assert splits(look(folder)) == splits(first), "the salt decides nothing"
    assert splits(look(folder, seed=1)) != splits(first)
    for seed in range(40, 50):
        write(folder / "naevus" / f"0{seed}.png", seed)  # listed before those that were there
    again = look(folder, notes)
    assert splits(first).items() <= splits(again).items()
    assert Counter(s.split for s in again.scans if s.entry.label == "naevus") == {"train": 21, "test": 6, "val": 3}
    assert [s.entry.name for s in again.scans][:40] == [s.entry.name for s in first.scans], "positions stay"


def test_a_patient_lies_in_one_split_and_is_kept_as_a_salted_hash(folder, tmp_path):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{name},{name.partition('/')[0]},MUSTERMANN^{i % 9}" for i, name in enumerate(names)]
    (folder / "manifest.csv").write_text("path,label,patient\n" + "\n".join(rows))
    found = look(folder, tmp_path / "notes.sqlite")
    by_patient = {}
    for scan in found.scans:
        by_patient.setdefault(scan.entry.patient, set()).add(scan.split)
    assert len(by_patient) == 9
    assert all(len(held) == 1 for held in by_patient.values())
    assert {s.split for s in found.scans} == {"train", "val", "test"}
    written = (tmp_path / "notes.sqlite").read_bytes()
    assert b"MUSTERMANN" not in written
    assert b".png" not in written
    assert (tmp_path / "notes.sqlite").stat().st_mode & 0o777 == 0o600


def test_a_manifests_split_is_kept_and_cannot_be_changed_later(folder, tmp_path):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))

    def say(split):
        (folder / "manifest.csv").write_text(
            "path,label,split\n" + "\n".join(f"{n},naevus,{split(n)}" for n in names)
        )
        return look(folder, tmp_path / "notes.sqlite")

    found = say(lambda name: "train" if name == names[0] else "")
    assert splits(found)[names[0]] == "train"
    assert Counter(splits(found).values()) == {"train": 28, "test": 8, "val": 4}
    with pytest.raises(DataError, match="moves 1 patients or scans towards test"):
        say(lambda name: "test" if name == names[0] else "")
    tested = next(name for name, split in splits(found).items() if split == "test")
    found = say(lambda name: "train" if name == tested else "")
    assert splits(found)[tested] == "train", "what tested may train"


def test_what_trained_never_tests_whatever_becomes_of_its_name_class_patient_or_set(folder, tmp_path):
    notes = tmp_path / "notes"
    first = look(folder, notes)
    by_content = {(folder / s.entry.name).read_bytes(): s.split for s in first.scans}

    def leaks(found, place):
        pairs = [(by_content[(place / s.entry.name).read_bytes()], s.split) for s in found.scans]
        assert len(pairs) == 40
        return [(was, now) for was, now in pairs if TAUGHT.index(now) > TAUGHT.index(was)]

    for path in list(folder.rglob("*.png")):
        path.rename(path.with_name(f"renamed-{path.name}"))
    assert not leaks(look(folder, notes), folder)
    assert not leaks(look(folder, notes, name="own-other"), folder)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    rows = [f"{name},Other,{'Pp'[i % 2]}{i // 4}" for i, name in enumerate(names)]
    (folder / "manifest.csv").write_text("path,label,patient\n" + "\n".join(rows))
    found = look(folder, notes)
    assert not leaks(found, folder)
    by_patient = {}
    for scan in found.scans:
        by_patient.setdefault(scan.entry.patient.casefold(), set()).add(scan.split)
    assert len(by_patient) == 10
    assert all(len(held) == 1 for held in by_patient.values())
    (folder / "manifest.csv").unlink()
    assert not leaks(look(folder, notes), folder)


def test_a_manifest_that_tears_a_patient_apart_is_refused(folder):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))[:2]
    rows = [f"{name},naevus,p,{split}" for name, split in zip(names, ("train", "test"), strict=True)]
    (folder / "manifest.csv").write_text("path,label,patient,split\n" + "\n".join(rows))
    with pytest.raises(DataError, match="one patient into two splits"):
        look(folder)


def test_duplicates_within_a_class_across_classes_and_across_splits(folder):
    write(folder / "naevus" / "copy.png", 1)
    write(folder / "melanoma" / "copy.tiff", 3)
    found = look(folder)
    refused = {r.entry.name: (r.error.kind, r.error.reason) for r in found.refused}
    assert refused.keys() == {"naevus/copy.png", "melanoma/copy.tiff", "naevus/03.png"}
    assert {kind for kind, _ in refused.values()} == {Kind.DUPLICATE}
    assert "another class" in refused["naevus/03.png"][1]
    names = ["naevus/01.png", "naevus/copy.png", "naevus/05.png"]
    rows = [f"{name},naevus,{split}" for name, split in zip(names, ("train", "test", "train"), strict=True)]
    (folder / "manifest.csv").write_text("path,label,split\n" + "\n".join([*rows, rows[2]]))
    found = look(folder)
    assert [(r.entry.name, r.error.reason) for r in found.refused] == [
        ("naevus/01.png", "the same picture is said to belong into another split too"),
        ("naevus/copy.png", "the same picture is said to belong into another split too"),
        ("naevus/05.png", "it is listed twice"),
    ]


def test_only_new_and_changed_files_are_opened_and_a_killed_look_goes_on(folder, tmp_path, monkeypatch):
    opened = []

    def counted(path, frame):
        opened.append(path.name)
        if len(opened) == 30:
            raise KeyboardInterrupt
        return read(path, frame)

    read = index_module.read_file
    monkeypatch.setattr(index_module, "read_file", counted)
    monkeypatch.setattr(index_module, "AT_ONCE", 8)
    with pytest.raises(KeyboardInterrupt):
        look(folder, tmp_path / "notes")
    before = len(opened)
    found = look(folder, tmp_path / "notes")
    assert len(opened) - before <= 40 - 16, "what was written before the kill is not opened again"
    assert splits(found) == splits(look(folder))
    opened.clear()
    opened += ["past the kill"] * 30
    write(folder / "naevus" / "01.png", 99)
    look(folder, tmp_path / "notes")
    assert opened[30:] == ["01.png"]


def test_what_is_no_scan_is_counted_and_looked_into_again_once_mended(folder, tmp_path):
    notes = tmp_path / "notes"
    bad = folder / "naevus" / "bad.png"
    bad.write_bytes(b"not a picture")
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(folder / "naevus" / "black.png")
    for _ in range(2):
        assert look(folder, notes).kinds() == {Kind.NOT_A_PICTURE: 1, Kind.BLANK: 1}
    write(bad, 77)
    found = look(folder, notes)
    assert found.kinds() == {Kind.BLANK: 1}
    assert "naevus/bad.png" in splits(found)


def test_notes_of_another_kind_or_version_are_refused(tmp_path):
    path = tmp_path / "own.sqlite"
    path.write_bytes(b"no database, and long enough to be looked at" * 99)
    with pytest.raises(DataError, match="holds the splits"):
        Index(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DataError, match="version 99"):
        Index(path)


def test_a_name_that_is_no_text_is_a_name_like_any_other(folder, tmp_path):
    os.rename(folder / "naevus" / "01.png", os.fsencode(folder / "naevus") + b"/M\xfcller.png")
    found = look(folder, tmp_path / "notes")
    assert len(found.scans) == 40
    assert look(folder, tmp_path / "notes").scans == found.scans


def test_spellings_of_one_patient_and_pictures_of_one_file_stay_together(folder, tmp_path):
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    spellings = ["MÜLLER 1", unicodedata.normalize("NFD", "Müller 1"), "müller  1", " Müller 1 "]
    rows = [f"{name},naevus,{spellings[i % 4] if i < 20 else ''}" for i, name in enumerate(names)]
    (folder / "manifest.csv").write_text("path,label,patient\n" + "\n".join(rows))
    found = look(folder, tmp_path / "notes")
    assert len({scan.patient for scan in found.scans if scan.entry.patient}) == 1
    pages = [Image.fromarray(picture(100 + page)) for page in range(12)]
    pages[0].save(folder / "film.tiff", save_all=True, append_images=pages[1:])
    (folder / "manifest.csv").write_text("path,label,frame\n" + "\n".join(f"film.tiff,naevus,{n}" for n in range(12)))
    found = look(folder, tmp_path / "notes")
    assert len(found.scans) == 12
    assert len({scan.split for scan in found.scans}) == 1


def test_many_looks_at_once_find_the_same(folder, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        for round_ in range(5):
            notes = tmp_path / f"notes-{round_}"
            found = list(pool.map(lambda _, notes=notes: look(folder, notes), range(4)))
            assert len({tuple(sorted(splits(one).items())) for one in found}) == 1
            assert splits(found[0]) == splits(look(folder))


@pytest.mark.parametrize(
    ("kind", "error"), [("SQLITE_BUSY", LockedError), ("SQLITE_FULL", VaultError), ("SQLITE_CORRUPT", DataError)]
)
def test_what_the_disk_or_another_look_refuses_is_told_from_damage(folder, monkeypatch, kind, error):
    with Index(None) as index:
        failure = sqlite3.OperationalError("unlucky")
        failure.sqlite_errorname = kind
        monkeypatch.setattr(index, "_known", lambda: (_ for _ in ()).throw(failure))
        with pytest.raises(error), index._complaining():
            index.look_through("own", list_scans(folder), 0)


@pytest.mark.skipif(os.getuid() == 0, reason="root may look into every folder")
def test_a_closed_folder_is_refused_and_not_left_out(folder):
    (folder / "naevus").chmod(0)
    assert look(folder).kinds() == {Kind.MISSING: 1}
    (folder / "naevus").chmod(0o700)
