"""`Geometry` as JSON: in `geometry.json` of recorded folders and in the metadata of ONNX files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.errors import InputError
from workbench.types import Geometry

_LINES = {
    "sample_rate": '"sample_rate": 16000, (Hz)',
    "chunk_duration": '"chunk_duration": 16.0, (seconds that the model hears at once)',
    "chunk_step": '"chunk_step": 1.6, (seconds from one chunk to the next)',
    "frame_start": '"frame_start": 0.0, (seconds from the start of the chunk to the first frame)',
    "frame_duration": '"frame_duration": 0.025, (seconds that one frame sees)',
    "frame_step": '"frame_step": 0.02, (seconds from one frame to the next)',
}
_NUMBERS = ("sample_rate", "chunk_duration", "chunk_step", "frame_start", "frame_duration", "frame_step")


def geometry_to_json(geometry: Geometry) -> dict[str, Any]:
    """The fields of a geometry, with lists instead of tuples."""
    fields: dict[str, Any] = {name: getattr(geometry, name) for name in _NUMBERS}
    return fields | {"powerset": [list(members) for members in geometry.powerset]}


def geometry_from_json(fields: Mapping[str, Any], path: object) -> Geometry:
    """The geometry that a JSON object describes; `path` is named in errors.

    A missing powerset is empty: recordings of embeddings have none.
    """
    if not isinstance(fields, Mapping):
        raise InputError(f"{path}: the geometry must be a JSON object, found {type(fields).__name__}")
    missing = [name for name in _NUMBERS if name not in fields]
    if missing:
        lines = " and ".join(_LINES[name] for name in missing)
        raise InputError(f"{path}: the geometry lacks {', '.join(missing)}; add a line such as {lines}")
    for name in _NUMBERS:
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e9:
            raise InputError(f"{path}: {name} must be a number, found {value!r}")
        if value <= 0 and name != "frame_start":
            raise InputError(f"{path}: {name} must be above 0, found {value!r}")
    if fields["sample_rate"] != int(fields["sample_rate"]):
        raise InputError(f"{path}: sample_rate must be a whole number of Hz, found {fields['sample_rate']!r}")
    return Geometry(
        sample_rate=int(fields["sample_rate"]),
        **{name: float(fields[name]) for name in _NUMBERS[1:]},
        powerset=_powerset(fields.get("powerset", []), path),
    )


def _powerset(classes: Any, path: object) -> tuple[tuple[int, ...], ...]:
    """Class -> speakers; every class must be a list of different speaker numbers."""
    if not isinstance(classes, list):
        raise InputError(f"{path}: powerset must be a list of speaker lists, found {classes!r}")
    for members in classes:
        if (
            not isinstance(members, list)
            or not all(isinstance(s, int) and not isinstance(s, bool) and s >= 0 for s in members)
            or len(set(members)) < len(members)
        ):
            raise InputError(
                f"{path}: every class of powerset must list different speakers, counted from 0, "
                f"such as [] or [0, 2]; found {members!r}"
            )
    return tuple(tuple(members) for members in classes)
