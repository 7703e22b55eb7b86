"""A federation under differential privacy: what leaves, who is stopped, what a repeated order is answered with."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save
from typer.testing import CliRunner

from apps.cli.main import app
from braincl_med.cortex.cortex import apart
from braincl_med.dp.statistics import COUNTS, RELEASES, STATISTICS, statistics
from braincl_med.federation.checkpoint import folder_of, load_checkpoint, load_weights
from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.local import local_exchange, local_hospitals, run_locally
from braincl_med.federation.rollback import go_back
from braincl_med.foundation.errors import ConfigError
from braincl_med.inference.answer import answers
from braincl_med.inference.network import Network
from braincl_med.inference.opening import opened
from braincl_med.memory.module import complete
from braincl_med.messages.order import Order
from braincl_med.methods import METHODS
from braincl_med.methods.phase import NOTHING, WEIGHTS, Phase
from braincl_med.methods.private import digest_of
from braincl_med.phases.known_start import known_start
from braincl_med.privacy.audit import audit
from braincl_med.privacy.shared import known_of
from braincl_med.records.schema import TOGETHER
from braincl_med.records.store import RunStore
from braincl_med.streams.named import build_registry
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.streams.tasks import Scans
from braincl_med.vault.refit import FEWEST_LEFT
from tests.federation.experiments import TINY, tiny

STATISTICAL = {
    "cortex_features": 8,
    "privacy_mode": "statistics",
    "stream_train_per_class": 40,
    "privacy_epsilon": 50,
}
UPDATING = {
    "privacy_mode": "updates",
    "cortex_norm": "group",
    "memory_basis": "fixed",
    "selection_rule": "random",
    "privacy_epsilon": 50,
    "sleep_rounds": 1,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A known start from phantoms of another seed."""
    path = tmp_path_factory.mktemp("start") / "public.safetensors"
    config = tiny(path.parent, cortex_features=8, sleep_epochs=6, sleep_rounds=1, seed=9)
    registry, source = build_registry(config.stream, 9), ScanSource(config.stream, Place(None), 9, 0, 1)
    public = Scans.join(source.scans(registry, task, "train") for task in range(3))
    path.write_bytes(save(known_start(config, public)))
    return str(path)


@pytest.fixture
def statistical(tmp_path, start):
    return tiny(tmp_path, cortex_weights=start, stream_task_count=2, **STATISTICAL)


def listened(config, told, spoil=lambda order, report: report):
    exchange = local_exchange(local_hospitals(config))

    def listening(order):
        reports = [spoil(order, report) for report in exchange(order)]
        told.extend((order.phase, report) for report in reports)
        return reports

    return Coordinator(config, listening)


def test_nothing_leaves_but_noisy_sums_and_noisy_counts(statistical, tmp_path):
    told = []
    listened(statistical, told).run()
    assert [phase for phase, _ in told] == ["release", "release", "evaluate", "evaluate"] * 2
    for phase, report in told:
        assert report.loss is None
        if phase == "release":
            assert set(report.weights) == set(STATISTICAL_NAMES)
            assert set(report.figures) == {"epsilon"}
        else:
            assert not report.weights
            assert report.figures["scores"] == {}
            assert report.figures["storage"] == {}
            assert any(n < 0 for row in report.figures["confusion"] for n in row), "with this noise some are"
    assert RunStore(tmp_path).tally("tiny").hospitals == (TOGETHER,)
    assert [hospital.vault.load(1).records > 0 for hospital in local_hospitals(statistical)] == [True, True]


STATISTICAL_NAMES = statistics(torch.zeros(0, 8), torch.zeros(0), 2)


def test_the_release_is_the_sum_of_the_features_but_for_noise_of_the_size_that_was_entered(statistical):
    told = []
    listened(statistical, told).run()
    hospital = local_hospitals(statistical)[0]
    entry = hospital.ledger.entries()[0]
    report = told[0][1]
    shape = report.weights[COUNTS] * report.examples
    registry = build_registry(statistical.stream, statistical.seed)
    exact = np.bincount(hospital.raw(registry, 0).labels)
    error = (shape.numpy() - exact) / (entry.multiplier * 3**0.5)
    assert np.abs(error).max() < 4.5
    assert np.abs(error).max() > 0
    assert entry.classes == tuple(spec.key for spec in registry.tasks[0].classes)


