"""What `workbench sweep` is given, checked before any work: features, references, regions, parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.cli import options as o
from workbench.cli.score import TRUST
from workbench.errors import InputError, RecordingError, nearest

if TYPE_CHECKING:
    from pyannote.core import Annotation, Timeline

    from workbench.clustering import PLDA
    from workbench.sweeps.grid import SweepSettings
    from workbench.sweeps.run import Recording
    from workbench.tuning.space import Space


def open_features(files: dict[str, Path]) -> dict[str, tuple[Path, str, str | None]]:
    """For every file its path, its recording's id and its kind: chunks, segments, or None with no id."""
    from workbench.features import read_header

    opened: dict[str, tuple[Path, str, str | None]] = {}
    for name, path in files.items():
        try:
            uri, kind = read_header(path)
        except RecordingError as error:
            opened[name] = path, str(error), None
            continue
        opened[name] = path, uri, kind
    return opened


def kind_of(opened: dict[str, tuple[Path, str, str | None]]) -> str:
    """The kind of features that is swept: one embedding per segment only if there are no others."""
    kinds = {kind for _, _, kind in opened.values() if kind is not None}
    return "segments" if kinds == {"segments"} else "chunks"


def base_settings(
    opened: dict[str, tuple[Path, str, str | None]],
    config: Path | None,
    preset: o.Preset | None,
    clustering: o.Clustering | None,
    options: dict[str, Any],
) -> SweepSettings:
    """The parameters that no grid names, for the kind of features that there are."""
    from workbench.clustering import XVectorParams
    from workbench.sweeps.grid import SweepSettings

    if kind_of(opened) == "chunks":
        return SweepSettings(
            clustering=o.pipeline_params(None, config, preset, clustering, **options).clustering
        )
    for name, value in (("--config", config), ("--preset", preset)):
        if value is not None:
            raise InputError(
                f"{name} is for features per chunk and local speaker; these have one embedding per segment"
            )
    given = {name: value for name, value in options.items() if value is not None}
    if clustering is not None:
        given["method"] = clustering.value
    return SweepSettings(clustering=XVectorParams()).replace(**given)


def check_plda(space: Space, plda: PLDA | None) -> None:
    """An error now, not in every worker, where a cell runs VBx and there is no PLDA."""
    if plda is not None:
        return
    methods = space.grid.values.get("method", ())
    presets = set(space.grid.values.get("preset", ())) - {"pyannote-3.1"}
    if "vbx" in methods or (not methods and (presets or space.base.method == "vbx")):
        raise InputError(
            "VBx clustering needs a PLDA: name its folder with --plda (plda.npz and xvec_transform.npz), "
            "or choose --clustering ahc"
        )


def match(
    opened: dict[str, tuple[Path, str, str | None]],
    references: dict[str, Annotation],
    regions: dict[str, Timeline] | None,
    trusted: bool,
) -> tuple[list[Recording], list[dict[str, str]], list[str]]:
    """Recordings with all that they need, those that lack something, and lines worth saying."""
    from workbench.scoring.references import check_references, require_references
    from workbench.sweeps.run import Recording

    recordings: dict[str, Recording] = {}
    failed: list[dict[str, str]] = []
    left_out: list[str] = []
    main = kind_of(opened)
    for name, (path, uri, kind) in opened.items():
        if kind is None:
            failed.append({"uri": name, "error": uri})
        elif kind != main:
            failed.append(
                {
                    "uri": uri,
                    "error": f"{path}: has one embedding per segment, the others one per chunk and local "
                    "speaker; sweep the two kinds apart",
                }
            )
        elif uri in recordings:
            raise InputError.at(path, f"recording {uri!r} is also in {recordings[uri].features}")
        elif uri not in references:
            failed.append({"uri": uri, "error": f"the reference does not name it{nearest(uri, references)}"})
        elif regions is not None and uri not in regions:
            left_out.append(uri)
        else:
            recordings[uri] = Recording(
                uri=uri,
                features=path,
                reference=references[uri],
                uem=None if regions is None else regions[uri],
            )
    notes = []
    if left_out:
        notes.append(f"warning: left out, because the UEM does not name them: {', '.join(sorted(left_out))}")
    unused = sorted(set(references) - {uri for _, uri, _ in opened.values()})
    if unused:
        shown = ", ".join(unused[:5]) + (f" and {len(unused) - 5} more" if len(unused) > 5 else "")
        notes.append(f"warning: in the reference, but without a features file: {shown}")
    if not recordings:
        reasons = "; ".join(f"{each['uri']}: {each['error']}" for each in failed[:5]) or notes[0]
        raise InputError(f"no recording can be scored: {reasons}")
    used = {uri: references[uri] for uri in recordings}
    hint = f"correct it, or give {TRUST} to sweep all the same"
    if trusted:
        found = check_references(used, None, regions)
    else:
        found = require_references(used, None, regions, hint=hint)
    remarks = [str(each) for each in found]
    if regions is None:  # else they say which part of the recording is meant
        paths = {uri: path for path, uri, _ in opened.values()}
        remarks += _beyond_the_end({uri: paths[uri] for uri in recordings}, used)
    return list(recordings.values()), failed, [*notes, *(f"warning: {each}" for each in remarks)]


def _beyond_the_end(paths: dict[str, Path], references: dict[str, Annotation]) -> list[str]:
    """Remarks on references that go on after the last chunk: perhaps of other recordings of that name."""
    from workbench.features import read_duration
    from workbench.scoring.references import check_references

    ends = {uri: read_duration(path) for uri, path in paths.items()}
    durations = {uri: end for uri, end in ends.items() if end is not None}
    findings = check_references({uri: references[uri] for uri in durations}, None, None, durations)
    return [
        f"{finding}; is it the reference of these features?"
        for finding in findings
        if finding.check == "duration"
    ]
