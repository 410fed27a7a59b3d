"""What `wavlm_src` of a DiariZen TOML stands for: a preset, a file, or, where the file is gone, the weights.

Only the shapes matter: the weights in the file were the start of a training that replaced them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from workbench.checkpoints.weights import StateDict, read_checkpoint
from workbench.errors import InputError, nearest
from workbench.models.wavlm import CONV_KERNELS, CONV_STRIDES, WavLMDims
from workbench.models.wavlm_presets import PRESETS

PREFIX = "wavlm_model."
_LAYERS = f"{PREFIX}encoder.transformer.layers"
_FIELDS = {field.name for field in fields(WavLMDims) if field.init}
_NO_EFFECT = {  # fields of a WavLM file's config that inference does not know
    "encoder_projection_dropout",
    "encoder_attention_dropout",
    "encoder_ff_interm_dropout",
    "encoder_dropout",
    "encoder_layer_drop",
    "aux_num_out",
}


def find_wavlm(source: str, config: Path, read_state: Callable[[], StateDict] | None = None) -> WavLMDims:
    """The sizes of the WavLM that a TOML names.

    Parameters
    ----------
    source : `wavlm_src`: a preset's name in any case, or the path of a WavLM file
        The file is looked for relative to the TOML's folder, by the path as it is given, and by its
        base name beside the TOML.
    config : the TOML
    read_state : reads the checkpoint, from whose shapes the sizes follow if the file is gone
    """
    if source.lower() in PRESETS:
        return PRESETS[source.lower()]
    folder = config.parent
    for path in (folder / source, Path(source), folder / Path(source).name):
        if path.is_file():
            return read_wavlm_file(path)
    if read_state is None:
        raise InputError.at(
            config,
            f"[model.args] wavlm_src {source!r} is neither a preset ({', '.join(PRESETS)})"
            f"{nearest(source.lower(), PRESETS)} nor a file here",
        )
    return dims_of_state(read_state(), source, config)


def read_wavlm_file(path: Path) -> WavLMDims:
    """The `config` of a file `{"config": ..., "state_dict": ...}`."""
    content = read_checkpoint(path)
    config = content.get("config") if isinstance(content, dict) else None
    if not isinstance(config, dict):
        hint = (
            "; this is Microsoft's release, which DiariZen cannot read either: convert Hugging Face's model"
            if isinstance(content, dict) and {"cfg", "model"} <= content.keys()
            else ""
        )
        raise InputError.at(
            path, f"is not a WavLM file: expected a dict with the keys config and state_dict{hint}"
        )
    state = content.get("state_dict")
    if isinstance(state, dict):
        refuse_unpruned_student(state, path)
    return _dims_of_config(config, path)


def refuse_unpruned_student(state: Mapping[str, Any], path: Path) -> None:
    """An error for weights that still hold the gates of pruning."""
    gate = next((key for key in state if str(key).endswith("log_alpha")), None)
    if gate is not None:
        raise InputError.at(
            path,
            f"holds pruning gates ({gate}), so it is a student whose pruning has not been applied yet; run "
            "DiariZen's apply_pruning.py on it and use what that writes",
        )


def _dims_of_config(config: Mapping[str, Any], path: Path) -> WavLMDims:
    values: dict[str, Any] = {}
    for key, value in config.items():
        if "prune" in str(key):
            if value is not False:
                raise InputError.at(
                    path,
                    f"config.{key} must be false, found {value!r}: pruning has not been applied yet; run "
                    "DiariZen's apply_pruning.py and use what that writes",
                )
        elif key in _FIELDS:
            values[key] = _frozen(value)
        elif key not in _NO_EFFECT:
            raise InputError.at(path, f"config has an unknown key {key!r}{nearest(str(key), _FIELDS)}")
    if config.get("aux_num_out") is not None:
        raise InputError.at(
            path, f"config.aux_num_out must be None, found {config['aux_num_out']!r}: no head is supported"
        )
    missing = sorted(_FIELDS - values.keys())
    if missing:
        raise InputError.at(path, f"config lacks {', '.join(missing)}")
    try:
        return WavLMDims(**values)
    except (ValueError, TypeError, ZeroDivisionError, IndexError) as error:
        raise InputError.at(path, f"config does not describe a WavLM: {error}") from None


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(_frozen(entry) for entry in value) if isinstance(value, list | tuple) else value


def dims_of_state(state: StateDict, source: str, config: Path) -> WavLMDims:
    """Sizes read off a checkpoint, if they are all there is to know.

    The indices of the heads that pruning kept cannot be seen in the weights, only how many there
    are; so a pruned model is recognised only if its shapes are those of a preset.
    """
    gone = f"[model.args] wavlm_src {source!r} names a file that is not here"
    found = _visible_dims(state)
    if found is None:
        raise InputError.at(
            config,
            f"{gone}, and the checkpoint does not look like a WavLM; put the file beside this config",
        )
    dims, kept = found
    whole = all(
        number == total
        for number, total, used in zip(
            kept, dims.encoder_total_num_heads, dims.encoder_use_attention, strict=True
        )
        if used
    )
    if whole:
        return dims
    for preset in PRESETS.values():
        if tuple(len(heads) for heads in preset.encoder_remaining_heads) == kept and _same_but_heads(
            dims, preset
        ):
            return preset
    layer = next(
        i for i, (n, total) in enumerate(zip(kept, dims.encoder_total_num_heads, strict=True)) if n != total
    )
    raise InputError.at(
        config,
        f"{gone}, and this model is pruned: layer {layer} has {kept[layer]} of "
        f"{dims.encoder_total_num_heads[layer]} attention heads, but which ones cannot be recovered from the "
        "weights, and with wrong ones the model would run and be wrong. Put the WavLM file that training "
        f"used beside this config, as {Path(source).name}",
    )


def _same_but_heads(dims: WavLMDims, preset: WavLMDims) -> bool:
    return all(getattr(dims, name) == getattr(preset, name) for name in _FIELDS - {"encoder_remaining_heads"})


def _visible_dims(state: StateDict) -> tuple[WavLMDims, tuple[int, ...]] | None:
    """Sizes with all heads in place, and how many heads every layer really has."""

    def shape(key: str) -> tuple[int, ...]:
        tensor = state.get(key)
        return () if tensor is None else tuple(tensor.shape)

    convs = [
        shape(f"{PREFIX}feature_extractor.conv_layers.{i}.conv.weight") for i in range(len(CONV_KERNELS))
    ]
    width = shape(f"{PREFIX}encoder.feature_projection.projection.weight")
    taps = shape(
        f"{PREFIX}encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1"
    ) or shape(f"{PREFIX}encoder.transformer.pos_conv_embed.conv.weight_v")
    indices = [int(m[1]) for key in state if (m := re.match(rf"{re.escape(_LAYERS)}\.(\d+)\.", key))]
    if any(len(c) != 3 for c in convs) or len(width) != 2 or len(taps) != 3 or not indices or not taps[1]:
        return None
    if tuple(c[2] for c in convs) != CONV_KERNELS:
        return None  # strides leave no trace, so only the usual kernels are trusted to have the usual ones
    layers = range(max(indices) + 1)
    heads = [shape(f"{_LAYERS}.{i}.attention.gru_rel_pos_const") for i in layers]
    gates = [shape(f"{_LAYERS}.{i}.attention.gru_rel_pos_linear.weight") for i in layers]
    queries = [shape(f"{_LAYERS}.{i}.attention.q_proj.weight") for i in layers]
    hidden = [shape(f"{_LAYERS}.{i}.feed_forward.intermediate_dense.weight") for i in layers]
    table = shape(f"{_LAYERS}.0.attention.rel_attn_embed.weight")
    num_heads = next((h[1] for h in heads if len(h) == 4), max(1, width[0] // 64))
    head_width = next((g[1] for g in gates if len(g) == 2), 64)
    large = f"{PREFIX}feature_extractor.conv_layers.1.layer_norm.weight" in state
    totals = tuple(h[1] if len(h) == 4 else num_heads for h in heads)
    used = tuple(bool(q) for q in queries)
    dims = WavLMDims(
        extractor_mode="layer_norm" if large else "group_norm",
        extractor_conv_layer_config=tuple(
            (c[0], k, s) for c, k, s in zip(convs, CONV_KERNELS, CONV_STRIDES, strict=True)
        ),
        extractor_conv_bias=f"{PREFIX}feature_extractor.conv_layers.0.conv.bias" in state,
        encoder_embed_dim=width[0],
        encoder_pos_conv_kernel=taps[2],
        encoder_pos_conv_groups=width[0] // taps[1],
        encoder_num_layers=len(layers),
        encoder_use_attention=used,
        encoder_use_feed_forward=tuple(bool(h) for h in hidden),
        encoder_total_num_heads=totals,
        encoder_remaining_heads=tuple(
            tuple(range(total)) if present else () for total, present in zip(totals, used, strict=True)
        ),
        encoder_num_buckets=table[0] if table else 320,
        encoder_ff_interm_features=tuple(h[0] if h else 0 for h in hidden),
        encoder_layer_norm_first=large,
        normalize_waveform=large,
    )
    return dims, tuple(q[0] // head_width if q else 0 for q in queries)