def test_the_server_adds_up_all_tasks_and_says_so_in_its_checkpoint(statistical, tmp_path):
    run_locally(statistical)
    folder = folder_of(tmp_path, "tiny")
    weights = load_weights(folder, load_checkpoint(folder))
    _, sums = apart(weights, STATISTICS)
    assert float(sums[RELEASES]) == 4, "two hospitals, two tasks"
    assert len(sums[COUNTS]) == len(weights["classifier.bias"])
    scans = np.zeros((2, 28, 28, 3), np.uint8)
    model = opened("tiny", tmp_path)
    assert len(answers(Network.of(model), model, scans)) == 2, "and the network is used without them"
    assert known_of(tmp_path, "tiny").network is not None, "as an auditor attacks it"


def test_a_run_from_a_former_checkpoint_is_answered_by_the_same_numbers_and_spends_nothing(statistical, tmp_path):
    run_locally(statistical)
    spent, folder = local_hospitals(statistical)[0].ledger.epsilon(), folder_of(tmp_path, "tiny")
    network = load_checkpoint(folder).sha256
    assert "costs no privacy anew" in go_back(tmp_path, "tiny", "task-2")
    assert load_checkpoint(folder).sha256 != network
    run_locally(statistical)
    assert load_checkpoint(folder).sha256 == network
    assert local_hospitals(statistical)[0].ledger.epsilon() == spent


def test_the_same_experiment_run_afresh_is_answered_by_the_same_numbers_and_spends_nothing(statistical, tmp_path):
    first, second = [], []
    listened(statistical, first).run()
    spent = local_hospitals(statistical)[0].ledger.epsilon()
    shutil.rmtree(folder_of(tmp_path, "tiny"))
    (tmp_path / "runs.sqlite").unlink()
    listened(statistical, second).run()
    assert local_hospitals(statistical)[0].ledger.epsilon() == spent
    for (_, one), (_, other) in zip(first, second, strict=True):
        assert one.figures == other.figures
        assert all(torch.equal(tensor, other.weights[name]) for name, tensor in one.weights.items())


def test_noisy_sums_add_up_under_masks_to_what_they_are_without(tmp_path, start):
    found = []
    for masking in ("on", "off"):
        config = tiny(
            tmp_path, cortex_weights=start, stream_task_count=1, federation_hospitals=3, federation_masking=masking,
            **STATISTICAL,
        )  # fmt: skip
        run_locally(config)
        folder = folder_of(tmp_path, "tiny")
        _, sums = apart(load_weights(folder, load_checkpoint(folder)), STATISTICS)
        store = RunStore(tmp_path)
        found.append((sums, store.tally("tiny").hospitals, store.epsilon("tiny")))
        shutil.rmtree(folder)
        (tmp_path / "runs.sqlite").unlink()
    # The second release is answered by the numbers of the first, so only masks tell the two apart.
    (masked, hospitals, spent), (plain, _, _) = found
    assert float(masked[RELEASES]) == 3
    for name, tensor in plain.items():
        torch.testing.assert_close(masked[name], tensor, rtol=1e-9, atol=1e-6)
    assert hospitals == (TOGETHER,)
    assert spent > 0


def test_hospitals_that_share_noise_draw_less_of_it_spend_as_much_and_are_summed_under_masks_alone(
    tmp_path, start, monkeypatch
):
    monkeypatch.setattr("braincl_med.methods.private.secret_generator", lambda: np.random.default_rng(5))
    noise, spent = {}, {}
    for kind in ("each", "shared"):
        config = tiny(
            tmp_path / kind, cortex_weights=start, stream_task_count=1, federation_hospitals=5,
            federation_masking="on", federation_masking_threshold=5, privacy_noise=kind, **STATISTICAL,
        )  # fmt: skip
        run_locally(config)
        folder = folder_of(tmp_path / kind, "tiny")
        _, sums = apart(load_weights(folder, load_checkpoint(folder)), STATISTICS)
        hospitals, registry = local_hospitals(config), build_registry(config.stream, config.seed)
        exact = sum(np.bincount(one.raw(registry, 0).labels, minlength=2) for one in hospitals)
        noise[kind] = sums[COUNTS].numpy() - exact
        spent[kind] = [one.ledger.epsilon() for one in hospitals]
    np.testing.assert_allclose(noise["shared"], noise["each"] / 2, atol=1e-6)
    assert np.abs(noise["each"]).max() > 1
    assert spent["shared"] == spent["each"]


