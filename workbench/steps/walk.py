"""Walking the steps of two or more sides: which one differs first, where, and by how much."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from workbench.errors import InputError, RecordingError
from workbench.steps.clock import Clock, chunks_of_embeddings
from workbench.steps.differences import compare_columns, compare_matched, compare_values
from workbench.steps.local_speakers import LocalOrder, find_local_order
from workbench.steps.names import STEPS, Step, step_of
from workbench.steps.partitions import (
    compare_activity,
    compare_linkages,
    compare_partitions,
    compare_segments,
)
from workbench.steps.reading import StepsFolder, open_steps
from workbench.steps.results import RecordingWalk, Status, StepDifference, StepsWalk

Tolerances = Mapping[str, tuple[float, float]]
"""Step name -> absolute and relative tolerance."""

_COMPARE: Mapping[str, Callable[[Step, np.ndarray, np.ndarray, Clock], StepDifference]] = {
    "values": compare_values,
    "decisions": compare_values,
    "columns": compare_columns,
    "matched": compare_matched,
    "linkage": compare_linkages,
    "partition": compare_partitions,
    "activity": compare_activity,
    "segments": compare_segments,
}


def walk_steps(
    sides: Sequence[str | StepsFolder],
    *,
    tolerances: Tolerances | None = None,
    uris: Sequence[str] | None = None,
    on_recording: Callable[[str], None] | None = None,
) -> StepsWalk:
    """Compare the steps of every recording: each side with the first, and with the one before it.

    Parameters
    ----------
    sides : folders, or what `open_steps` gives; at least two
    tolerances : step -> absolute and relative tolerance, in place of the usual ones
    uris : recordings to compare; by default those that all sides have
    on_recording : called with the name of every recording that is done

    Returns
    -------
    walk : StepsWalk
    """
    if len(sides) < 2:
        raise InputError("steps are compared between two or more sides; name another folder")
    folders = [side if isinstance(side, StepsFolder) else open_steps(side) for side in sides]
    names = _distinct([folder.name for folder in folders])
    steps = _with_tolerances(tolerances or {})
    chosen, missing, remarks = _recordings(folders, names, uris)
    pairs = dict.fromkeys((a, b) for b in range(1, len(folders)) for a in (0, b - 1))
    walks: list[RecordingWalk] = []
    failed = list(missing)
    for uri, theirs in chosen.items():
        for a, b in pairs:
            try:
                compared = tuple(walk_recording(folders[a], folders[b], theirs[a], theirs[b], steps))
            except (RecordingError, InputError) as error:
                failed.append((uri, str(error)))
                continue
            walks.append(RecordingWalk(uri=uri, baseline=names[a], candidate=names[b], steps=compared))
        remarks += _remarks(walks, uri, len(chosen))
        if on_recording is not None:
            on_recording(uri)
    for folder, name in zip(folders, names, strict=True):
        if folder.unknown:
            remarks.append(
                f"{name}: {', '.join(folder.unknown[:5])}{' …' if len(folder.unknown) > 5 else ''} not read: "
                "no step has such a name; say in steps.toml what they are"
            )
    return StepsWalk(
        sides=tuple(names),
        walks=tuple(walks),
        failed=tuple(dict.fromkeys(failed)),
        remarks=tuple(remarks),
    )


def walk_recording(
    baseline: StepsFolder,
    candidate: StepsFolder,
    uri: str,
    other_uri: str,
    steps: Sequence[Step] = STEPS,
) -> list[StepDifference]:
    """All steps of one recording in the order of the pipeline; those that a side lacks are `absent`."""
    first, second = baseline.names(uri), candidate.names(other_uri)
    for side, names, name in ((baseline, first, uri), (candidate, second, other_uri)):
        if not names:
            files = sorted({str(path) for path in side.recordings[name].values()})
            where = files[0] if files else str(side.folder / f"{name}.npz")
            raise RecordingError(f"{where}: no array of a step can be read; the file is damaged or has none")

    def load(array: str, both: bool = True) -> tuple[np.ndarray, np.ndarray]:
        a, b = _under_one_name(first[array], second[array] if both else first[array])
        return baseline.load(uri, a), candidate.load(other_uri, b) if both else np.zeros(0)

    clock = Clock(geometry=baseline.geometry or candidate.geometry)
    if {"filtered_embeddings", "embeddings"} <= first.keys():
        filtered, embeddings = load("filtered_embeddings", False)[0], load("embeddings", False)[0]
        clock = replace(clock, embedding_chunks=chunks_of_embeddings(filtered, embeddings))
    shared = {step.array: step for step in steps if step.array in first and step.array in second}

    def canonical(array: str) -> tuple[np.ndarray, np.ndarray]:
        a, b = (_canonical(shared[array], each) for each in load(array))
        return a, b

    order = find_local_order(shared, canonical, clock.geometry)
    found: list[StepDifference] = []
    for step in steps:
        if step.array not in first or step.array not in second:
            where = (
                "either side"
                if step.array not in {*first, *second}
                else ("the baseline" if step.array not in first else "the candidate")
            )
            found.append(StepDifference(step=step.name, status="absent", words=f"not on {where}"))
            continue
        a, b = canonical(step.array)
        if step.array == "chunks":
            a, b = _chunk_starts(a, b)
        ordered = b if order is None else order.apply(step, b)
        if step.array == "hard_clusters" and "segmentations" in first:
            decided = load("segmentations", False)[0]
            active = np.asarray(decided.any(axis=1)) if decided.ndim == 3 else None
            compared = compare_partitions(step, a, ordered, clock, active)
        else:
            compared = _COMPARE[step.comparison](step, a, ordered, clock)
        found.append(compared if ordered is b or order is None else _permuted(compared, order))
    return found


def _permuted(found: StepDifference, order: LocalOrder) -> StepDifference:
    """The comparison with a word on the order that was undone for it."""
    words = f"{order.words}; once that is undone: {found.words}"
    status: Status = "within" if found.status == "same" else found.status
    details = {**found.details, "permuted_chunks": len(order.moved)}
    return replace(found, status=status, words=words, details=details)


def _remarks(walks: Sequence[RecordingWalk], uri: str, num_recordings: int) -> list[str]:
    """What was undone before steps of a recording were compared."""
    found = []
    for walk in walks:
        for key, what in (("permuted_chunks", "local speakers of {} chunks are permuted"), ("padding", "{}")):
            step = next((step for step in walk.steps if key in step.details), None)
            if walk.uri == uri and step is not None:
                where = f" [{uri}]" if num_recordings > 1 else ""
                said = what.format(step.details[key])
                found.append(f"{walk.candidate}: {said}, from step {step.step} on; undone{where}")
    return found


def parse_tolerances(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Tolerances out of `STEP=ABSOLUTE` or `STEP=ABSOLUTE,RELATIVE`.

    Examples
    --------
    >>> parse_tolerances(["embeddings=0.02,0.1", "scores=0.001"])
    {'embeddings': (0.02, 0.1), 'scores': (0.001, 0.0)}
    """
    found = {}
    for text in texts:
        name, equals, numbers = text.partition("=")
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            values = []
        if not equals or len(values) not in (1, 2) or not all(0 <= value < np.inf for value in values):
            raise InputError(
                f"a tolerance reads STEP=ABSOLUTE or STEP=ABSOLUTE,RELATIVE with numbers of at least 0, "
                f"got {text!r}"
            )
        found[step_of(name).name] = (values[0], values[1] if len(values) == 2 else 0.0)
    return found


