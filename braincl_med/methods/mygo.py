"""MyGO: dreams in place of scans, and distillation of the network on them (Ji & Song, "MyGO").

    dream ─► a generator of the task's scans is trained and kept; the scans are not
    head ─► the new rows of the classifier alone, on raw scans of the task and dreams of the earlier ones
    consolidate ─► the whole network, on dreams of all tasks: mean squared error between its logits and the teacher's

The teacher is the network after `head`, averaged over hospitals. The student is the same network but for its new
rows, which begin anew: in the source it is the network without the new head. That matters. A student that begins as
its own teacher has nothing to learn, and the backbone stays as the first task left it (digits, five tasks of two
classes, accuracy at the end: 67 % so, 88 % with rows begun anew, 19 % of Finetune).

The source gives every task a head of its own and tells the network which one to use. Here all classes are told
apart by one head, which needs more than the source says:

- New rows learn in a softmax over all classes, with dreams of the earlier tasks as counter-examples; else they would
  learn to outdo old rows on every scan, and the student to forget. Old rows stay as they are in `head`, so on old
  classes the teacher is the network that learned them.
- The first task has no features to build on, so its whole network is trained by cross-entropy on the raw scans, and
  `head` does nothing. The source freezes a random backbone, which is enough for pairs of handwritten digits.

Further deviations:

- Trained within the budget of `sleep`, by SGD, with augmentation; the source: Adam, 5 epochs for the head and 1,000
  steps for the rest. Dreams of all tasks are mixed, as many of a class as there were scans, and new ones in
  every round; the source draws a task for every step. The rate of distillation is `mygo-learning-rate`.
- The generator is convolutional by default (`dreams`).
- Under batch normalisation the teacher sees a new kind of scan through the statistics of the earlier tasks. On
  phantom scans its logits grew with each task (standard deviations of 3, 15 and 71), and the student hardly followed.
- Federated averaging of new rows and of the network. Generators stay at their hospital; so does the teacher, which is
  needed until the last round and then deleted.
"""

import torch
from torch import Tensor
from torch.nn import functional

from braincl_med.cortex.cortex import Cortex, new_rows
from braincl_med.foundation.seeding import seed_for
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.methods.base import Method
from braincl_med.methods.dreams import Dreamer, learn_to_dream
from braincl_med.methods.evaluate import EVALUATE
from braincl_med.methods.phase import CLASSIFIER, WEIGHTS, Need, Phase, Schedule, Site, rounds
from braincl_med.methods.training import FEWEST, SHARED, learned, training_rounds
from braincl_med.phases.objectives import objective_of
from braincl_med.phases.rounds import epochs_of_round
from braincl_med.phases.sleep import Objective, sleep
from braincl_med.phases.wake import wake
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.tasks import Registry, Scans

GENERATOR = "generator"
TEACHER = "teacher"
"""Temporary: there only while a task is consolidated."""


def distillation(teacher: Cortex) -> Objective:
    """The mean squared error between the logits of the network and of `teacher` on the same scans (eq. 1)."""
    teacher.eval()

    def loss(student: Cortex, scans: Tensor, labels: Tensor) -> Tensor:
        with torch.no_grad():
            logits = teacher(scans)
        return functional.mse_loss(student(scans), logits)

    return loss


def _dreams(site: Site, tasks: range, seed: int) -> Scans:
    """Dreams of the tasks of which there is a generator."""
    made = [Scans.none(site.config.stream.size)]
    for task in tasks:
        arrays = site.kept.load(GENERATOR, task)
        if arrays is not None:
            made.append(Dreamer.of(arrays, site.config.mygo.generator).dream(seed_for(seed, GENERATOR, task)))
    return Scans.join(made)


def _samples(site: Site, registry: Registry, task: int) -> Scans:
    """Dreams of all tasks; of the first task alone, its raw scans."""
    if not task:
        return site.raw(registry, task)
    return _dreams(site, range(task + 1), seed_for(site.config.seed, site.name, "samples", task))


