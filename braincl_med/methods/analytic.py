"""Analytic: a frozen backbone, and a classifier solved in closed form from sums over hospitals and tasks.

regress ─► hospitals tell the shares of a task's classes, the sums of their features and the second moment; the server
           adds them to those of the tasks before and solves the classifier (`phases.regression`)

After AFL (He et al. 2025, arXiv 2405.16240) and AFCL (Tang et al. 2025, arXiv 2505.12245), and with
`cortex-projection` RanPAC (McDonnell et al. 2023, arXiv 2307.02251). No scan and no cue is kept, and nothing is
trained, so a task is read once and one exchange learns it.

Deviations from the papers:

- Moments are told as they are. AFL solves a classifier at every hospital and joins those, which comes to the same.
- The regression has an intercept, which the papers leave out.
- The penalty follows the features' variance, one setting for all tasks; RanPAC chooses it anew for every task.
- RanPAC's first task trains adapters within the backbone, which stays as it is here.
"""

from braincl_med.methods.base import Method, raw_scans
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import TASK_MOMENTS, Phase, Schedule
from braincl_med.methods.training import tell_moments
from braincl_med.settings.config import ExperimentConfig

REGRESS = Phase("regress", tell_moments, TASK_MOMENTS)


def _schedule(config: ExperimentConfig) -> Schedule:
    """Tell the moments of the task's scans, evaluate."""
    return ((REGRESS, 0), (EVALUATE, 0))


ANALYTIC = Method("analytic", (REGRESS, EVALUATE), _schedule, raw_scans)