def test_under_other_settings_the_same_order_is_another_release(statistical, tmp_path):
    """An answer with more noise must not stand for one with less, nor the other way round."""
    run_locally(statistical)
    hospital = local_hospitals(statistical)[0]
    order = Order("tiny", 0, "release", 0, build_registry(statistical.stream, statistical.seed))
    louder = statistical.model_copy(update={"privacy": statistical.privacy.model_copy(update={"release_epsilon": 9})})
    assert digest_of(hospital, order) == digest_of(dataclasses.replace(hospital), order)
    assert digest_of(hospital, order) != digest_of(dataclasses.replace(hospital, config=louder), order)


def test_an_audit_accounts_for_the_ledger_and_nothing_else_beside_it(statistical, tmp_path):
    run_locally(statistical)
    report = audit([tmp_path / "site-0"], state=tmp_path)
    failed = [(c["check"], c["detail"]) for v in report["vaults"] for c in v["checks"] if not c["passed"]]
    assert failed == []
    (tmp_path / "site-0" / ".privacy" / "patients.txt").write_text("somebody")
    (vault, _) = audit([tmp_path / "site-0"], state=tmp_path)["vaults"]
    assert any("'.privacy/patients.txt' does not belong" in c["detail"] for c in vault["checks"])
    (tmp_path / "site-0" / ".privacy" / "patients.txt").unlink()
    scan = tmp_path / "site-0" / ".privacy" / "tiny.0123456789abcdef.release"
    scan.write_bytes(save({"scan": torch.zeros(28, 28, dtype=torch.uint8)}))
    (vault, _) = audit([tmp_path / "site-0"], state=tmp_path)["vaults"]
    assert any(f"'.privacy/{scan.name}' does not belong" in c["detail"] for c in vault["checks"])


@pytest.mark.parametrize(
    "basis", [{"memory_basis": "fixed"}, {"memory_basis": "public", "memory_public": "phantom-fundus"}]
)
def test_erasure_from_a_basis_that_the_tasks_scans_did_not_teach_leaves_it_as_it_is(tmp_path, basis):
    config = tiny(tmp_path, stream_task_count=1, sleep_enabled="false", memory_components=64, **basis)
    run_locally(config)
    vault = local_hospitals(config)[0].vault
    before = vault.load(0)
    assert before.version == 4
    assert before.shape.basis == {"fixed": "dct", "public": "public"}[basis["memory_basis"]]
    vault.erase(0, before.header.shards[0].dataset_label, [0])
    after = vault.load(0)
    assert after.records == before.records - 1 < FEWEST_LEFT
    label = before.header.shards[0].label
    recalls = [complete(file.network(), file.cues(label)) for file in (before, after)]
    assert np.array_equal(recalls[1], recalls[0][1:]), "nothing was fitted anew: there is nothing to undo"
    report = audit([vault.folder])
    assert [c["detail"] for c in report["vaults"][0]["checks"] if not c["passed"]] == []


def test_the_commands_make_a_start_and_print_a_ledger(tmp_path, start, statistical):
    run_locally(statistical)
    told = CliRunner().invoke(app, ["privacy", "ledger", str(tmp_path / "site-0")])
    assert told.exit_code == 0
    assert told.stdout.splitlines()[-1].startswith("ε = 2.000 at δ = 1e-05 over 4 releases")
    as_json = json.loads(CliRunner().invoke(app, ["privacy", "ledger", str(tmp_path / "site-0"), "--json"]).stdout)
    assert as_json["epsilon"] == pytest.approx(2, rel=1e-6)
    assert len(as_json["releases"]) == 4
    settings = tmp_path / "public.yaml"
    settings.write_text(TINY)
    keys = ["-c", "cortex-features=8", "-c", "seed=9", "-c", "sleep-epochs=2", "-c", "sleep-rounds=1"]
    made = CliRunner().invoke(app, ["start", str(settings), str(tmp_path / "out.safetensors"), *keys])
    assert made.exit_code == 0, made.output
    assert set(load_file(tmp_path / "out.safetensors")) == set(load_file(start))
    assert "learned from 108 public scans" in made.output
    refused = CliRunner().invoke(app, ["start", str(settings), str(tmp_path / "out.bin"), *keys])
    assert refused.exit_code == 1


