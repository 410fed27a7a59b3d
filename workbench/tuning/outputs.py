"""The chosen parameters in the files that DiariZen and pyannote.audio read.

What a program cannot express is written as a comment, never left out in silence.
"""

from __future__ import annotations

import codecs
import dataclasses
import os
import re
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import tomlkit
import yaml
from tomlkit.exceptions import TOMLKitError

from workbench.clustering import CLUSTERING_PRESETS, AHCParams, VBxParams, XVectorParams
from workbench.clustering.params import CLUSTERING_METHODS
from workbench.errors import InputError, expect, expect_path
from workbench.files import atomic_write
from workbench.sweeps.settings import SweepSettings

DIARIZEN_ARGS = {
    "VBxClustering": (
        *("min_speakers", "max_speakers", "num_speakers", "ahc_criterion", "ahc_threshold"),
        *("Fa", "Fb", "lda_dim", "max_iters"),
    ),
    "AgglomerativeClustering": (
        *("min_speakers", "max_speakers", "num_speakers", "ahc_threshold", "min_cluster_size"),
    ),
}
"""What `[clustering.args]` of DiariZen holds for each method."""

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_MEDIAN_FRAMES = 11  # the width that apply_median_filtering stands for


def diarizen_args(settings: SweepSettings) -> dict[str, Any]:
    """The table `[clustering.args]`; our own `convention` and `linkage` where they are not DiariZen's."""
    _check(settings)
    params = settings.clustering
    method = next((name for name, kind in CLUSTERING_METHODS.items() if type(params) is kind), None)
    if method is None or isinstance(params, XVectorParams):
        raise InputError("one embedding per segment is clustered, which DiariZen's pipeline does not do")
    values = {name: getattr(params, name) for name in DIARIZEN_ARGS[method]}
    if isinstance(params, AHCParams) and params.linkage != "centroid":
        values["linkage"] = params.linkage
    if params.convention != "diarizen":
        values["convention"] = params.convention
    # TOML has no null: what is not there keeps DiariZen's default
    return {"method": method, **{name: value for name, value in values.items() if value is not None}}


def elsewhere(settings: SweepSettings, names: Sequence[str] = ()) -> dict[str, Any]:
    """Settings other than their defaults, or swept, that are no part of the clustering."""
    default = SweepSettings(clustering=settings.clustering)
    return {
        entry.name: getattr(settings, entry.name)
        for entry in dataclasses.fields(settings)
        if entry.name != "clustering"
        and (getattr(settings, entry.name) != getattr(default, entry.name) or entry.name in names)
    }


def merge_toml(
    settings: SweepSettings,
    config: str | os.PathLike[str] | None = None,
    *,
    remarks: Sequence[str] = (),
    names: Sequence[str] = (),
) -> str:
    """A DiariZen configuration with the chosen clustering, as TOML text.

    Parameters
    ----------
    settings : what was chosen
    config : a configuration to put it into; its comments, order and other tables stay as they are
        Without one, the text is the table `[clustering.args]` alone.
    remarks : lines for a comment above the table
    names : parameters that were swept, to be mentioned even at their default
    """
    _check(settings)
    path = None if config is None else expect_path(config, "a DiariZen configuration")
    document = tomlkit.document() if path is None else _parse(path)
    before = tomlkit.dumps(document)
    is_crlf = before.count("\r\n") == before.count("\n") > 0
    if "clustering" not in document:
        document["clustering"] = tomlkit.table(is_super_table=True)
    clustering = document["clustering"]
    if isinstance(clustering, MutableMapping) and "args" not in clustering:
        clustering["args"] = tomlkit.table()
    args = clustering["args"] if isinstance(clustering, MutableMapping) else None
    if not isinstance(args, MutableMapping):
        raise InputError.at(str(config), "[clustering.args] must be a table")
    wanted = diarizen_args(settings)
    given = dict(args)
    for name in ("convention", "linkage", *DIARIZEN_ARGS[wanted["method"]]):
        if name in given and name not in wanted:
            del args[name]  # the chosen parameters have none, and the old one would still hold
    for name, value in wanted.items():
        if name not in given or given[name] != value or type(given[name]) is bool:
            args[name] = value
    text = _comments([*remarks, *_not_in_toml(settings, names)]) + tomlkit.dumps(document)
    return re.sub("(?<!\r)\n", "\r\n", text) if is_crlf else text


def pyannote_params(settings: SweepSettings) -> dict[str, Any]:
    """What `Pipeline.instantiate` of pyannote.audio takes.

    The form of community-1 for VBx and that of 3.1 for AHC.
    """
    _check(settings)
    params = settings.clustering
    if isinstance(params, VBxParams):
        clustering: dict[str, Any] = {"threshold": params.ahc_threshold, "Fa": params.Fa, "Fb": params.Fb}
    elif isinstance(params, AHCParams):
        clustering = {
            "method": params.linkage,
            "min_cluster_size": int(params.min_cluster_size),
            "threshold": params.ahc_threshold,
        }
    else:
        raise InputError("one embedding per segment is clustered, which pyannote's pipeline does not do")
    return {"clustering": clustering, "segmentation": {"min_duration_off": settings.min_duration_off}}


def pyannote_yaml(settings: SweepSettings, *, remarks: Sequence[str] = (), names: Sequence[str] = ()) -> str:
    """`pyannote_params` as YAML that `Pipeline.load_params` reads; the rest as comments."""
    _check(settings)
    form = "community-1" if isinstance(settings.clustering, VBxParams) else "3.1"
    notes = [
        *remarks,
        f"Parameters of pyannote.audio's pipeline {form}: pipeline.load_params(this file)",
        *_not_in_yaml(settings, names),
    ]
    content = yaml.safe_dump({"params": pyannote_params(settings)}, sort_keys=False)
    return _comments(notes) + content


