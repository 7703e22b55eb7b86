import re
from pathlib import Path

from apps.dashboard.words import GROUPS, ITEMS, METHODS, PHASES, SCORES
from braincl_med import methods
from braincl_med.evaluation import examination
from braincl_med.methods import METHODS as ALL
from braincl_med.methods import exemplars
from braincl_med.methods.examine import EXAMINE
from braincl_med.vault.vault import Vault


def test_every_method_phase_and_score_has_words() -> None:
    assert METHODS.keys() == ALL.keys()
    assert PHASES.keys() == {EXAMINE.name} | {phase.name for method in ALL.values() for phase in method.phases}
    assert SCORES.keys() == examination.BINS.keys()
    assert GROUPS.keys() == set(examination.GROUPS)


def test_everything_that_a_hospital_keeps_between_tasks_has_words(tmp_path: Path) -> None:
    assert Vault(tmp_path).sizes().keys() - {"records"} <= ITEMS.keys()
    source = "".join(path.read_text() for path in Path(methods.__file__).parent.glob("*.py"))
    named = set(re.findall(r"^(?:ITEM|GENERATOR)\b[^=]*= \"([a-z]+)\"", source, re.MULTILINE))
    assert {"fisher", "generator"} <= named <= ITEMS.keys()
    assert {*exemplars.ITEMS.values(), "backbones", "deviations"} <= ITEMS.keys()