def _dream(site: Site, order: Order) -> Report:
    """Train and keep a generator of the task's raw scans."""
    raw = site.raw(order.registry, order.task)
    if not len(raw):
        return Report(site.name)
    site.kept.save(GENERATOR, order.task, learn_to_dream(raw, site.config.mygo, site.seed(order)).arrays())
    return Report(site.name, len(raw))


def _head(site: Site, order: Order) -> Report:
    """Train the new rows; returns the classifier alone. In the first task it returns it as it came."""
    settings, raw = site.config.mygo, site.raw(order.registry, order.task)
    changes = {"epochs": settings.head_epochs, "learning_rate": settings.head_learning_rate}
    config = site.config.wake.model_copy(update=changes)
    if not len(raw):
        return Report(site.name)
    cortex, loss = Cortex.of(order.weights, site.config.cortex), None
    if order.task:
        seed, new = site.seed(order), order.registry.numbers(order.task)
        samples = Scans.join([raw, _dreams(site, range(order.task), seed)])
        _, epochs = epochs_of_round(config.epochs, config.rounds, order.round)
        # Old rows compete as they are: they know their classes, new ones are to be told apart from them.
        loss = wake(cortex, samples, config, new, epochs, seed, rivals=new.start)
    return learned(site, order, cortex, CLASSIFIER, raw, loss)


def _consolidate(site: Site, order: Order) -> Report:
    """Train the whole network: on raw scans of the first task, later on dreams of all tasks."""
    settings, seed = site.config.sleep, site.seed(order)
    first_new = order.registry.numbers(order.task).start
    samples = _dreams(site, range(order.task + 1), seed) if first_new else site.raw(order.registry, order.task)
    teacher = _teacher(site, order) if first_new else None
    if len(samples) < FEWEST or (first_new and teacher is None):
        return Report(site.name)
    cortex = Cortex.of(order.weights, site.config.cortex)
    objective = distillation(teacher) if teacher else objective_of(settings, samples.labels, cortex)
    if teacher:
        settings = settings.model_copy(update={"learning_rate": site.config.mygo.learning_rate})
    if teacher and not order.round:
        # All hospitals begin from the same rows, which their average would blur otherwise.
        torch.manual_seed(seed_for(site.config.seed, "rows", order.task))
        new_rows(cortex.classifier, first_new)
    loss = sleep(cortex, samples, settings, order.round, seed, 0.0, objective)
    return learned(site, order, cortex, WEIGHTS, samples, loss)


def _teacher(site: Site, order: Order) -> Cortex | None:
    """The network as it came in the first round; None at a hospital that missed that round."""
    if order.round:
        kept = site.kept.load(TEACHER, order.task)
        if kept is None:
            return None
        return Cortex.of({name: torch.from_numpy(array) for name, array in kept.items()}, site.config.cortex)
    site.kept.save(TEACHER, order.task, {name: tensor.numpy() for name, tensor in order.weights.items()})
    return Cortex.of(order.weights, site.config.cortex)


def _remember(site: Site, order: Order) -> Report:
    """Delete the teacher, also one left by a task whose `remember` was missed; the generators remain."""
    for task in range(order.task + 1):
        site.kept.forget(TEACHER, task)
    return Report(site.name)


DREAM = Phase("dream", _dream, need=Need.NOTHING)
HEAD = Phase("head", _head, CLASSIFIER)
CONSOLIDATE = Phase("consolidate", _consolidate, WEIGHTS)
REMEMBER = Phase("remember", _remember, need=Need.NOTHING)


def _schedule(config: ExperimentConfig) -> Schedule:
    """Dream, head, consolidate, remember, evaluate; a task's teacher is deleted in `remember`."""
    heads = rounds(HEAD, config.wake.rounds)
    return ((DREAM, 0), *heads, *training_rounds(config, CONSOLIDATE), (REMEMBER, 0), (EVALUATE, 0))


MYGO = Method("mygo", (DREAM, HEAD, CONSOLIDATE, REMEMBER, *SHARED, EVALUATE), _schedule, _samples)
