"""The recordings of the original clusterings, as parameters and features of this program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workbench.clustering import AHCParams, ClusteringParams, VBxParams
from workbench.types import Features, SlidingWindow

CONVENTIONS = {"fork": "diarizen", "v4": "community-1"}


def load_recording(folder: Path, name: str) -> tuple[Features, str]:
    """Features of one recording, and the name of its PLDA."""
    with np.load(folder / f"{name}.npz") as archive:
        features = Features(
            uri=name,
            segmentations=archive["segmentations"].astype(np.float32),
            embeddings=archive["embeddings"],
            chunks=SlidingWindow(0.0, float(archive["chunk_duration"]), float(archive["chunk_step"])),
            frames=SlidingWindow(0.0, 0.025, 0.02),  # clustering does not look at it
        )
        return features, str(archive["plda"])


def read_cases(folder: Path, name: str, version: str) -> Iterator[tuple[dict[str, Any], ClusteringParams]]:
    """Every case of one recording: what was recorded about it, and its parameters."""
    for line in (folder / f"{name}__{version}.jsonl").read_text().splitlines():
        case = json.loads(line)
        bounds = {
            "min_speakers": case.get("min_clusters"),
            "max_speakers": case.get("max_clusters"),
            "num_speakers": case.get("num_clusters"),
            "convention": CONVENTIONS[version],
        }
        if case["algo"].startswith("ahc"):
            yield (
                case,
                AHCParams(
                    ahc_threshold=case["threshold"],
                    min_cluster_size=case["min_cluster_size"],
                    linkage=case.get("method", "centroid"),
                    **bounds,
                ),
            )
        elif case["algo"] == "vbx_fork":
            names = ("ahc_criterion", "ahc_threshold", "Fa", "Fb", "lda_dim", "max_iters")
            yield case, VBxParams(**{name: case[name] for name in names}, **bounds)
        else:
            yield (
                case,
                VBxParams(
                    ahc_threshold=case["threshold"], Fa=case["Fa"], Fb=case["Fb"], lda_dim=None, **bounds
                ),
            )
