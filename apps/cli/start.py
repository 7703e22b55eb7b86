"""`braincl start`: a known start from public scans."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from apps.cli.options import OverrideOption, load


def start(
    config: Annotated[str, typer.Argument(help="A YAML file, or a packaged experiment, whose stream is public.")],
    out: Annotated[Path, typer.Argument(help="The file to write, for cortex-weights; it ends in .safetensors.")],
    override: OverrideOption = None,
    split: Annotated[
        Literal["train", "val", "test"], typer.Option(help="Which scans of the public sets are read.")
    ] = "train",
) -> None:
    """Make weights for `cortex-weights` from public scans, and the map to `cortex-features` that they teach.

    A backbone that `cortex-weights` names is taken as it is; without one it is trained under `sleep`.
    """
    from safetensors.torch import save

    from braincl_med.cortex.start import load_start
    from braincl_med.foundation.errors import ConfigError
    from braincl_med.foundation.files import sha256_of, write_whole
    from braincl_med.foundation.progress import bar
    from braincl_med.phases.known_start import known_start
    from braincl_med.streams.availability import resolve
    from braincl_med.streams.named import build_registry
    from braincl_med.streams.place import Place
    from braincl_med.streams.source import ScanSource
    from braincl_med.streams.tasks import Scans

    if out.suffix != ".safetensors":
        raise ConfigError(f"'{out.name}' would hold tensors: give it a name that ends in .safetensors")
    experiment = load(config, override, None)
    stream, fallback = resolve(experiment.stream, experiment.data_folder)
    if fallback:
        typer.echo(f"braincl: {fallback}", err=True)
    registry = build_registry(stream, experiment.seed)
    source = ScanSource(stream, Place(experiment.data_folder), experiment.seed, 0, 1)
    public = Scans.join(source.scans(registry, task, split) for task in range(len(registry.tasks)))
    if len(set(public.labels.tolist())) < len(registry.classes) or len(registry.classes) < 2:
        raise ConfigError("public scans of at least two classes are needed, and some of each class of the stream")
    named = load_start(Path(experiment.cortex.weights).expanduser())[0] if experiment.cortex.weights else None
    content = save(known_start(experiment, public, named, bar("start")))
    write_whole(out, content, shared=True)
    typer.echo(f"'{out.name}' learned from {len(public):,} public scans: SHA-256 {sha256_of(content)}")
