"""The devices that tensors may lie on here: cases of CUDA are collected only where there is one."""

from __future__ import annotations

import torch

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
