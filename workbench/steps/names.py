"""The steps of the pipeline by name: what each array is, how two are compared, who else calls it what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workbench.errors import InputError, nearest

Comparison = Literal[
    "values", "decisions", "columns", "matched", "linkage", "partition", "activity", "segments"
]
"""How two sides are compared.

`values`: numbers, within a tolerance. `decisions`: exactly. `columns`: values whose columns may have the
other sign. `matched`: values whose columns may come in another order. `linkage`: merge by merge.
`partition`: labels, up to their names. `activity`: frames of speakers, up to the order of the speakers.
`segments`: turns, up to the names of the speakers.
"""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One named step."""

    name: str  # as it is shown
    array: str  # as it is stored
    axes: tuple[str, ...]  # of its array
    comparison: Comparison = "values"
    aliases: tuple[str, ...] = ()  # what other programs call the array
    absolute: float = 0.0  # difference that is still the same
    relative: float = 0.0  # the same, over the largest value of the row
    about: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """All names its array may have, ours first."""
        return (self.array, *self.aliases)


STEPS: tuple[Step, ...] = (
    Step(
        name="samples",
        array="samples",
        axes=("sample",),
        aliases=("waveform", "audio"),
        absolute=2e-5,  # less than one step of 16 bits
        about="the recording at 16 kHz",
    ),
    Step(
        name="chunks",
        array="chunks",
        axes=("chunk", "bound"),
        comparison="decisions",
        aliases=("chunk_starts",),
        about="first sample of every chunk, and the first one after it",
    ),
    Step(
        name="fbank",
        array="embedding_fbank",
        axes=("chunk", "feature_frame", "mel"),
        aliases=("fbank", "feats", "features"),
        absolute=1e-3,
        relative=1e-4,
        about="features of the embedding model",
    ),
    Step(
        name="scores",
        array="log_probs",
        axes=("chunk", "frame", "class"),
        aliases=("scores", "powerset_log_probs", "segmentation_scores"),
        absolute=1e-3,
        about="log-probabilities of the powerset classes",
    ),
    Step(
        name="powerset",
        array="multilabel",
        axes=("chunk", "frame", "local_speaker"),
        comparison="decisions",
        about="who is active in which chunk",
    ),
    Step(
        name="median filter",
        array="segmentations",
        axes=("chunk", "frame", "local_speaker"),
        comparison="decisions",
        aliases=("segmentation_data", "segmentation", "binarized_segmentations", "binary_segmentations"),
        about="the same, smoothed where that is asked for",
    ),
    Step(
        name="count",
        array="count",
        axes=("time_frame",),
        comparison="decisions",
        aliases=("speaker_counting_data", "speaker_counting", "speaker_count"),
        about="speakers active at once",
    ),
    Step(
        name="masks",
        array="masks",
        axes=("chunk", "local_speaker", "frame"),
        comparison="decisions",
        aliases=("embedding_masks",),
        about="frames that every embedding is pooled over",
    ),
    Step(
        name="embeddings",
        array="embeddings",
        axes=("chunk", "local_speaker", "dimension"),
        aliases=("embeddings_data", "embedding"),
        absolute=1e-5,
        relative=1e-3,
        about="voice of every local speaker in its chunk",
    ),
    Step(
        name="filtered embeddings",
        array="filtered_embeddings",
        axes=("embedding", "dimension"),
        aliases=("train_embeddings", "training_embeddings"),
        absolute=1e-5,
        relative=1e-3,
        about="those that clusters are made of",
    ),
    Step(
        name="PLDA features",
        array="plda_features",
        axes=("embedding", "dimension"),
        comparison="columns",
        aliases=("fea", "plda"),
        absolute=1e-4,
        relative=1e-3,
        about="what VBx works on; columns are defined up to their sign",
    ),
    Step(
        name="dendrogram",
        array="dendrogram",
        axes=("merge", "column"),
        comparison="linkage",
        aliases=("linkage", "ahc_linkage", "linkage_matrix"),
        absolute=1e-4,
        relative=1e-3,
        about="merges as SciPy has them: two clusters, height, size",
    ),
    Step(
        name="AHC labels",
        array="ahc_labels",
        axes=("embedding",),
        comparison="partition",
        aliases=("ahc_clusters",),
        about="where VBx starts from: cluster of every embedding",
    ),
    Step(
        name="VBx responsibilities",
        array="vbx_gamma",
        axes=("embedding", "speaker"),
        comparison="matched",
        aliases=("gamma",),
        absolute=1e-3,
        about="how much every speaker has of every embedding",
    ),
    Step(
        name="VBx priors",
        array="vbx_pi",
        axes=("speaker",),
        comparison="matched",
        aliases=("pi",),
        absolute=1e-3,
        about="how often every speaker is heard; near 0: switched off",
    ),
    Step(
        name="labels",
        array="hard_clusters",
        axes=("chunk", "local_speaker"),
        comparison="partition",
        aliases=("labels", "clusters"),
        about="speaker of every local speaker",
    ),
    Step(
        name="reconstruction",
        array="discrete_diarization",
        axes=("time_frame", "speaker"),
        comparison="activity",
        aliases=("discrete_diarization_data", "diarization_data", "reconstruction"),
        about="who speaks in every frame of the recording",
    ),
    Step(
        name="segments",
        array="segments",
        axes=("segment", "start_end_speaker"),
        comparison="segments",
        aliases=("expected", "annotation"),
        absolute=2e-3,  # s, as RTTM rounds
        about="turns: start and end in seconds, speaker",
    ),
)
"""In the order of the pipeline."""

BY_NAME = {name: step for step in reversed(STEPS) for name in (*step.names, step.name)}
"""Step of every name, our own and those of speakrs' fixtures and pyannote's hooks."""


def step_of(name: str) -> Step:
    """The step of that name or array; an `InputError` that names the nearest.

    Examples
    --------
    >>> step_of("speaker_counting_data").name
    'count'
    """
    if name not in BY_NAME:
        names = [step.name for step in STEPS]
        raise InputError(f"unknown step {name!r}{nearest(name, BY_NAME)}; steps are {', '.join(names)}")
    return BY_NAME[name]
