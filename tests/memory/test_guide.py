import numpy as np
import pytest
import torch

from braincl_med.memory import module
from braincl_med.memory.components import blocks_of
from braincl_med.memory.guide import gradients_of, train_guide
from braincl_med.memory.module import complete, fit
from braincl_med.settings.memory import LinearMemory
from tests.memory.test_module import blobs, psnr

MARK = (slice(None), slice(3, 7), slice(3, 7))


def marked(count, seed=0):
    """Scans whose class is a faint mark in a corner, under blobs that vary a hundred times as much."""
    images = blobs(count, seed=seed).astype(np.int16)
    labels = np.arange(count) % 2
    images[MARK] += np.where(labels, 30, 0)[:, None, None, None].astype(np.int16)
    return images.clip(0, 255).astype(np.uint8), labels


def told_apart(module, images, labels):
    """Share of unseen scans whose recalls have a mark brighter than halfway between both classes."""
    brightness = complete(module.completion, module.encode(images))[MARK].mean((1, 2, 3))
    halfway = (brightness[labels == 0].mean() + brightness[labels == 1].mean()) / 2
    return ((brightness > halfway) == labels).mean()


def test_gradients_point_at_what_tells_classes_apart():
    images, labels = marked(200)
    torch.manual_seed(0)
    guide = train_guide(images, labels, 3, steps=150)
    energy = gradients_of(guide, images, labels, 3).square().mean((0, 1)).numpy()
    assert energy[3:7, 3:7].mean() > 3 * energy.mean()


def test_a_guided_memory_keeps_what_a_plain_one_of_the_same_size_loses():
    images, labels = marked(300)
    others, truth = marked(200, seed=1)
    plain = fit(images, LinearMemory(step=1.0), 1)
    guided = fit(images, LinearMemory(step=1.0, guide_steps=150), 1, labels)
    assert len(guided.stored) < 1.1 * len(plain.stored)
    assert np.abs(guided.encode(images)).sum() < 1.1 * np.abs(plain.encode(images)).sum()
    assert told_apart(guided, others, truth) > 0.8
    assert told_apart(plain, others, truth) < 0.7
    quality = [psnr(complete(m.completion, m.encode(others)), others) for m in (plain, guided)]
    assert quality[1] > quality[0] - 3


@pytest.mark.parametrize(("down_samplings", "rows"), [(3, 8192), (4, 40 * 4 * 16), (6, 40 * 4)])
def test_a_metric_takes_a_bounded_number_of_blocks_and_draws_them_only_where_it_must(down_samplings, rows):
    images, labels = blobs(40, size=64), np.arange(40) % 2
    config = LinearMemory(guide_steps=1, down_samplings=down_samplings)
    shape = module._shape(images, config, 3, 8, hidden=0)
    torch.manual_seed(0)
    taken = module._gradients(images, labels, config, shape, None)
    after = torch.rand(1)
    assert taken.shape == (rows, 3 * shape.block[0] ** 2)
    torch.manual_seed(0)
    every = blocks_of(gradients_of(train_guide(images, labels, 3, 1), images, labels, 3), shape)
    assert (len(every) == rows) == bool(torch.rand(1) == after)
    assert len(every) > rows or torch.equal(taken, every)


def test_one_class_needs_no_guide():
    images = blobs(40)
    config = LinearMemory(guide_steps=5)
    assert fit(images, config, 1, np.full(40, 7)).stored == fit(images, config, 1).stored


def test_the_seed_decides_the_guide():
    images, labels = marked(60)
    config = LinearMemory(guide_steps=5)
    first, again, other = (fit(images, config, seed, labels).stored for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(("size", "grey"), [(28, True), (45, False), (64, False)])
def test_any_size_and_a_rare_class_are_guided(size, grey):
    images = blobs(41, size=size, grey=grey)
    labels = np.array([0] * 40 + [5])
    module = fit(images, LinearMemory(guide_steps=3), 1, labels)
    assert complete(module.completion, module.encode(images)).shape == images.shape
    assert psnr(complete(module.completion, module.encode(images)), images) > 20
