from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from braincl_med.scans.conditions import ARTEFACTS, CONDITIONS, STRENGTHS, conditioned, fits, grey, with_artefact
from braincl_med.streams import phantom


@pytest.fixture(scope="module")
def scans():
    """Phantom photographs and grey scans."""
    found = [phantom.load(name, "test", 28, np.arange(4))[0] for name in phantom.DATASETS]
    images = np.concatenate(found)
    assert 0 < grey(images).sum() < len(images)
    return images


def harm(images, changed):
    return np.abs(changed.astype(int) - images).mean()


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_gets_worse_and_is_the_same_for_a_seed(scans, name):
    suited = scans[fits(name, grey(scans))]
    found = [conditioned(suited, name, strength, 7) for strength in range(1, STRENGTHS + 1)]
    harms = [harm(suited, changed) for changed in found]
    assert harms[0] > 0
    assert harms[-1] > 1.5 * harms[0]
    assert all(after > 0.95 * before for before, after in pairwise(harms))
    assert all(changed.shape == suited.shape and changed.dtype == np.uint8 for changed in found)
    assert np.array_equal(found[2], conditioned(suited, name, 3, 7))
    assert np.array_equal(grey(found[2])[grey(suited)], np.ones(grey(suited).sum(), bool))


def test_fifteen_fit_each_kind_of_scan():
    for kind in (True, False):
        assert sum(bool(fits(name, np.array([kind]))[0]) for name in CONDITIONS) == 15


def test_seeds_draw_different_noise_and_nothing_is_made_of_nothing(scans):
    assert not np.array_equal(*(conditioned(scans, "gaussian-noise", 3, seed) for seed in (1, 2)))
    assert conditioned(scans[:0], "jpeg", 1, 0).shape == (0, 28, 28, 3)
    assert with_artefact(scans[:0], "text").shape == (0, 28, 28, 3)


def test_noise_deviates_as_said_and_salt_falls_as_often_as_said():
    even = np.full((40, 28, 28, 3), 128, np.uint8)
    noisy = conditioned(even, "gaussian-noise", 3, 0).astype(float) / 255
    assert noisy.std() == pytest.approx(0.08, rel=0.05)
    salted = conditioned(even, "salt-and-pepper", 5, 0)
    assert np.isin(salted, (0, 255)).mean() == pytest.approx(0.2, abs=0.01)


def test_jpeg_is_pillows(scans):
    ours = conditioned(scans[:2], "jpeg", 3, 0)
    for scan, found in zip(scans[:2], ours, strict=True):
        buffer = BytesIO()
        Image.fromarray(scan).save(buffer, "JPEG", quality=25)
        theirs = np.asarray(Image.open(buffer))
        assert np.abs(theirs.astype(int) - found).mean() < 2


@pytest.mark.parametrize("name", ARTEFACTS)
def test_an_artefact_hides_some_of_a_scan_and_not_most(scans, name):
    even = np.full((1, 28, 28, 3), 90, np.uint8)
    drawn = with_artefact(even, name)
    assert 0.03 < (drawn != even).any(-1).mean() < 0.5
    assert (even == 90).all()
    large = np.full((1, 224, 224, 3), 90, np.uint8)
    share = (with_artefact(large, name) != large).any(-1).mean()
    assert share == pytest.approx((drawn != even).any(-1).mean(), rel=0.7)
