"""Where the tensors of a call go."""

from __future__ import annotations

from typing import Any


def moved(value: Any, device: Any, dtype: Any) -> Any:
    """Return a tensor on a device and, if it is floating-point, of a type."""
    import torch

    if not torch.is_tensor(value):
        return value
    if dtype is not None and value.is_floating_point():
        value = value.to(dtype)  # before the way to the device: half as many bytes
    if (device := torch.device(device)).type == "cuda" and value.device.type == "cpu":
        value = value.pin_memory()
    return value.to(device, non_blocking=True)
