"""What a training left behind, as one table: losses, error rates, learning rates, gradient norms."""

from workbench.training.names import QUANTITIES
from workbench.training.record import TrainingRecord, read_training

__all__ = ["QUANTITIES", "TrainingRecord", "read_training"]
