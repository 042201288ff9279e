"""The model on a device: bases, LoRA training, evaluation, chat. The only package that imports torch."""

from mimo_fed.model.base import Base, load_base
from mimo_fed.model.device import LAMBDAS, DeviceModel
from mimo_fed.model.learn import GlobalDelta, Limits, TrainReport
from mimo_fed.model.lora import Arm, Shared
from mimo_fed.model.loss import Loss
from mimo_fed.model.train import TrainingStopped
from mimo_fed.model.trial import TrialReport

__all__ = [
    "LAMBDAS",
    "Arm",
    "Base",
    "DeviceModel",
    "GlobalDelta",
    "Limits",
    "Loss",
    "Shared",
    "TrainReport",
    "TrainingStopped",
    "TrialReport",
    "load_base",
]
