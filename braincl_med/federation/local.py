"""Hospitals in one process, without Flower: for a single hospital, for benchmarks, and for most tests."""

from collections.abc import Sequence
from dataclasses import replace

from braincl_med.federation.coordinator import Coordinator
from braincl_med.federation.exchange import Exchange
from braincl_med.federation.hospital import Hospital, keys_of
from braincl_med.federation.masks import Masks
from braincl_med.messages.order import Order
from braincl_med.messages.report import Report
from braincl_med.messages.shelf import Shelf
from braincl_med.settings.config import ExperimentConfig
from braincl_med.streams.place import Place
from braincl_med.streams.source import ScanSource
from braincl_med.vault.vault import Vault


def local_hospitals(config: ExperimentConfig) -> list[Hospital]:
    """The simulated hospitals of an experiment, their vaults below its state root as under `flwr run`."""
    count = config.federation.hospitals
    return [
        Hospital(
            name=f"site-{number}",
            config=config,
            source=ScanSource(config.stream, Place.simulated(config, number), config.seed, number, count),
            vault=Vault(
                config.state_folder / f"site-{number}" / config.name,
                keys_of(config, f"site-{number}", config.vault_key, config.network_key),
            ),
            masks=Masks.simulated(config.state_folder, f"site-{number}") if config.federation.masked else None,
        )
        for number in range(count)
    ]


def local_exchange(hospitals: Sequence[Hospital]) -> Exchange:
    """An exchange that calls one hospital after the other, over the same texts that Flower would carry."""

    def exchange(order: Order) -> list[Report]:
        reports: list[Report] = []
        if not hospitals:
            return reports
        shelf = Shelf.of(hospitals[0].config)
        for number, hospital in enumerate(hospitals):
            if not order.letters or str(number) in order.letters:
                answer = hospital.answer(Order.parse(order.addressed(str(number)).text(), order.weights))
                report = Report.parse(answer.text(), shelf.put(answer.weights))
                reports.append(replace(report, sender=str(number)))
        return reports

    return exchange


def run_locally(config: ExperimentConfig) -> str:
    """Run an experiment in this process from wherever it stands to its end.

    Raises:
        BrainclError: as `Coordinator.run`.
    """
    return Coordinator(config, local_exchange(local_hospitals(config))).run()