def _with_tolerances(tolerances: Tolerances) -> list[Step]:
    wanted = {step_of(name).name: pair for name, pair in tolerances.items()}
    return [
        replace(step, absolute=wanted[step.name][0], relative=wanted[step.name][1])
        if step.name in wanted
        else step
        for step in STEPS
    ]


def _recordings(
    folders: Sequence[StepsFolder], names: Sequence[str], uris: Sequence[str] | None
) -> tuple[dict[str, list[str]], list[tuple[str, str]], list[str]]:
    """Recordings that are compared (under the first side's name), those that a side lacks, and remarks."""
    common = [uri for uri in folders[0].uris if all(uri in folder.recordings for folder in folders[1:])]
    if not common and uris is None and all(len(folder.uris) == 1 for folder in folders):
        theirs = [folder.uris[0] for folder in folders]
        remark = f"compared although they have other names: {', '.join(theirs)}"
        return {theirs[0]: theirs}, [], [remark]
    wanted = list(uris) if uris is not None else list(dict.fromkeys(u for f in folders for u in f.uris))
    failed = [
        (uri, f"{name}: holds no recording {uri!r}")
        for uri in wanted
        for folder, name in zip(folders, names, strict=True)
        if uri not in folder.recordings
    ]
    if not common:
        known = "; ".join(f"{n} has {', '.join(f.uris[:3])}" for f, n in zip(folders, names, strict=True))
        raise InputError(f"the sides have no recording in common: {known}")
    return {uri: [uri] * len(folders) for uri in common if uri in wanted}, failed, []


def _under_one_name(first: Sequence[str], second: Sequence[str]) -> tuple[str, str]:
    """The names to compare: one that both sides use, if there is one."""
    common = next((name for name in first if name in second), None)
    return (common, common) if common is not None else (first[0], second[0])


def _canonical(step: Step, array: np.ndarray) -> np.ndarray:
    """Without axes of size one that others keep: (num_frames, 1) counts, (1, num_chunks, ...) batches."""
    wanted = len(step.axes)
    while array.ndim > wanted and 1 in array.shape:
        place = 0 if array.shape[0] == 1 else array.ndim - 1 - array.shape[::-1].index(1)
        array = array.squeeze(axis=place)
    return array


def _chunk_starts(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First samples alone, where one side has nothing else."""
    if first.ndim == second.ndim and first.shape[-1] == second.shape[-1]:
        return first, second
    starts = [each[:, 0] if each.ndim == 2 and each.shape[1] == 2 else each for each in (first, second)]
    return starts[0], starts[1]


def _distinct(names: list[str]) -> list[str]:
    """Names, numbered where two are the same."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]
