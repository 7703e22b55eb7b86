import contextlib
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braincl_med.foundation.errors import DataError
from braincl_med.foundation.groups import NAME
from braincl_med.scans.listing import list_scans
from braincl_med.scans.manifest import Row, rows_of
from braincl_med.scans.refusals import Kind

from .pictures import write


def listed(folder):
    return {e.name: (e.label, e.refused and e.refused.kind) for e in list_scans(folder)}


def test_a_folder_names_the_class_of_all_that_lies_below_it(tmp_path):
    for name in ("Basal_Cell carcinoma/2.png", "Basal_Cell carcinoma/ward 3/1.png", "naevus/1.PNG"):
        write(tmp_path / name)
    for name in (".DS_Store", "naevus/Thumbs.db", ".hidden/x.png", "DICOMDIR"):
        write(tmp_path / "naevus" / "1.PNG")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert listed(tmp_path) == {
        "Basal_Cell carcinoma/2.png": ("basal-cell-carcinoma", None),
        "Basal_Cell carcinoma/ward 3/1.png": ("basal-cell-carcinoma", None),
        "naevus/1.PNG": ("naevus", None),
    }


def test_what_cannot_be_placed_or_named_is_refused_without_a_look(tmp_path):
    folder = tmp_path / "own"
    outside = write(tmp_path / "outside.png")
    write(folder / "loose.png")
    write(folder / "na|evus" / "1.png")
    inside = write(folder / "naevus" / "1.png")
    (folder / "naevus" / "2.png").symlink_to(outside)
    (folder / "naevus" / "3.png").symlink_to(inside)
    (folder / "naevus" / "4.png").symlink_to(folder / "naevus" / "4.png")
    (folder / "naevus" / "5").symlink_to(tmp_path)
    (folder / "naevus" / "6").symlink_to(folder / "naevus")
    os.mkfifo(folder / "naevus" / "7")
    kinds = {name: kind for name, (_, kind) in listed(folder).items()}
    assert kinds == {
        "loose.png": Kind.LABEL_MISSING,
        "na|evus/1.png": Kind.LABEL_UNKNOWN,
        "naevus/1.png": None,
        "naevus/2.png": Kind.OUTSIDE,
        "naevus/3.png": None,
        "naevus/4.png": Kind.MISSING,
        "naevus/5": Kind.OUTSIDE,
        "naevus/6": Kind.NOT_A_PICTURE,
        "naevus/7": Kind.NOT_A_PICTURE,
    }


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_manifests_of_all_spreadsheets(tmp_path, separator, end, mark):
    lines = [
        "Path,Label,ward,patient,split,frame",
        'a.png,"naevus, blue",3,p1,validation,',
        "b.tif,Melanoma,4,,,2",
        "",
    ]
    text = mark + end.join(
        line.replace(", blue", "\0").replace(",", separator).replace("\0", ", blue") for line in lines
    )
    (tmp_path / "manifest.csv").write_text(text, newline="")
    assert list(rows_of(tmp_path / "manifest.csv")) == [
        Row("a.png", "naevus, blue", "p1", "val"),
        Row("b.tif", "Melanoma", frame=2),
    ]


def test_a_manifest_says_what_a_file_is_and_paths_stay_in_its_folder(tmp_path):
    folder = tmp_path / "own"
    write(tmp_path / "outside.png")
    write(folder / "1.png")
    rows = [
        "1.png,naevus",
        "2.png,naevus",
        "../outside.png,naevus",
        f"{tmp_path}/outside.png,naevus",
        "1.png,",
        "1.png,a/b",
    ]
    (folder / "manifest.csv").write_text("path,label\n" + "\n".join(rows))
    kinds = [e.refused and e.refused.kind for e in list_scans(folder)]
    assert kinds == [None, Kind.MISSING, Kind.OUTSIDE, Kind.OUTSIDE, Kind.LABEL_MISSING, Kind.LABEL_UNKNOWN]


def test_a_manifest_says_to_which_groups_of_patients_a_scan_belongs(tmp_path):
    lines = ["path,label,AGE,sex,device", "a.png,x,64,F,Scanner A", "b.png,x,17,,", "c.png,x,80,male,"]
    lines += ["d.png,x,60.0,Unknown,n/a", "e.png,x,?,-,unknown"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    assert [row.groups for row in rows_of(tmp_path / "manifest.csv")] == [
        ("age: 60 to 79", "sex: female", "device: scanner a"),
        ("age: 0 to 17",),
        ("age: 80 and above", "sex: male"),
        ("age: 60 to 79",),
        (),
    ]
    assert [entry.groups for entry in list_scans(tmp_path)][1] == ("age: 0 to 17",)
    assert all(re.fullmatch(NAME, group) for row in rows_of(tmp_path / "manifest.csv") for group in row.groups)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"path,label,age\na.png,x,1961-03-04", "line 2, has an unknown age, expected a number of years"),
        (b"path,label,age\na.png,x,131", "line 2, has an unknown age"),
        (b"path,label,age\na.png,x,-5", "line 2, has an unknown age"),
        (b"path,label,age\na.png,x,5.", "line 2, has an unknown age"),
        (b"path,label,sex\na.png,x,maybe", "line 2, has an unknown sex, expected female, male or other"),
        (b"path,label,device\na.png,x,=1+1", "line 2, has an unknown device"),
        (b"path\na.png", "no column 'label'"),
        (b"", "no column 'path'"),
        (b"path,label,path\n", "two columns 'path'"),
        (b"path,label\na.png\n", "line 2, has 1 fields"),
        (b"path,label\na.png,x\n,y\n", "line 3, names no file"),
        (b"path,label,split\na.png,x,maybe\n", "line 2, has an unknown split"),
        (b"path,label,frame\na.png,x,-1\n", "line 2, has a frame that is no number"),
        (b"path,label,frame\na.png,x,1e9\n", "line 2, has a frame that is no number"),
        (b'path,label\n"a.png,x\n', "line 2"),
        (b"path,label\nna\xefve.png,x\n", "not UTF-8"),
        (b"path,label\n" + b"a" * 70_000 + b",x\n", "a line of more than 65,536 characters"),
        (b"path,label\n" + b"a" * 2000 + b",x\n", "a text of more than 1,024 characters"),
    ],
)
def test_a_manifest_that_is_none_is_refused_with_its_line(tmp_path, text, said):
    (tmp_path / "manifest.csv").write_bytes(text)
    with pytest.raises(DataError, match=said) as caught:
        list(rows_of(tmp_path / "manifest.csv"))
    assert "maybe" not in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@given(st.binary(max_size=200), st.sampled_from([b"", b"path,label\n", b"path;label;patient;split;frame\n"]))
def test_any_bytes_are_rows_or_refused(tmp_path_factory, text, head):
    path = tmp_path_factory.getbasetemp() / "manifest.csv"
    path.write_bytes(head + text)
    with contextlib.suppress(DataError):
        assert all(row.path for row in rows_of(path))
