"""Roofline models of devices: what a model would cost there, dense and sparse."""

from gossamer.measure.hardware.balance import (
    bits_a_weight,
    load_balance,
    random_balance,
    rate_of,
)
from gossamer.measure.hardware.cpu import known_cpu, this_cpu
from gossamer.measure.hardware.device import DEVICES, Device, get_device
from gossamer.measure.hardware.kernels import Kernel
from gossamer.measure.hardware.predict import Prediction, predict
from gossamer.measure.hardware.rates import by_rate, overtaking_rate
from gossamer.measure.hardware.roofs import OpTime

__all__ = [
    "DEVICES", "Device", "Kernel", "OpTime", "Prediction", "bits_a_weight", "by_rate",
    "get_device", "known_cpu", "load_balance", "overtaking_rate", "predict", "random_balance",
    "rate_of", "this_cpu",
]
