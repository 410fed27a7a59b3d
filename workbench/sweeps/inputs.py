"""What a sweep is given, read and checked before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pyannote.core import Annotation, Timeline

from workbench.clustering import PLDA
from workbench.errors import InputError, RecordingError, expect, expect_count, expect_number
from workbench.features import load_features
from workbench.rttm import read_rttm, read_uem
from workbench.sweeps.grid import Grid
from workbench.sweeps.settings import SweepSettings, check_base, default_settings
from workbench.types import Features, SegmentFeatures

AnyFeatures = Features | SegmentFeatures
Source = AnyFeatures | str | os.PathLike[str]

_PATH = (str, os.PathLike)


def read_features(
    given: Source | Iterable[Source], left_out: list[RecordingError] | None = None
) -> list[AnyFeatures]:
    """Features of all kinds of sources: objects, files, folders, and lists of them.

    Errors of single recordings are added to `left_out` where that is given.
    """
    if isinstance(given, Features | SegmentFeatures):
        return [given]
    if isinstance(given, _PATH):
        path = Path(given)
        if path.is_dir():
            if files := sorted(path.glob("*.npz")):
                return [features for file in files for features in read_features(file, left_out)]
            raise InputError.at(path, "this folder holds no features (.npz)")
        try:
            return [load_features(path)]
        except RecordingError as error:
            if left_out is None:
                raise
            left_out.append(error)
            return []
    wanted = "features must be Features, their files (.npz), a folder of them, or a list of these"
    expect(given, Iterable, wanted)
    if isinstance(given, bytes | np.ndarray):  # of numbers
        raise InputError(f"{wanted}, got {type(given).__name__}")
    return [features for each in _values(given) for features in read_features(each, left_out)]


def read_references(
    given: Annotation | Mapping[str, Annotation] | str | os.PathLike[str], uris: Sequence[str]
) -> dict[str, Annotation]:
    """The reference of every recording."""
    if isinstance(given, Annotation):
        if len(uris) > 1:
            raise InputError(
                f"references is one annotation, but there are {len(uris)} recordings; give them by recording"
            )
        return {uri: given for uri in uris}
    named = read_rttm(Path(given)) if isinstance(given, _PATH) else given
    expect(named, Mapping, "references must be an RTTM file, or annotations by recording")
    for uri in uris:
        if named.get(uri) is None:
            raise InputError(f"no reference for recording {uri!r}; there are {', '.join(map(str, named))}")
        expect(named[uri], Annotation, f"references[{uri!r}] must be an Annotation")
    return {uri: named[uri] for uri in uris}


def read_regions(
    given: Mapping[str, Timeline] | str | os.PathLike[str] | None, uris: Sequence[str]
) -> dict[str, Timeline]:
    """The scored regions of those recordings that have some."""
    if given is None:
        return {}
    named = read_uem(Path(given)) if isinstance(given, _PATH) else given
    expect(named, Mapping, "uem must be a UEM file, or Timelines by recording")
    found = {uri: named[uri] for uri in uris if named.get(uri) is not None}
    for uri, regions in found.items():
        expect(regions, Timeline, f"uem[{uri!r}] must be a Timeline")
    return found


def read_plda(given: PLDA | str | os.PathLike[str] | None) -> PLDA | None:
    """A PLDA or the folder of one."""
    expect(given, (PLDA, *_PATH, type(None)), "plda must be a PLDA, or the folder of one")
    return PLDA.load(given) if isinstance(given, _PATH) else given


def read_grid(
    given: Grid | Mapping[str, Any] | Iterable[str],
    features: AnyFeatures,
    base: SweepSettings | None = None,
    clustering: Callable[..., Any] | None = None,
) -> Grid:
    """The grid over the settings that `features` are usually swept from, where there is no `base`."""
    check_base(base)
    if base is None:
        base = default_settings(features)
    if clustering is not None:
        base = base.with_function(clustering)
    if isinstance(given, Grid):
        if clustering is not None and getattr(given.base.clustering, "function", None) is not clustering:
            raise InputError("this Grid was made for other parameters; give its values as a mapping instead")
        return given
    if isinstance(given, Mapping):
        return Grid.of(given, base)
    wanted = "grid must map names to values, or list texts NAME=a,b,c or NAME=start:stop:num"
    expect(given, Iterable, wanted)
    return Grid.parse(given, base)


def check_options(
    *, collar: Any, skip_overlap: Any, hook: Any = None, jobs: Any = 1, executor: Any = None, out: Any = None
) -> None:
    """Refuse what would fail late, or count for something else than was meant."""
    expect_number(collar, "collar must be a number of seconds of at least 0", low=0)
    expect(skip_overlap, (bool, np.bool_), "skip_overlap must be True or False")
    expect_count(jobs, "jobs must be a whole number of processes of at least 1", low=1)
    check_hook(hook)
    if executor is not None and not callable(getattr(executor, "submit", None)):
        raise InputError(f"executor must be a concurrent.futures.Executor, got {type(executor).__name__}")
    expect(out, (*_PATH, type(None)), "out must be the path of a folder")


def check_hook(hook: Any) -> None:
    """Refuse what cannot be called as ``hook(done, total)``."""
    if hook is not None and not callable(hook):
        raise InputError(f"hook must be a function of (done, total), got {type(hook).__name__}")


def _values(given: Any) -> Iterable[Any]:
    return given.values() if isinstance(given, Mapping) else given
