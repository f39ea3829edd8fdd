"""Device and precision of a run."""

from typing import Any

import torch

from xmnist.runtime import machine, processes
from xmnist.runtime.errors import InputError


def find_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the first of cuda, mps, cpu that is there.

    Where several processes train one model, `cuda` is a GPU for each, and mps, which cannot do that, is not there.

    Raises:
        InputError: this machine has no such device, or it is one for several processes.
    """
    alone = processes.count() == 1
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available() and alone, "cpu": True}
    device = torch.device(next(kind for kind in available if available[kind]) if name == "auto" else name)
    if device.type == "cuda" and not alone:
        if device.index is not None:
            raise InputError(f"device={name} is one GPU, but several processes train: device=cuda gives each its own")
        name = f"cuda:{processes.local_rank()}"
        device = torch.device(name)
    if not available[device.type] or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] + [k for k in ("mps", "cpu") if available[k]]
        raise InputError(f"device={name}: there is none here (there is {', '.join(devices)}; auto takes the first)")
    return device


def find_precision(name: str, device: torch.device) -> str:
    """Return the precision of multiplications on a device: `auto` is bf16 where the hardware is faster, else fp32.

    Raises:
        InputError: bf16 is asked for on a device without it.
    """
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)() if device.type == "cpu" else {}
        # Intel's without AMX take 1.1 (classifier) to 1.4 times (ClaDec) as long for a step as in fp32; AMD's less
        native = capabilities.get("amx_bf16") or (capabilities.get("avx512_bf16") and not machine.intel())
    if name == "bf16" and not native and device.type != "cpu":  # a CPU can always, if slowly
        raise InputError(f"precision=bf16: {device} has no bfloat16; auto takes it where it is there")
    return name if name != "auto" else "bf16" if native else "fp32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context, or decorator, that computes safe operations in bfloat16 if `precision` is bf16."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
