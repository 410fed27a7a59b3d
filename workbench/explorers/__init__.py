"""Figures with controls: each a function that gives a picture, and the widgets that ask it again."""

from __future__ import annotations

from workbench.explorers.breakdown import ErrorScreen, explore_errors
from workbench.explorers.clustering_grid import GridScreen, explore_grid
from workbench.explorers.clustering_grid_live import LiveScreen, explore_live
from workbench.explorers.embeddings import EmbeddingScreen, explore_embeddings
from workbench.explorers.parity import ParityScreen, explore_parity
from workbench.explorers.port_check import PortScreen, explore_port
from workbench.explorers.start_here import StartHere, explore_recording

__all__ = [
    "EmbeddingScreen",
    "ErrorScreen",
    "GridScreen",
    "LiveScreen",
    "ParityScreen",
    "PortScreen",
    "StartHere",
    "explore_embeddings",
    "explore_errors",
    "explore_grid",
    "explore_live",
    "explore_parity",
    "explore_port",
    "explore_recording",
]