def test_a_hospital_whose_ledger_is_full_is_left_out_and_the_federation_goes_on(statistical, tmp_path):
    config = statistical.model_copy(
        update={"federation": statistical.federation.model_copy(update={"hospitals": 3, "quorum": 1})}
    )
    hospitals = local_hospitals(config)
    hospitals[1] = dataclasses.replace(hospitals[1], allowance=0.5)
    Coordinator(config, local_exchange(hospitals)).run()
    steps = RunStore(tmp_path).steps("tiny")
    assert all(step.hospitals == ("site-0", "site-2") for step in steps)
    reason = steps[0].missing["site-1"]
    assert reason == (
        "release of task 1 was not released: it would bring ε from 0.00 to 2.00, this hospital allows 0.5 "
        "(privacy-epsilon)"
    )
    assert not hospitals[1].ledger.entries()
    assert hospitals[1].vault.entry(0) is None, "the scans are still there for another attempt"


def test_a_release_that_was_interrupted_counts(statistical, monkeypatch):
    hospital = local_hospitals(statistical)[0]
    told = []
    broken = listened(statistical, told)
    monkeypatch.setattr("braincl_med.methods.private.released", lambda *_: 1 / 0)
    with pytest.raises(Exception, match="quorum"):
        broken.run()
    assert [entry.answer for entry in hospital.ledger.entries()] == [""]
    monkeypatch.undo()
    listened(statistical.model_copy(update={"resume": True}), told).run()
    assert len([entry for entry in hospital.ledger.entries() if entry.phase == "release" and entry.task == 0]) == 2


def test_a_phase_that_does_not_say_what_bounds_it_is_refused_under_privacy(statistical, monkeypatch):
    told = []
    leaky = Phase("release", lambda site, order: 1 / 0, WEIGHTS)
    method = METHODS["braincl"]
    monkeypatch.setitem(
        METHODS, "braincl", dataclasses.replace(method, phases=(leaky,), schedule=lambda config: ((leaky, 0),))
    )
    with pytest.raises(Exception, match="tells what nothing bounds"):
        listened(statistical, told).run()


def test_every_phase_of_every_method_says_what_bounds_it_or_is_left_out():
    bounded = {
        phase.name: set(phase.bounded)
        for method in METHODS.values()
        for phase in method.phases
        if phase.answer is not NOTHING and phase.bounded
    }
    assert bounded == {
        "release": {"statistics"},
        "evaluate": {"statistics", "updates"},
        "wake": {"updates"},
        "sleep": {"updates"},
    }


def test_updates_are_trained_by_dp_sgd_and_each_round_is_entered(tmp_path):
    pytest.importorskip("opacus")
    told = []
    config = tiny(tmp_path, stream_task_count=2, **UPDATING)
    listened(config, told).run()
    ledger = local_hospitals(config)[0].ledger
    training = [entry for entry in ledger.entries() if entry.scans == "training"]
    assert [(e.task, e.phase) for e in training] == [(0, "wake"), (0, "sleep"), (1, "wake"), (1, "sleep")]
    assert set(training[2].classes) < set(training[3].classes), "sleep touches the former task again"
    assert all(entry.multiplier == 1 and entry.steps > 1 for entry in training)
    assert 1 < ledger.epsilon() < 50
    assert all(report.loss is None for _, report in told)
    assert {report.examples for phase, report in told if phase != "evaluate"} == {1}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({**UPDATING, "memory_basis": "task"}, "cannot bound memory-basis 'task'"),
        ({**UPDATING, "selection_rule": "nearest"}, "cannot bound selection-rule 'nearest'"),
        ({**UPDATING, "federation_familiarity": "shared"}, "cannot bound federation-familiarity 'shared'"),
        ({"privacy_mode": "statistics"}, "cannot bound cortex-features None"),
        ({**STATISTICAL, "privacy_noise": "shared"}, "privacy-noise 'shared' bounds sums alone"),
        ({"privacy_mode": "updates", "method": "joint"}, "is for method braincl, not for joint"),
    ],
)
def test_settings_that_read_scans_beside_the_mechanism_are_refused(tmp_path, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        tiny(tmp_path, **settings)


def test_a_network_that_mixes_scans_is_refused_for_updates(tmp_path):
    with pytest.raises(ConfigError, match="set cortex-norm to group"):
        run_locally(tiny(tmp_path, **{**UPDATING, "cortex_norm": "batch"}))


def test_features_without_a_map_that_public_scans_taught_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="braincl start"):
        run_locally(tiny(tmp_path, **STATISTICAL))
