"""Where networks compute: on the first GPU when there is one, else on the CPU.

Set `CUDA_VISIBLE_DEVICES=` to nothing to keep a GPU out of it; Flower's simulation does so for every hospital unless
its configuration gives hospitals a share of one (`client-resources-num-gpus`). Weights travel and are kept on the
CPU.
"""

import torch


def accelerator() -> torch.device:
    """The device that networks are put on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def bfloat16_is_fast() -> bool:
    """Whether the device computes in bfloat16 natively; elsewhere it takes twice as long as single precision."""
    if accelerator().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    natively = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(natively())