def write_best(
    folder: str | os.PathLike[str],
    settings: SweepSettings,
    *,
    config: str | os.PathLike[str] | None = None,
    remarks: Sequence[str] = (),
    names: Sequence[str] = (),
) -> dict[str, Path]:
    """Write `best.toml` and `best.yaml`.

    For one embedding per segment, `best.toml` holds the options of `vbhmm.py`; a `best.yaml`, which
    pyannote could not use, is not written, and one of an earlier sweep is removed.
    """
    _check(settings)
    folder = expect_path(folder, "a folder to write the best parameters to")
    if isinstance(settings.clustering, XVectorParams):
        contents = {"best.toml": vbhmm_toml(settings.clustering, remarks)}
        (folder / "best.yaml").unlink(missing_ok=True)
    else:
        contents = {
            "best.toml": merge_toml(settings, config, remarks=remarks, names=names),
            "best.yaml": pyannote_yaml(settings, remarks=remarks, names=names),
        }
    for name, content in contents.items():
        with atomic_write(Path(folder) / name) as temporary:
            temporary.write_bytes(content.encode("utf-8"))  # ends of lines as they are
    return {name: Path(folder) / name for name in contents}


def vbhmm_toml(params: XVectorParams, remarks: Sequence[str] = ()) -> str:
    """The options of `vbhmm.py` of VBx's own repository, as a table and as a command line."""
    options = {
        "init": "AHC+VB" if params.method == "vbx" else "AHC",
        "threshold": params.threshold,
        "Fa": params.Fa,
        "Fb": params.Fb,
        "loopP": params.loop_prob,
        "lda-dim": params.lda_dim,
        "init-smoothing": params.init_smoothing,
    }
    given = {name: value for name, value in options.items() if value is not None}
    line = "vbhmm.py " + " ".join(f"--{name} {value}" for name, value in given.items())
    return _comments([*remarks, line]) + tomlkit.dumps({"vbhmm": given})


def _check(settings: object) -> None:
    expect(settings, SweepSettings, "settings must be SweepSettings, as base.replace(**cell) are")


def _parse(path: Path) -> tomlkit.TOMLDocument:
    try:
        return tomlkit.parse(path.read_bytes().removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise InputError.at(
            path, f"cannot be read ({error.strerror or error}); expected a TOML file"
        ) from None
    except (TOMLKitError, UnicodeDecodeError) as error:
        raise InputError.at(path, f"is not TOML: {error}") from None


def _not_in_toml(settings: SweepSettings, names: Sequence[str]) -> list[str]:
    """Comments on what DiariZen's table cannot say."""
    lines = []
    params = settings.clustering
    convention = getattr(params, "convention", "diarizen")
    if convention != "diarizen":
        lines.append(
            f"Found with the convention {convention} of the workbench; DiariZen itself ignores that key."
        )
    if getattr(params, "linkage", "centroid") != "centroid":
        lines.append("DiariZen itself knows centroid linkage only and ignores the key linkage.")
    unset = [
        f"{entry.name} = {_say(None)}"
        for entry in dataclasses.fields(params)
        if entry.name in ("max_speakers", "lda_dim") and getattr(params, entry.name) is None
    ]
    if unset:  # left out below, so that whoever reads it takes a default
        lines.append(f"TOML cannot say {', '.join(unset)}: left out here, so DiariZen's default holds.")
    rest = elsewhere(settings, names)
    if rest:
        lines.append("Not part of DiariZen's configuration:")
        lines += [f"  {name} = {_say(value)}" for name, value in rest.items()]
    if settings.median_filter == _MEDIAN_FRAMES:
        lines.append("  (median_filter 11 is apply_median_filtering = true of [inference.args])")
    return lines


def _not_in_yaml(settings: SweepSettings, names: Sequence[str]) -> list[str]:
    """Comments on what pyannote's parameters cannot say."""
    params = settings.clustering
    lines = []
    convention = getattr(params, "convention", None)
    own = "community-1" if isinstance(params, VBxParams) else "pyannote-3.1"
    if convention != own:
        lines.append(
            f"Found with the convention {convention}; pyannote's own pipeline selects embeddings and assigns "
            f"speakers differently (--preset {own} sweeps that)."
        )
    preset = CLUSTERING_PRESETS[own]
    said = {"ahc_threshold", "Fa", "Fb", "linkage", "min_cluster_size", "convention"}
    fixed = {
        entry.name: getattr(params, entry.name)
        for entry in dataclasses.fields(params)
        if entry.name not in said
        and (entry.name in names or getattr(params, entry.name) != getattr(preset, entry.name))
    }
    fixed |= {name: value for name, value in elsewhere(settings, names).items() if name != "min_duration_off"}
    if fixed:
        lines.append("Not among pyannote's parameters:")
        lines += [f"  {name}: {_say(value)}" for name, value in fixed.items()]
    return lines


def _comments(lines: Sequence[str]) -> str:
    """One comment per line, whatever ends a line or is forbidden in TOML and YAML made a blank."""
    return "".join(f"# {_UNPRINTABLE.sub(' ', line)}".rstrip() + "\n" for line in lines)


def _say(value: Any) -> str:
    return "none" if value is None else str(value)
