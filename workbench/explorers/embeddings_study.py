"""What the embedding screen knows: trials scored by one or two models, local speakers of recordings."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pyannote.core import Annotation

from workbench.audio import audio_duration, find_recordings
from workbench.clustering import PLDA, AHCParams, ClusteringParams, VBxParams, run_clustering
from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError
from workbench.explorers.playback import CLIP_LIMIT
from workbench.extraction import ExtractionParams, Item
from workbench.plots.embeddings_local import LocalView
from workbench.plots.embeddings_trials import TrialView
from workbench.rttm import read_rttm
from workbench.runtimes import load_runtime
from workbench.runtimes.base import Runtime
from workbench.similarity import LocalSimilarity, compare_local_speakers, find_stretches
from workbench.sweeps.inputs import Source, read_features
from workbench.types import Features
from workbench.verification import (
    Calibration,
    CosineScorer,
    EmbeddingAgreement,
    PLDAScorer,
    Scorer,
    Trials,
    compare_verification,
    evaluate,
    fit_calibration,
    read_trials,
    score_trials,
    trial_items,
)
from workbench.verification.run import embed_items

Model = str | Runtime | EmbeddingSet
COSINE, PLDA_SCORES = "cosine", "plda"


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """Trials scored by one or two models, and what follows from the scores."""

    trials: Trials
    agreement: EmbeddingAgreement  # of the model with the other, or with itself
    calibration: Calibration | None  # None where scores of the same speaker are no higher
    num_left_out: int  # trials that lack a side

    @property
    def threshold(self) -> float:
        """Where misses and false accepts are equally frequent, half way to the next score."""
        return self.agreement.threshold


class EmbeddingStudy:
    """Trials, the models that score them, and recordings whose local speakers are looked at.

    Parameters
    ----------
    trials : list of pairs, or its file; None: no verification
    models : name -> runtime string (`torch:…`, `onnx:…`), runtime, or embeddings made earlier
    features : objects, files (.npz), or a folder of them; None: no local speakers
    root : folder that the sides of the trials are named from; by default that of the list
    audio : files and folders of recordings, or uri -> path, optional
    references : RTTM file, folder of them, or annotations by recording, optional
    clustering : parameters, or those of a whole pipeline; by default VBx where there is a PLDA, else AHC
    plda : model or its folder, optional
    """

    def __init__(
        self,
        trials: Trials | str | os.PathLike[str] | None,
        models: Mapping[str, Model] | None,
        features: Source | Iterable[Source] | None,
        *,
        root: str | os.PathLike[str] | None = None,
        audio: str | Path | list[str | Path] | Mapping[str, Path] | None = None,
        references: str | Path | Mapping[str, Annotation] | None = None,
        clustering: ClusteringParams | Any = None,
        plda: PLDA | str | os.PathLike[str] | None = None,
    ):
        self.models = dict(models or {})
        if trials is not None and not self.models:
            raise InputError("trials take a model: give models={'a name': 'torch:…' or 'onnx:…'}")
        if trials is None and self.models:
            raise InputError("models score trials: give trials=…, a file with lines 'label a b'")
        folder = None if trials is None or isinstance(trials, Trials) else Path(trials).parent
        self.trials = trials if trials is None or isinstance(trials, Trials) else read_trials(trials)
        self.plda = PLDA.load(plda) if isinstance(plda, str | os.PathLike) else plda
        self.items: dict[str, Item] = {}
        self.failed: list[str] = []  # what could not be embedded, with the reason
        if self.trials is not None:
            found, missing = trial_items(self.trials, Path(root or folder or "."))
            self.items = {item.name: item for item in found}
            self.failed = [reason for _, reason in missing]
        given = [] if features is None else read_features(features)
        self.features = {each.uri: each for each in given if isinstance(each, Features)}
        if given and not self.features:
            raise InputError("these features are of segments; local speakers take those of chunks")
        self.audio = _audio(audio)
        named = read_rttm(Path(references)) if isinstance(references, str | Path) else references
        self.references: Mapping[str, Annotation] = named or {}
        params = getattr(clustering, "clustering", clustering)
        self.clustering: ClusteringParams = params or (AHCParams() if self.plda is None else VBxParams())
        self._embeddings: dict[str, EmbeddingSet] = {}
        self._scored: dict[tuple[str, str, str], Scored] = {}
        self._local: dict[str, LocalSimilarity] = {}

    @property
    def uris(self) -> list[str]:
        """Recordings with local speakers."""
        return list(self.features)

    @property
    def scorings(self) -> list[str]:
        """Ways to compare two embeddings."""
        return [COSINE] if self.plda is None else [COSINE, PLDA_SCORES]

    @property
    def is_ready(self) -> bool:
        """Whether every model has embedded the sides of the trials."""
        return set(self._embeddings) == set(self.models)

    # -- trials --------------------------------------------------------------------------------

    def prepare(self, hook: Callable[[str, int, int], None] | None = None) -> None:
        """Embed the sides of all trials by every model, once.

        Parameters
        ----------
        hook : called as ``hook(model, done, total)``; what it raises ends the work
        """
        items = list(self.items.values())
        for name, model in self.models.items():
            if name in self._embeddings:
                continue
            if hook is not None:
                hook(name, 0, len(items))
            source = load_runtime(model, kind="embedding") if isinstance(model, str) else model
            done = 0

            def on_done(_item: str, name: str = name) -> None:
                nonlocal done
                done += 1
                if hook is not None:
                    hook(name, done, len(items))

            found, failed = embed_items(items, source, ExtractionParams(), on_done=on_done)
            if not len(found):
                raise InputError(f"{name}: nothing could be embedded; {failed[0]['error'] if failed else ''}")
            self.failed += [each["error"] for each in failed if each["error"] not in self.failed]
            self._embeddings[name] = found

    def embeddings(self, name: str) -> EmbeddingSet:
        """Of the sides of the trials."""
        return self._embeddings[name]

    def scored(self, model: str, other: str, scoring: str) -> Scored:
        """Trials scored by a model and by the one it is compared with; `other` may be empty."""
        key = (model, other, scoring)
        if key not in self._scored:
            self._scored[key] = self._score(model, other or model, scoring)
        return self._scored[key]

    def _score(self, model: str, other: str, scoring: str) -> Scored:
        if self.trials is None:
            raise InputError("there are no trials to score: give trials=…")
        scorer: Scorer = CosineScorer() if scoring == COSINE or self.plda is None else PLDAScorer(self.plda)
        both = [self._embeddings[name] for name in (model, other)]
        scores = [score_trials(self.trials, each, scorer) for each in both]
        known = np.isfinite(np.stack(scores)).all(axis=0)
        if not known.any():
            raise InputError("no trial could be scored: no recording of both its sides was found")
        kept = self.trials.only(known)
        first, second = (evaluate(each[known], kept.target) for each in scores)
        try:
            calibration = fit_calibration(first.scores, kept.target, scoring=scoring, runtime=model)
        except InputError:
            calibration = None
        resamples = {} if model != other else {"num_resamples": 0}
        return Scored(
            trials=kept,
            agreement=compare_verification(kept, (both[0], both[1]), (first, second), **resamples),
            calibration=calibration,
            num_left_out=int((~known).sum()),
        )

    def trial_view(
        self, model: str, other: str, scoring: str, threshold: float | None = None, chosen: int | None = None
    ) -> TrialView:
        """What the screen shows of the trials."""
        scored = self.scored(model, other, scoring)
        agreement = scored.agreement
        sides = [agreement.baseline, agreement.candidate] if other else [agreement.baseline]
        return TrialView(
            names=(model, other) if other else (model,),
            verifications=tuple(sides),
            threshold=scored.threshold if threshold is None else threshold,
            scoring=scoring,
            pairs=list(zip(scored.trials.enroll, scored.trials.test, strict=True)),
            calibration=scored.calibration,
            chosen=chosen,
        )

    def sides_of(self, trial: tuple[str, str]) -> list[tuple[Path, float, float]]:
        """Path, start and end (s) of what is heard of either side of a trial, at most half a clip each."""
        sides = []
        for name in trial:
            item = self.items[name]
            start = item.start or 0.0
            end = audio_duration(item.path) if item.end is None else item.end
            sides.append((item.path, start, min(end, start + CLIP_LIMIT / 2)))
        return sides

    # -- local speakers ------------------------------------------------------------------------

    def local_view(
        self,
        uri: str,
        color_by: Literal["cluster", "reference"] = "cluster",
        chosen: tuple[int, int] | None = None,
    ) -> LocalView:
        """What the screen shows of the local speakers of a recording."""
        if uri not in self._local:
            features = self.features[uri]
            found = run_clustering(features, self.clustering, self.plda)
            self._local[uri] = compare_local_speakers(
                features, found.active_clusters, self.references.get(uri)
            )
        return LocalView(found=self._local[uri], color_by=color_by, chosen=chosen)

    def stretches(self, uri: str, chunk: int, local_speaker: int) -> list[tuple[Path, float, float]]:
        """Path, start and end (s) of what a local speaker says in its chunk."""
        if uri not in self.audio:
            raise InputError(f"no audio for {uri}: give audio=…, a folder that holds it")
        found = find_stretches(self.features[uri], chunk, local_speaker)
        return [(self.audio[uri], start, end) for start, end in found]


def _audio(audio: Any) -> dict[str, Path]:
    if audio is None:
        return {}
    if isinstance(audio, Mapping):
        return {uri: Path(path) for uri, path in audio.items()}
    return find_recordings([audio] if isinstance(audio, str | Path) else audio)
