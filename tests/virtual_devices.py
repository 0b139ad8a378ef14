"""CUDA devices for machines without one: tensors that say they are there, and refuse to be mixed.

A tensor is computed on the CPU as ever, but its storage carries the name of a device. What goes
there (``.to``, ``device=``) is tagged, what is made of it inherits the tag, and an operation over
several devices raises what CUDA would, with CUDA's own exceptions: a number without dimensions may
come from the CPU, and so may indices. Reads that make the CPU wait for the GPU are counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU = torch.device("cpu")
aten = torch.ops.aten
# Operations whose index arguments may lie on the CPU.
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}
COPYING = {aten.copy_.default, aten._to_copy.default}
# What cannot be enqueued: its result, or the size of its result, is read on the CPU.
WAITING = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.nonzero.default,
    aten.masked_select.default,
    aten.bincount.default,
    aten._unique2.default,
    aten.unique_consecutive.default,
    aten.unique_dim.default,
    aten.repeat_interleave.Tensor,
}
MOVES = (Tensor.to, Tensor.cuda, Tensor.cpu)


class MixedDevicesError(RuntimeError):
    """Tensors of several devices met in one operation."""


class Devices:
    """Which storage lies where, and how often the CPU waited for what."""

    def __init__(self) -> None:
        # storages are kept alive, so that no other one gets the place of a freed one
        self._tags: dict[int, tuple[Any, torch.device]] = {}
        self.waits: Counter[str] = Counter()

    def of(self, tensor: Tensor) -> torch.device:
        """The device of a tensor."""
        _, device = self._tags.get(tensor.untyped_storage()._cdata, (None, CPU))
        return device

    def place(self, tensor: Tensor, device: torch.device) -> Tensor:
        """Say that a tensor's storage lies on a device."""
        storage = tensor.untyped_storage()
        self._tags[storage._cdata] = (storage, device)
        return tensor

    def place_module(self, module: torch.nn.Module, device: str) -> None:
        """Say that all of a module lies on a device."""
        for tensor in (*module.parameters(), *module.buffers()):
            self.place(tensor, torch.device(device))

    def wait(self, what: str, tensors: Sequence[Tensor]) -> None:
        """Count a read, if anything of it lies on a GPU."""
        if any(self.of(tensor) != CPU for tensor in tensors):
            self.waits[what] += 1

    def check(self, operation: Any, args: tuple[Any, ...], tensors: Sequence[Tensor]) -> None:
        """Refuse what CUDA would refuse."""
        if operation in COPYING:
            return
        held = [args[0]] if operation in INDEXING else list(tensors)
        indices = list(tensors)[1:] if operation in INDEXING else []
        places = {self.of(t) for t in held if t.dim() or self.of(t) != CPU}
        places |= {self.of(t) for t in indices if self.of(t) != CPU}
        if len(places) > 1:
            raise MixedDevicesError(
                f"{operation}: expected all tensors to be on the same device, but found "
                f"{' and '.join(sorted(map(str, places)))}"
            )

    def inherit(self, out: Any, tensors: Sequence[Tensor]) -> None:
        """What is made of tensors lies where they do."""
        places = [self.of(tensor) for tensor in tensors if self.of(tensor) != CPU]
        given = {tensor.untyped_storage()._cdata for tensor in tensors}
        for made in tree_leaves(out) if places else ():
            if isinstance(made, Tensor) and made.untyped_storage()._cdata not in given:
                self.place(made, places[0])


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, devices: Devices) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._devices = devices

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self._devices.check(func, args, tensors)
        masked = func in INDEXING and any(t.dtype == torch.bool for t in tensors[1:])
        sized = bool(kwargs) and kwargs.get("output_size") is not None
        if masked or (func in WAITING and not sized):
            self._devices.wait(str(func), tensors)
        out = func(*args, **(kwargs or {}))
        self._devices.inherit(out, tensors)
        return out


class _Calls(TorchFunctionMode):
    """What a caller says of devices, before torch would look for a GPU."""

    def __init__(self, devices: Devices) -> None:
        super().__init__()
        self._devices = devices

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:  # a new one each time
            return self._devices.of(args[0])
        if func in (Tensor.tolist, Tensor.numpy, Tensor.__array__):
            if func is not Tensor.tolist and self._devices.of(args[0]) != CPU:
                raise TypeError("can't convert cuda:0 device type tensor to numpy")
            self._devices.wait(func.__name__, args[:1])
            return func(*args, **kwargs)
        if func in MOVES:
            return self._move(func, args, kwargs)
        given = kwargs.get("device")
        if given is None:
            return func(*args, **kwargs)
        kwargs["device"] = CPU
        made = func(*args, **kwargs)
        target = _named(given)
        return made if target == CPU else tree_map(lambda own: self._placed(own, target), made)

    def _placed(self, made: Any, device: torch.device) -> Any:
        return self._devices.place(made.clone(), device) if isinstance(made, Tensor) else made

    def _move(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        tensor, *given = args
        source = target = self._devices.of(tensor)
        if func is Tensor.cpu:
            target = CPU
        elif func is Tensor.cuda:
            target = torch.device("cuda:0")
        rest = []
        for own in (*given, kwargs.pop("device", None)):
            if isinstance(own, (str, torch.device)):
                target = _named(own)
            elif isinstance(own, Tensor):
                target = self._devices.of(own)
                rest.append(own.dtype)
            elif own is not None:
                rest.append(own)
        moved: Tensor = tensor.to(*rest, **kwargs) if func is Tensor.to else tensor
        if target == source:
            return moved
        if target == CPU:
            self._devices.wait("copy to the CPU", [tensor])
        return self._devices.place(moved.clone(), target)


class _CPUGenerator(torch.Generator):
    """Draws on the CPU, whatever device it is asked for."""

    def __new__(cls, device: Any = "cpu") -> _CPUGenerator:
        return super().__new__(cls, "cpu")  # type: ignore[call-arg]


def _named(device: Any) -> torch.device:
    named = torch.device(device)
    return torch.device("cuda:0") if named == torch.device("cuda") else named


@contextmanager
def virtual_devices() -> Iterator[Devices]:
    """Inside, ``cuda``, ``cuda:0``, ``cuda:1`` and so on are devices."""
    devices, generator = Devices(), torch.Generator
    torch.Generator = _CPUGenerator  # type: ignore[misc]
    try:
        with _Operations(devices), _Calls(devices):
            yield devices
    finally:
        torch.Generator = generator  # type: ignore[misc]
