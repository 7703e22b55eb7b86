"""An examination as a short table, for a terminal."""

from collections.abc import Sequence

import numpy as np

from braincl_med.records.examined import DEFAULT_SCORE, Examined, Interval, Roughness


def in_words(found: Examined) -> str:
    """A short table of an examination, for a terminal."""
    hospitals = f"{len(found.hospitals)} {'hospital' if len(found.hospitals) == 1 else 'hospitals'}"
    lines = [
        f"'{found.experiment}' after task '{found.task}': {_percent(found.accuracy, found.interval)} of "
        f"{found.scans:,} scans right, at {hospitals}",
        f"calibration error {100 * found.calibration_error:.1f} points, temperature {found.temperature:.2f}",
    ]
    lines += [
        f"if it refers the least sure {100 * one.referred:.0f} % to a person, it is right in "
        f"{_percent(one.accuracy, one.interval)} of the other {one.answered:,}"
        for one in found.referrals
        if one.asked in (0.1, 0.3) and one.answered
    ]
    if found.reference:
        lines.append(f"set aside by thresholds from {found.reference_scans:,} scans ({found.reference}):")
    for one in found.set_aside:
        if one.score == DEFAULT_SCORE and one.scans:
            work = f", {one.by_softmax} by softmax and {one.by_familiarity} by familiarity"
            lines.append(f"  {one.group:<16} {_percent(one.share, one.interval)} of {one.scans:,}{work}")
    lines += ["AUROC, in percent:", *_area_table(found)]
    lines += _condition_table(found.conditions)
    if not np.isnan(found.effective_rank):
        lines.append(f"effective rank of features: {found.effective_rank:.1f} of {len(found.spectrum)}")
    lines += [
        f"{one.kind} {one.group}: {_percent(one.share, one.interval)} of {one.scans:,} scans right"
        for one in found.patients
    ]
    lines += [] if found.patients else ["groups of patients: not recorded"]
    lines += [f"best minus worst group by {kind}: {100 * gap:.1f} points" for kind, gap in found.gaps().items()]
    if found.attention and found.attention[0].scans:
        all_ = found.attention[0]
        lines.append(
            f"attention (Grad-CAM) stayed where it was before that task on {_percent(all_.share, all_.interval)} of "
            f"{all_.scans:,} scans of former classes, mean correlation {all_.correlation:.2f}"
        )
    return "\n".join(lines)


def _area_table(found: Examined) -> list[str]:
    groups = list(dict.fromkeys(one.group for one in found.separations))
    lines = ["  " + " ".join([f"{'score':<21}", *(f"{group.removeprefix('artefact-'):>14}" for group in groups)])]
    for score in dict.fromkeys(one.score for one in found.separations):
        cells = [found.separation(score, group) for group in groups]
        shown = (f"{100 * one.auroc:>14.1f}" if one else f"{'–':>14}" for one in cells)
        lines.append("  " + " ".join([f"{score:<21}", *shown]))
    return lines


def _condition_table(conditions: Sequence[Roughness]) -> list[str]:
    if not conditions:
        return []
    lines = ["right answers relative to clean scans, in percent, at strengths 1 to 5:"]
    for name in dict.fromkeys(one.condition for one in conditions):
        shown = " ".join(f"{100 * one.relative:>6.1f}" for one in conditions if one.condition == name)
        lines.append(f"  {name:<16} {shown}")
    return lines


def _percent(share: float, interval: Interval) -> str:
    return f"{100 * share:.1f} % ({100 * interval[0]:.0f} to {100 * interval[1]:.0f})"
