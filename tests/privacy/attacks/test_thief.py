import numpy as np
import pytest

from braincl_med.memory.module import complete, fit
from braincl_med.memory.networks import MemoryShape
from braincl_med.privacy.attacks.thief import (
    Borrowed,
    Decoding,
    decode_borrowed,
    decode_by_both,
    decode_by_moments,
    decode_by_pairs,
    fitting_signs,
    refusal,
)
from braincl_med.settings.memory import LinearMemory
from tests.privacy.attacks.blobs import blobs

SCANS = 240
MEMORY = LinearMemory(step=0.1, guidance=0)


def remembered(seed):
    images, _ = blobs(SCANS, seed)
    module = fit(images, MEMORY, seed)
    return images, Borrowed(module.completion, module.encode(images))


@pytest.fixture(scope="module")
def stolen():
    return remembered(1)


@pytest.fixture(scope="module")
def public():
    return remembered(2)[1]


def judged(images, originals, how="test"):
    return Decoding.of(how, images, originals, np.arange(len(originals)))


def test_the_own_network_gives_all_and_another_one_as_it_is_nearly_nothing(stolen, public):
    images, held = stolen
    own = judged(complete(held.network, held.cues), images)
    assert own.matched == SCANS
    assert own.psnr > 25
    turned = held.cues.copy()
    turned[:, ::2] *= -1  # as signs fall in another network
    other = judged(decode_borrowed(turned, held.network.shape, public), images)
    assert other.matched < 0.2 * SCANS
    assert other.psnr < own.psnr - 5


def test_third_moments_tell_the_signs_and_not_those_of_symmetric_cues(stolen, public):
    images, held = stolen
    made = [judged(i, images) for i in decode_by_moments(held.cues, held.network.shape, public, seed=0)]
    assert max(m.matched for m in made) > 0.5 * SCANS
    rng = np.random.default_rng(0)
    told, untold = rng.gamma(0.5, 1, (2000, 10)), rng.normal(size=(2000, 10))
    signs = rng.choice([-1.0, 1.0], 10)
    theirs = rng.gamma(0.5, 1, (2000, 10))
    assert np.array_equal(fitting_signs(told * signs, theirs, seed=1), signs)
    assert not np.array_equal(fitting_signs(untold * signs, rng.normal(size=(2000, 10)), seed=1), signs)


def test_fifty_known_pairs_give_the_rest_and_one_gives_nothing(stolen):
    images, held = stolen
    rest = np.arange(50, SCANS)
    for known, least, most in ((50, 0.8, 1.0), (1, 0.0, 0.05)):
        made = decode_by_pairs(held.cues, images[:known], np.arange(known), held.network.shape)[rest]
        share = Decoding.of("pairs", made, images, rest)
        assert least <= share.matched / share.scans <= most


def test_a_few_known_pairs_tell_the_signs_of_a_public_network(stolen, public):
    images, held = stolen
    rest = np.arange(10, SCANS)
    turned = held.cues.copy()
    turned[:, ::3] *= -1
    made = [
        decode_by_both(cues, images[:10], np.arange(10), held.network.shape, public)[rest]
        for cues in (held.cues, turned)
    ]
    assert np.array_equal(*made)
    assert Decoding.of("both", made[0], images, rest).matched > 0.8 * len(rest)
    wrong = decode_by_both(held.cues, images[100:110], np.arange(10), held.network.shape, public)[rest]
    assert Decoding.of("wrong pairs", wrong, images, rest).matched < 0.3 * len(rest)


def test_blocks_of_larger_scans_are_put_together_again():
    images, _ = blobs(60, size=20)
    module = fit(images, LinearMemory(step=0.1, guidance=0, down_samplings=3), 0)
    cues = module.encode(images)
    assert cues.shape[2:] == (3, 3)
    made = decode_by_pairs(cues, images[:40], np.arange(40), module.completion.shape)
    assert judged(made, images).matched == 60


def test_a_share_has_its_interval_and_joins_by_scans():
    parts = [Decoding("a", 10.0, 0, 10, 0.1), Decoding("a", 20.0, 30, 30, 0.02)]
    joined = Decoding.join(parts)
    assert (joined.matched, joined.scans) == (30, 40)
    assert joined.psnr == pytest.approx(17.5)
    assert joined.chance == pytest.approx(0.04)
    low, high = joined.interval
    assert low < 0.75 < high
    assert joined.as_json()["matched"] == 0.75


def test_networks_that_cannot_be_borrowed_are_refused():
    shape = MemoryShape(1, 16, 16, 4, 0, 4, linear=True)
    assert refusal(shape, shape) == ""
    assert "size or colour" in refusal(shape, MemoryShape(3, 16, 16, 4, 0, 4, linear=True))
    assert "not linear" in refusal(shape, MemoryShape(1, 16, 16, 4, 8, 4, linear=False))
