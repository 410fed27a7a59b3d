"""Figures of the demo models, and the clustering parameters that go with them.

Everything runs through the workbench's own pipeline on the assembled hub folder, so the figures are those a
user gets. Diarization error rates have no collar and include overlap.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from pyannote.core import Annotation

from scripts.demo.assemble import ClusteringArguments
from scripts.demo.embedding import EMBEDDING_DIMS, embed, trial_error_rate
from scripts.demo.readers import AUDIO_SUFFIXES, find_utterances
from scripts.demo.voices import SAMPLE_RATE, Speaker
from workbench.clustering import PLDA, VBxParams
from workbench.config import PipelineParams
from workbench.features import load_features, save_features
from workbench.models.kaldi_fbank import kaldi_fbank
from workbench.models.resnet import WeSpeakerResNet
from workbench.pipeline import diarize_features, extract_features, load_hub
from workbench.rttm import read_rttm
from workbench.scoring import score
from workbench.scoring.diarization import DiarizationCounts
from workbench.types import Features

AHC_THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8)
FA = (0.05, 0.07, 0.1, 0.2, 0.4, 0.6)
FB = (0.5, 0.8, 1.5, 3.0, 6.0, 12.0, 24.0)
LDA_DIMS = (32, 64, 128)
PLATEAU = 0.005  # DER this close to the best counts as equal
_CROP = 2.0  # s


def recordings_in(folder: Path) -> list[Path]:
    """Audio files of a folder, sorted."""
    return sorted(path for path in folder.iterdir() if path.suffix in AUDIO_SUFFIXES)


def features_of(paths: list[Path], hub: Path, cache: Path) -> dict[str, Features]:
    """What clustering needs of every recording, computed once."""
    cache.mkdir(parents=True, exist_ok=True)
    runtimes, params = load_hub(hub)
    found = {}
    for path in paths:
        stored = cache / f"{path.stem}.npz"
        if not stored.exists():
            save_features(stored, extract_features(path, runtimes, params))
        found[path.stem] = load_features(stored)
    return found


def read_references(folder: Path) -> dict:
    """Annotations of all RTTM files of a folder, by uri."""
    references = {}
    for path in sorted(folder.glob("*.rttm")):
        references.update(read_rttm(path))
    return references


def score_all(
    features: dict[str, Features], references: dict[str, Annotation], params: PipelineParams, plda: PLDA
) -> dict[str, DiarizationCounts]:
    """Error counts of every recording."""
    return {
        uri: score(references[uri], diarize_features(found, params, plda)) for uri, found in features.items()
    }


def total_of(counts: Iterable[DiarizationCounts]) -> DiarizationCounts:
    """One sum over recordings."""
    return sum(counts, start=DiarizationCounts())


def choose_clustering(
    features: dict[str, Features], references: dict[str, Annotation], params: PipelineParams, plda: PLDA
) -> tuple[ClusteringArguments, list[dict[str, float]]]:
    """The VBx parameters for these recordings, and the whole grid.

    Four short recordings cannot tell neighbouring parameters apart, so of all points within `PLATEAU` of the
    lowest error the one nearest to DiariZen's own parameters is taken, counted in grid steps.
    """
    axes = {"ahc_threshold": AHC_THRESHOLDS, "Fa": FA, "Fb": FB, "lda_dim": LDA_DIMS}
    steps = list(product(*(range(len(values)) for values in axes.values())))
    points = [
        {name: values[i] for i, (name, values) in zip(step, axes.items(), strict=True)} for step in steps
    ]
    ders = []
    for point in points:
        varied = replace(params, clustering=VBxParams(**point))
        ders.append(total_of(score_all(features, references, varied, plda).values()).der)
    plateau = [i for i, der in enumerate(ders) if der <= min(ders) + PLATEAU]
    own = asdict(ClusteringArguments())
    home = np.array([values.index(own[name]) for name, values in axes.items()])
    distance = [np.abs(np.array(steps[i]) - home).sum() for i in plateau]
    chosen = ClusteringArguments(**points[plateau[int(np.argmin(distance))]])
    table = [{**point, "der": round(der, 4)} for point, der in zip(points, ders, strict=True)]
    return chosen, table


def rates(counts: DiarizationCounts) -> dict[str, float]:
    """Seconds and rates of error counts, for the figures file."""
    return {
        "total": round(counts.total, 2),
        "der": round(counts.der, 4),
        "missed": round(counts.missed / counts.total, 4),
        "false_alarm": round(counts.false_alarm / counts.total, 4),
        "confusion": round(counts.confusion / counts.total, 4),
    }


def diarization_figures(
    features: dict[str, Features], references: dict[str, Annotation], params: PipelineParams, plda: PLDA
) -> dict[str, dict]:
    """Rates of every recording and of all together."""
    counts = score_all(features, references, params, plda)
    return {
        "overall": rates(total_of(counts.values())),
        "recordings": {uri: rates(found) for uri, found in counts.items()},
    }


def load_embedding(path: Path) -> WeSpeakerResNet:
    """The network in a pyannote-form file that this recipe wrote."""
    stored = torch.load(path, weights_only=True)["state_dict"]
    model = WeSpeakerResNet(EMBEDDING_DIMS)
    model.load_state_dict({key.removeprefix("resnet."): value for key, value in stored.items()})
    return model


def verification_figures(model: WeSpeakerResNet, voices: dict[str, list[np.ndarray]]) -> dict[str, float]:
    """Equal error rates of the cosine over all pairs of whole utterances and of 2 s crops.

    `voices` holds float32 utterances by speaker. Crops are consecutive and do not overlap.
    """
    figures = {"speakers": len(voices)}
    for name, length in (("whole", None), ("crops_2s", int(_CROP * SAMPLE_RATE))):
        fbanks, labels = [], []
        for speaker, utterances in voices.items():
            pieces = [piece for utterance in utterances for piece in cut_evenly(utterance, length)]
            fbanks += [kaldi_fbank(torch.from_numpy(piece)[None])[0] for piece in pieces]
            labels += [speaker] * len(pieces)
        figures[f"items_{name}"] = len(labels)
        figures[f"eer_{name}"] = round(trial_error_rate(embed(model, fbanks), np.array(labels)), 4)
    return figures


def cut_evenly(utterance: np.ndarray, length: int | None) -> list[np.ndarray]:
    """The utterance itself, or its consecutive pieces of `length` samples."""
    if length is None:
        return [utterance]
    return [utterance[start : start + length] for start in range(0, len(utterance) - length + 1, length)]


def synthetic_voices(speakers: list[Speaker]) -> dict[str, list[np.ndarray]]:
    """Utterances of at least two seconds of the voices that only the demo corpus has."""
    return {
        speaker.base: [p.astype(np.float32) / 32768 for p in speaker.pieces if len(p) >= _CROP * SAMPLE_RATE]
        for speaker in speakers
        if speaker.split == "demo" and speaker.rate == 1.0
    }


def read_voices(folder: Path) -> dict[str, list[np.ndarray]]:
    """Whole utterances of a folder of readers."""
    return {
        reader: [sf.read(path, dtype="float32")[0] for path in paths]
        for reader, paths in find_utterances(folder).items()
    }


def write_figures(path: Path, figures: dict) -> None:
    """`figures.json`, which models/README.md quotes."""
    path.write_text(json.dumps(figures, indent=2) + "\n")
