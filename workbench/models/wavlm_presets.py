"""The WavLM shapes that DiariZen names in `wavlm_src`: base, large, and both pruned to 20 %.

The pruned head indices cannot be recovered from a state dict, so they are written down here
(`diarizen/models/module/wavlm_config.py`; Han et al., "Fine-tune Before Structured Pruning:
Towards Compact and Accurate Self-Supervised Models for Speaker Diarization", Interspeech 2025).
"""

from __future__ import annotations

from workbench.models.wavlm import CONV_KERNELS, CONV_STRIDES, WavLMDims


def make_dims(
    *,
    large: bool,
    channels: list[int] | None = None,
    heads: list[list[int]] | None = None,
    features: list[int] | None = None,
) -> WavLMDims:
    """Base or large; what is given replaces the unpruned channels, heads and feed-forward widths."""
    num_layers, num_heads, width = (24, 16, 1024) if large else (12, 12, 768)
    kept = heads or [list(range(num_heads))] * num_layers
    convs = zip(channels or [512] * len(CONV_KERNELS), CONV_KERNELS, CONV_STRIDES, strict=True)
    return WavLMDims(
        extractor_mode="layer_norm" if large else "group_norm",
        extractor_conv_layer_config=tuple(convs),
        encoder_embed_dim=width,
        encoder_num_layers=num_layers,
        encoder_use_attention=tuple(bool(layer) for layer in kept),
        encoder_use_feed_forward=(True,) * num_layers,
        encoder_total_num_heads=(num_heads,) * num_layers,
        encoder_remaining_heads=tuple(tuple(layer) for layer in kept),
        encoder_ff_interm_features=tuple(features or [4 * width] * num_layers),
        encoder_layer_norm_first=large,
        normalize_waveform=large,
    )


# fmt: off
PRESETS: dict[str, WavLMDims] = {
    "wavlm_base": make_dims(large=False),
    "wavlm_large": make_dims(large=True),
    "wavlm_base_s80_md": make_dims(
        large=False,
        channels=[90, 161, 173, 181, 351, 155, 137],
        heads=[
            [1, 6], [5, 7, 8], [0, 3, 9], [0, 1, 4, 8, 11], [6, 8], [0],
            [7, 8, 10, 11], [0, 1, 4, 8], [], [], [4, 7], [5],
        ],
        features=[666, 660, 649, 1080, 237, 299, 437, 573, 53, 80, 211, 334],
    ),
    "wavlm_large_s80_md": make_dims(
        large=True,
        channels=[512, 153, 224, 255, 302, 368, 211],
        heads=[
            [1, 2, 4, 5, 6], [9, 10, 14], [0, 1, 2, 4, 5, 7], [1, 4, 7, 12, 13, 14],
            [0, 2, 3, 4, 13], [1, 7, 13, 14, 15], [11, 13, 15], [2, 3, 4, 8, 15],
            [2, 5, 6, 15], [], [0, 1], [1, 3, 5, 12],
            [], [4, 7, 11], [6, 9], [11],
            [], [], [14], [5, 15],
            [0, 2, 8, 11, 13, 15], [0, 1, 3, 4, 5, 6, 7, 10, 13],
            [0, 1, 3, 6, 7, 9, 10, 11, 12, 14], [1, 2, 3, 4, 7, 13, 14, 15],
        ],
        features=[
            1092, 925, 759, 646, 745, 615, 684, 958, 286, 294, 406, 377,
            463, 542, 298, 236, 96, 104, 134, 211, 473, 1011, 1770, 1316,
        ],
    ),
}  # fmt: on
"""Dims by preset name (lower case; DiariZen ignores case)."""
