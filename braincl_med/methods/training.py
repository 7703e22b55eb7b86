"""The phases that methods share: train the whole network, calibrate its statistics, solve its classifier."""

import numpy as np
import numpy.typing as npt
import torch

from braincl_med.cortex.backbones import has_batch_statistics
from braincl_med.cortex.cortex import Cortex, extract_features
from braincl_med.cortex.gaussians import moments
from braincl_med.foundation.progress import bar
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.phase import BUFFERS, FEATURE_MOMENTS, WEIGHTS, Answer, Phase, Schedule, Site, rounds
from braincl_med.methods.private import tell_update
from braincl_med.phases.budget import Draw, bounded, everything
from braincl_med.phases.dpsgd import Sampling, sleep_privately
from braincl_med.phases.objectives import objective_of
from braincl_med.phases.rounds import epochs_of_round
from braincl_med.phases.sleep import CALIBRATION_BATCH, calibrate, sleep
from braincl_med.settings.config import ExperimentConfig, SleepConfig
from braincl_med.streams.tasks import Scans

FEWEST = 2
"""Samples to train on: batch statistics of a single scan mean nothing, and torch refuses them."""


def learned(site: Site, order: Order, cortex: Cortex, answer: Answer, samples: Scans, loss: float | None) -> Report:
    """A report of training: the tensors of the answer, and samples by class where the server needs them."""
    figures = {}
    if site.config.federation.classifier_rows == "by-class" and site.method.facts.counts_classes:
        figures["classes"] = np.bincount(samples.labels, minlength=order.registry.seen(order.task)).tolist()
    weights = answer.tensors(site.method.trainable(cortex.weights()))
    return Report(site.name, len(samples), loss, figures, weights)


def train(site: Site, order: Order) -> Report:
    """Train the whole network on this hospital's samples of all tasks that the method trains on."""
    method, config = site.method, site.config.sleep
    samples = method.samples(site, order.registry, order.task)
    if len(samples) < FEWEST:
        return Report(site.name)
    if site.config.privacy.mode == "updates":
        return _train_privately(site, order, samples)
    cortex = method.network(order.weights, site.config.cortex)
    draw = _draw_of(config, order)
    taken = samples.labels[_first_draw(draw, samples.labels, site.seed(order))]
    objective = method.objective(site, order, cortex) or objective_of(config, taken, cortex)
    dithering = config.dithering if method.recalls else 0.0
    progress = bar(f"{site.name} {order.phase}")
    loss = sleep(cortex, samples, config, order.round, site.seed(order), dithering, objective, progress, draw=draw)
    return learned(site, order, cortex, WEIGHTS, samples, loss)


def _draw_of(config: SleepConfig, order: Order) -> Draw:
    """What an epoch takes: the first task's all, for no other one came before."""
    if config.budget is None or not order.task:
        return everything
    known = order.registry.seen(order.task)
    return bounded(order.registry.seen(order.task - 1), known, config.budget)


def _first_draw(draw: Draw, labels: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """The samples of one epoch, by which a loss balances classes; what is drawn afterwards is not changed by it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return draw(torch.from_numpy(labels)).numpy()


def _train_privately(site: Site, order: Order, samples: Scans) -> Report:
    """`train` by DP-SGD."""
    config, privacy = site.config.sleep, site.config.privacy
    _, epochs = epochs_of_round(config.epochs, config.rounds, order.round)

    def learn(cortex: Cortex) -> None:
        sleep_privately(cortex, samples, config, privacy, order.round, bar(f"{site.name} {order.phase}"))

    return tell_update(site, order, WEIGHTS, samples, Sampling.of(len(samples), config.batch_size, epochs), learn)


def _calibrate(site: Site, order: Order) -> Report:
    """Take the shared network's normalisation statistics anew on the samples it was trained on."""
    samples = site.method.samples(site, order.registry, order.task)
    if len(samples) < FEWEST:
        return Report(site.name)
    samples = samples.take(np.random.default_rng(site.seed(order)).permutation(len(samples)))
    cortex = site.method.network(order.weights, site.config.cortex)
    calibrate(cortex, samples, CALIBRATION_BATCH)
    return Report(site.name, len(samples), weights=BUFFERS.tensors(site.method.trainable(cortex.weights())))


def tell_moments(site: Site, order: Order) -> Report:
    """Tell the moments of the shared network's features over this hospital's samples that the method has."""
    samples = site.method.samples(site, order.registry, order.task)
    if not len(samples):
        return Report(site.name)
    features = extract_features(site.method.network(order.weights, site.config.cortex), samples.images)
    told = moments(features, torch.from_numpy(samples.labels), order.registry.seen(order.task))
    return Report(site.name, len(samples), weights=told)


TRAIN = Phase("train", train, WEIGHTS)
CALIBRATE = Phase("calibrate", _calibrate, BUFFERS)
DISCRIMINATE = Phase("discriminate", tell_moments, FEATURE_MOMENTS)
SHARED = (CALIBRATE, DISCRIMINATE)


def training_rounds(config: ExperimentConfig, phase: Phase) -> Schedule:
    """The rounds of `phase`, which trains the whole network, and what must follow them.

    Averaged weights do not fit averaged batch statistics, so these are taken anew once the last round is averaged. A
    classifier that is solved follows from the features of the network as it then is, and so do moments by which
    unknown scans are told apart.
    """
    calibrated = ((CALIBRATE, 0),) if has_batch_statistics(config.cortex) else ()
    told = ((DISCRIMINATE, 0),) if config.tells_moments else ()
    return (*rounds(phase, config.sleep.rounds), *calibrated, *told)
