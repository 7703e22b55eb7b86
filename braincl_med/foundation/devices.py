"""Where the shared network, and other networks while they train, compute: on a GPU when there is one, else the CPU.

Set `CUDA_VISIBLE_DEVICES=` to nothing to keep a GPU out of it; Flower's simulation does so for every hospital unless
its configuration gives hospitals a share of one (`client-resources-num-gpus`). Weights travel and are kept on the
CPU.
"""

import torch


def accelerator() -> torch.device:
    """The device that networks are put on."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def accelerator_name() -> str:
    """What the GPU is called; empty where there is none."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else ""


def bfloat16_is_fast() -> bool:
    """Whether the device computes in bfloat16 natively; elsewhere it takes twice as long as single precision."""
    if accelerator().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    natively = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(natively())


def processes_at_a_time() -> int:
    """How many trainings this machine does best at once: one a thread of torch, or one where there is a GPU."""
    return 1 if accelerator().type == "cuda" else torch.get_num_threads()
