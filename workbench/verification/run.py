"""Trial lists from audio or from embeddings made earlier, to numbers: what `workbench verify` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workbench.embedding_files import EmbeddingSet
from workbench.errors import InputError, RecordingError
from workbench.extraction import ExtractionParams, Item, extract, gather
from workbench.runtimes.base import Runtime
from workbench.runtimes.recorded import RecordedRuntime
from workbench.verification.metrics import PRIORS, Verification, evaluate
from workbench.verification.scoring import TOP_N, CosineScorer, Scorer, score_trials
from workbench.verification.trials import Trials

Failed = list[dict[str, str]]  # {"uri", "error"}, as every command's JSON has it
Source = Runtime | EmbeddingSet  # where embeddings come from: a model, or a file of them

_SIMILAR_SHOWN = 3


@dataclass(frozen=True, eq=False, kw_only=True)
class VerifiedTrials:
    """Trials that could be scored, with their numbers."""

    trials: Trials
    embeddings: EmbeddingSet
    verification: Verification
    left_out: int  # trials that lack a side


def embed_items(
    items: Sequence[Item],
    source: Source,
    params: ExtractionParams | None = None,
    *,
    workers: int = 1,
    mean: np.ndarray | None = None,
    on_done: Callable[[str], None] | None = None,
) -> tuple[EmbeddingSet, Failed]:
    """Embeddings of items in their order, from a model, from a recorded run or from a file.

    Parameters
    ----------
    items : what to embed
    source : model, recorded folder, or embeddings by name
    params, workers : as of `extract`
    mean : float array, shape (dimension,), optional
        Subtracted from every embedding.
    on_done : progress callback, gets the name

    Returns
    -------
    embeddings, failed
    """
    found: dict[int, np.ndarray] = {}
    failed: dict[int, str] = {}
    if isinstance(source, EmbeddingSet | RecordedRuntime):
        outcomes = ((index, _recorded(item, source)) for index, item in enumerate(items))
    else:
        outcomes = extract(items, source, params, workers=workers)  # type: ignore[assignment]
    for index, outcome in outcomes:
        if isinstance(outcome, RecordingError):
            failed[index] = str(outcome)
        elif not np.isfinite(outcome).all():
            failed[index] = "its embedding holds values that are not finite"
        else:
            found[index] = outcome
        if on_done is not None:
            on_done(items[index].name)
    reasons = [{"uri": items[index].name, "error": failed[index]} for index in sorted(failed)]
    return gather(items, found, mean), reasons


def _recorded(item: Item, source: EmbeddingSet | RecordedRuntime) -> np.ndarray | RecordingError:
    """An embedding made earlier, by the name of the item, of its file, or of its file without ending."""
    names = dict.fromkeys([item.name, item.path.name, item.path.stem])
    if isinstance(source, EmbeddingSet):
        for name in names:
            if name in source:
                return source[name]
        shown = ", ".join(source.names[:_SIMILAR_SHOWN])
        return RecordingError(f"no embedding is named {item.name!r}; there are {len(source)} ({shown} ...)")
    if item.start is not None:
        return RecordingError(f"{item.name}: recorded embeddings are of whole recordings")
    for name in names:
        if name in source.uris:
            rows = source.embeddings(name)
            rows = rows.reshape(-1, rows.shape[-1])
            rows = rows[np.isfinite(rows).all(axis=1)]
            if not len(rows):
                return RecordingError(f"{source}: holds no finite embedding of {name!r}")
            average: np.ndarray = rows.mean(axis=0)
            return average
    return RecordingError(f"{source}: holds no recording {item.path.stem!r}")


def verify_trials(
    trials: Trials,
    embeddings: EmbeddingSet,
    scorer: Scorer | None = None,
    *,
    cohort: np.ndarray | None = None,
    top_n: int = TOP_N,
    priors: Sequence[float] = PRIORS,
    c_miss: float = 1.0,
    c_fa: float = 1.0,
) -> VerifiedTrials:
    """Score trials and evaluate those that have both sides; arguments as of `score_trials`, `evaluate`."""
    if not len(embeddings):
        raise InputError("no recording of the trials could be embedded")
    scores = score_trials(trials, embeddings, scorer or CosineScorer(), cohort=cohort, top_n=top_n)
    known = ~np.isnan(scores)
    kept = trials.only(known)
    return VerifiedTrials(
        trials=kept,
        embeddings=embeddings,
        verification=evaluate(scores[known], kept.target, priors, c_miss, c_fa),
        left_out=int((~known).sum()),
    )


def average_by_speaker(embeddings: EmbeddingSet, speakers: Mapping[str, str]) -> np.ndarray:
    """Mean embedding of every speaker, (num_speakers, dimension): the cohort that WeSpeaker takes.

    Parameters
    ----------
    embeddings : of single recordings
    speakers : speaker by name of the embedding
    """
    labels = [speakers.get(name) for name in embeddings.names]
    known = sorted({label for label in labels if label is not None})
    if not known:
        raise InputError("no embedding of the cohort has a speaker")
    rows = np.array(labels, dtype=object)
    return np.stack([embeddings.embeddings[rows == label].mean(axis=0) for label in known])


def read_speakers(path: Path) -> dict[str, str]:
    """Speaker by name, from a Kaldi `utt2spk`: a line `<name> <speaker>` each."""
    from workbench.textfiles import read_lines, split_fields

    speakers: dict[str, str] = {}
    for number, line in read_lines(path):
        fields = split_fields(line)
        if len(fields) != 2:
            raise InputError.at(path, f"expected '<name> <speaker>', found {line[:120]!r}", number)
        if fields[0] in speakers:
            raise InputError.at(path, f"names {fields[0]!r} twice", number)
        speakers[fields[0]] = fields[1]
    if not speakers:
        raise InputError.at(path, "names nobody; expected lines '<name> <speaker>'")
    return speakers
