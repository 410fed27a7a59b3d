"""Two short recordings, their reference, and a pipeline that something is wrong with."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import soundfile
from hubs import SAMPLE_RATE, make_conversation
from pyannote.core import Annotation, Segment

from workbench.rttm import write_rttm


def write_recordings(folder: Path, seconds: float = 7.0) -> tuple[Path, Path]:
    """Folder of recordings, and the RTTM of who really talks."""
    audio, lines = folder / "audio", []
    audio.mkdir(parents=True)
    for seed, uri in enumerate(("one", "two")):
        waveform, active = make_conversation(seconds, seed=seed + 10)
        soundfile.write(audio / f"{uri}.wav", waveform, SAMPLE_RATE, subtype="FLOAT")
        annotation = Annotation(uri=uri)
        for voice, talks in enumerate(active):
            edges = np.flatnonzero(np.diff(np.concatenate([[False], talks, [False]]).astype(int)))
            for start, end in edges.reshape(-1, 2) / SAMPLE_RATE:
                annotation[Segment(start, end), f"{voice} {start}"] = f"voice{voice}"
        write_rttm(folder / f"{uri}.rttm", annotation)
        lines.append((folder / f"{uri}.rttm").read_text())
    reference = folder / "reference.rttm"
    reference.write_text("".join(lines))
    return audio, reference


def with_other_clustering(hub: Path, folder: Path) -> Path:
    """The hub with a clustering that finds one speaker."""
    shutil.copytree(hub, folder)
    config = (folder / "config.toml").read_text()
    (folder / "config.toml").write_text(config.replace("max_speakers = 20", "max_speakers = 1"))
    head, _, _ = config.partition("[clustering.args]")
    (folder / "config.toml").write_text(
        head + '[clustering.args]\nmethod = "AgglomerativeClustering"\nmin_speakers = 1\nmax_speakers = 1\n'
        "ahc_threshold = 0.7\nmin_cluster_size = 1\n"
    )
    return folder
