"""PyanNet from pyannote's own checkpoints: Lightning dicts with hyper-parameters and specifications.

Read without pyannote.audio and Lightning; the pickled specifications arrive as stand-ins that hold
plain data. What a file does not say follows from the shapes of its tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from pathlib import Path
from typing import Any

from workbench.checkpoints.pickles import StandIn
from workbench.checkpoints.weights import StateDict, build_fitting, load_strictly
from workbench.errors import InputError
from workbench.models.pyannet import PyanNet, PyanNetDims

_ARCHITECTURE = "PyanNet"
_DEFAULT_CHUNK = 10.0  # s, of segmentation-3.0, where no specifications say otherwise
_MOST_SPEAKERS = 32  # that are tried for an unknown number of classes


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model was trained to tell apart."""

    num_speakers: int  # local speakers per chunk
    max_set_size: int  # of the powerset
    duration: float  # s, of a chunk


def is_pyannet(state: StateDict) -> bool:
    """Whether these are the weights of a PyanNet."""
    return "sincnet.conv1d.0.filterbank.low_hz_" in state


def load_pyannet(content: Any, state: StateDict, path: Path) -> PyanNet:
    """The network in a checkpoint; its `dims.chunk_size` is the chunk it was trained on."""
    about, parameters = (
        (content.get(name) or {}) if isinstance(content, dict) else {}
        for name in ("pyannote.audio", "hyper_parameters")
    )
    if not isinstance(about, Mapping) or not isinstance(parameters, Mapping):
        raise InputError.at(path, "pyannote.audio and hyper_parameters must hold keys and values")
    architecture = about.get("architecture") or {}
    name = architecture.get("class", _ARCHITECTURE) if isinstance(architecture, Mapping) else None
    if name != _ARCHITECTURE:
        raise InputError.at(
            path, f"pyannote.audio.architecture.class must be {_ARCHITECTURE}, found {name!r}"
        )
    state = _one_lstm(state)
    classes = _rows(state, "classifier.weight", path)
    task = _task(about.get("specifications"), classes, path)
    dims = _dims(state, parameters, task, path)
    network = build_fitting(lambda: PyanNet(dims), state, path, "its own tensor shapes")
    load_strictly(network, state, path, "its own tensor shapes")
    return network.eval()


def _task(specifications: Any, num_classes: int, path: Path) -> Task:
    """Speakers and chunk from the specifications; without any, from the number of classes."""
    if specifications is None:
        return _guess_task(num_classes, path)
    if not isinstance(specifications, StandIn):
        raise InputError.at(
            path,
            "pyannote.audio.specifications must describe one task, found a "
            f"{type(specifications).__name__}; models of several tasks are not supported",
        )
    fields = specifications.fields
    speakers, largest = fields.get("classes"), fields.get("powerset_max_classes")
    duration = fields.get("duration", _DEFAULT_CHUNK)
    if largest is None:
        raise InputError.at(
            path,
            "is no powerset model (its specifications have no powerset_max_classes): only models such as "
            "segmentation-3.0, whose classes are sets of speakers, are supported",
        )
    if (
        not isinstance(speakers, list | tuple)
        or not isinstance(largest, int)
        or not isinstance(duration, int | float)
        or not 1 <= largest <= len(speakers) <= _MOST_SPEAKERS
        or not 0 < duration < 1e6
    ):
        raise InputError.at(
            path,
            "pyannote.audio.specifications must list classes and give powerset_max_classes and duration, "
            f"found {speakers!r}, {largest!r} and {duration!r}",
        )
    task = Task(num_speakers=len(speakers), max_set_size=largest, duration=float(duration))
    expected = _num_classes(task.num_speakers, task.max_set_size)
    if expected != num_classes:
        raise InputError.at(
            path,
            f"the specifications make {expected} classes ({task.num_speakers} speakers, at most "
            f"{task.max_set_size} at once), but the classifier has {num_classes}",
        )
    return task


def _guess_task(num_classes: int, path: Path) -> Task:
    """Sets of at most two speakers, as every published model has them, else of at most three or one."""
    for largest in (2, 3, 1):
        for speakers in range(max(2, largest), _MOST_SPEAKERS):
            if _num_classes(speakers, largest) == num_classes:
                return Task(num_speakers=speakers, max_set_size=largest, duration=_DEFAULT_CHUNK)
    raise InputError.at(
        path, f"has {num_classes} classes, which are the sets of no number of speakers; not a powerset model?"
    )


def _num_classes(speakers: int, largest: int) -> int:
    return sum(comb(speakers, size) for size in range(largest + 1))


def _dims(state: StateDict, parameters: Mapping[str, Any], task: Task, path: Path) -> PyanNetDims:
    """Sizes from the tensors; rate and stride, which leave no trace in them, from the hyper-parameters."""
    sincnet = parameters.get("sincnet") or {}
    stride = sincnet.get("stride", 10) if isinstance(sincnet, Mapping) else None
    rate = parameters.get("sample_rate", 16000)
    for name, value in (("sincnet.stride", stride), ("sample_rate", rate)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1e6:
            raise InputError.at(
                path, f"hyper_parameters.{name} must be a whole number above 0, found {value!r}"
            )
    lstm = {int(m[1]) for key in state if (m := re.fullmatch(r"lstm\.weight_hh_l(\d+)", key))}
    linear = {int(m[1]) for key in state if (m := re.fullmatch(r"linear\.(\d+)\.weight", key))}
    recurrent = state.get("lstm.weight_hh_l0")
    if recurrent is None or recurrent.ndim != 2 or not lstm:
        raise InputError.at(path, "lacks the tensor lstm.weight_hh_l0 of a PyanNet")
    return PyanNetDims(
        sample_rate=int(rate or 16000),
        max_speakers_per_chunk=task.num_speakers,
        max_speakers_per_frame=task.max_set_size,
        chunk_size=task.duration,
        sincnet_stride=int(stride or 10),
        lstm_hidden_size=recurrent.shape[1],
        lstm_num_layers=len(lstm),
        lstm_bidirectional="lstm.weight_hh_l0_reverse" in state,
        linear_hidden_size=_rows(state, "linear.0.weight", path) if linear else 1,
        linear_num_layers=len(linear),
    )


def _rows(state: StateDict, key: str, path: Path) -> int:
    """Output size of a linear layer."""
    tensor = state.get(key)
    if tensor is None or tensor.ndim != 2:
        raise InputError.at(path, f"lacks the tensor {key} of a PyanNet")
    return int(tensor.shape[0])


def _one_lstm(state: StateDict) -> StateDict:
    """`state` with one LSTM of several layers where pyannote has several LSTMs (`monolithic = False`)."""
    return {
        re.sub(r"^lstm\.(\d+)\.(.+)_l0(_reverse)?$", r"lstm.\2_l\1\3", key): v for key, v in state.items()
    }
