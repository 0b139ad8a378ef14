"""The devices that tests are given do what CUDA's would: these are the controls of their users."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.virtual_devices import MixedDevicesError, virtual_devices


def test_tensors_of_two_devices_are_refused_in_one_operation() -> None:
    """Both ways round, between two GPUs, in place, and in what joins tensors."""
    with virtual_devices():
        here, there = torch.ones(3), torch.ones(3, device="cuda")
        other = here.to("cuda:1")
        for refused in (
            lambda: here + there,
            lambda: there * here,
            lambda: there + other,
            lambda: torch.cat([here, there]),
            lambda: here.index_add_(0, torch.tensor([0], device="cuda"), torch.ones(1)),
            lambda: torch.zeros(2, device="cuda").index_add_(0, torch.tensor([0, 1, 1]), there),
            lambda: torch.nn.functional.linear(there, torch.ones(2, 3)),
            lambda: torch.allclose(here, there),
            lambda: here[torch.tensor([0, 1], device="cuda")],
        ):
            with pytest.raises(MixedDevicesError, match="on the same device, but found c"):
                refused()


def test_what_cuda_allows_is_allowed() -> None:
    """Numbers without dimensions, indices on the CPU, and copies."""
    with virtual_devices():
        there = torch.arange(4.0, device="cuda")
        assert (there + torch.tensor(1.0)).tolist() == [1, 2, 3, 4]
        assert there[torch.tensor([1, 3])].tolist() == [1, 3]
        assert torch.zeros(4).copy_(there).device == torch.device("cpu")
        assert (there.cpu() + torch.ones(4)).tolist() == [1, 2, 3, 4]
        with pytest.raises(MixedDevicesError, match="same device"):
            torch.ones(4) + there.sum()  # one of the GPU is no number for the CPU


def test_what_is_made_of_a_tensor_lies_where_it_does() -> None:
    """Views, results, tensors like it, and modules; the same code without it is on the CPU."""
    with virtual_devices() as devices:
        there = torch.ones(2, 3, device="cuda:1")
        layer = torch.nn.Linear(3, 4)
        devices.place_module(layer, "cuda:1")
        for made in (there[0], there.T, there.sum(), torch.zeros_like(there), layer(there)):
            assert made.device == torch.device("cuda:1")
        assert torch.tensor([1]).to(there).device == torch.device("cuda:1")
        assert there.double().device == torch.device("cuda:1")
        assert torch.from_numpy(np.ones(2)).device == torch.device("cpu")
    assert there.device == torch.device("cpu")


def test_reads_that_wait_are_counted() -> None:
    """item, bool, tolist, nonzero, masks and copies to the CPU, each once; none of the CPU's own."""
    with virtual_devices() as devices:
        for values, waited in ((torch.arange(3.0), 0), (torch.arange(3.0, device="cuda"), 1)):
            for read in (
                lambda own: own.sum().item(),
                lambda own: float(own[0]),
                lambda own: bool((own > 0).any()),
                lambda own: own.tolist(),
                lambda own: own.nonzero(),
                lambda own: own[own > 1],
                lambda own: own.unique(),
                lambda own: own.cpu(),
            ):
                devices.waits.clear()
                read(values)
                assert devices.waits.total() == waited
            devices.waits.clear()
            values = values * 2 + values.cumsum(0)
            assert not devices.waits


def test_numpy_takes_nothing_from_a_gpu() -> None:
    """As with CUDA: it has to be copied first."""
    with virtual_devices():
        there = torch.ones(2, device="cuda")
        with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"):
            there.numpy()
        assert there.cpu().numpy().tolist() == [1, 1]
