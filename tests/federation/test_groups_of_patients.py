"""Groups of patients on their way from a manifest's columns to a report of an examination."""

import numpy as np
import pytest
from fairlearn.metrics import MetricFrame
from sklearn.metrics import accuracy_score

import tests.small_backbone  # noqa: F401
from braincl_med.evaluation.verdict import Limits
from braincl_med.federation.examine import examine, examined_config
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.page import markdown
from braincl_med.methods.examine import patients_of
from braincl_med.methods.judge import few
from braincl_med.records.examined import derived, examined
from braincl_med.records.report import report
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.place import Place
from braincl_med.streams.tasks import Scans
from tests.evaluation.test_examination import told as told_by_a_hospital
from tests.federation.test_own_scans import SKIN as CLASSES
from tests.federation.test_own_scans import registry_of, source_at, write_scans

SKIN = """
name: tiny
stream:
  name: tasks
  tasks: [{name: skin, classes: [own/melanoma, own/naevus]}]
federation: {hospitals: 2, wait-seconds: 30}
memory: {components: 6, step: 1.0, guidance: 0}
cortex: {network: small, stem: imagenet}
wake: {epochs: 1}
sleep: {rounds: 1, epochs: 1}
"""


def counted(*sexes, smallest=5):
    groups = np.empty(len(sexes), np.object_)
    groups[:] = [(f"sex: {sex}",) if sex else () for sex in sexes]
    scans = Scans(np.zeros((len(sexes), 4, 4, 3), np.uint8), np.zeros(len(sexes), np.int64), groups=groups)
    told = patients_of(scans, np.ones(len(sexes), bool), smallest)
    return {name.removeprefix("sex: "): group.scans for name, group in told.items()}


def test_no_group_of_few_scans_is_told_nor_follows_from_the_sum():
    assert counted(*["female"] * 9, *["male"] * 6) == {"female": 9, "male": 6}
    assert counted(*["female"] * 9, *["male"] * 6, "other") == {"female": 9}, "else the one of others follows"
    assert counted(*["female"] * 9, *["male"] * 4) == {}
    assert counted(*["female"] * 9, *[""] * 5) == {"female": 9}
    assert counted(*["female"] * 9, *["male"] * 4, smallest=4) == {"female": 9, "male": 4}


def test_an_examination_tells_of_the_groups_that_a_manifest_names(tmp_path):
    state, folder = tmp_path / "state", tmp_path / "data" / "site-0" / "own"
    write_scans(folder, ["melanoma", "naevus"], 14)
    rows = [
        f"{label}/{n}.png,{label},{'test' if n < 8 else 'train'},47,{'FM'[n % 2]},{'rare' if n == 0 else 'Scope 3'}"
        for label in ("melanoma", "naevus")
        for n in range(14)
    ]
    (folder / "manifest.csv").write_text("path,label,split,age,sex,device\n" + "\n".join(rows))
    config = load_experiment(SKIN, {"state-root": str(state), "data-root": str(tmp_path / "data")})
    run_locally(config)
    examine(
        examined_config(state, "tiny", data_root=str(tmp_path / "data")),
        lambda here: local_exchange(local_hospitals(here)),
    )
    store = RunStore(state)
    found = examined(store, "tiny")
    assert [(one.kind, one.group, one.scans) for one in found.patients] == [
        ("age", "40 to 59", 16),
        ("sex", "female", 8),
        ("sex", "male", 8),
    ], "two scans are of a rare device, and would follow from those of the other"
    assert "sex female: " in markdown(report(store, "tiny", Limits()))


def test_groups_of_patients_go_with_the_scans_that_are_evaluated(tmp_path):
    write_scans(tmp_path / "own", ["melanoma", "naevus"])
    ages = {"melanoma": 30, "naevus": 70}
    rows = [
        f"{label}/{n}.png,{label},{'train' if n % 2 else 'test'},{age}"
        for label, age in ages.items()
        for n in range(20)
    ]
    (tmp_path / "own" / "manifest.csv").write_text("path,label,split,age\n" + "\n".join(rows))
    source = source_at(Place(tmp_path), hospitals=1)
    scans = source.scans(registry_of(*CLASSES), 0, "test")
    told = {0: ("age: 18 to 39",), 1: ("age: 60 to 79",)}
    assert scans.groups.tolist() == [told[label] for label in scans.labels.tolist()]
    known = few(Scans.join([scans, Scans.none(28)]), 4)
    assert known.groups.tolist() == [told[label] for label in known.labels.tolist()]
    assert len(known) == 8
    assert source.scans(registry_of(*CLASSES), 0, "train").groups is None


@pytest.mark.parametrize("seed", range(4))
def test_shares_and_gaps_of_groups_are_those_of_fairlearn(seed):
    random = np.random.default_rng(seed)
    sex, right = random.choice(["female", "male", "other"], 60), random.random(60) < 0.6
    groups = np.empty(60, np.object_)
    groups[:] = [(f"sex: {one}", "device: rare") if n < 4 else (f"sex: {one}",) for n, one in enumerate(sex)]
    scans = Scans(np.zeros((60, 4, 4, 3), np.uint8), np.zeros(60, np.int64), groups=groups)
    counts = patients_of(scans, right, smallest=5)
    assert set(counts) == {f"sex: {one}" for one in np.unique(sex)}, "4 scans of a device are too few"
    whole = told_by_a_hospital().model_copy(update={"patients": counts})
    found = derived("x", 0, "", {"a": whole, "b": whole})
    frame = MetricFrame(metrics=accuracy_score, y_true=np.ones(60), y_pred=right, sensitive_features=sex)
    assert {one.group: one.share for one in found.patients} == pytest.approx(frame.by_group.to_dict(), abs=1e-6)
    assert [one.scans for one in found.patients] == [2 * counts[f"sex: {one}"].scans for one in np.unique(sex)]
    assert found.gaps() == {"sex": pytest.approx(frame.difference(), abs=1e-6)}
