"""Groups of patients on their way from a manifest's columns to a report of an examination."""

import numpy as np

import tests.small_backbone  # noqa: F401
from braincl_med.evaluation.verdict import Limits
from braincl_med.federation.examine import examine, examined_config
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.foundation.page import markdown
from braincl_med.methods.examine import patients_of
from braincl_med.records.examined import examined
from braincl_med.records.report import report
from braincl_med.records.store import RunStore
from braincl_med.settings.loading import load_experiment
from braincl_med.streams.tasks import Scans
from tests.federation.test_own_scans import write_scans

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
