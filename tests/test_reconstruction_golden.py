"""Aggregation, reconstruction and segments against DiariZen's fork and pyannote 4."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from rttm_lines import rttm_lines

from workbench.aggregation import FrameGrid, aggregate, speaker_count
from workbench.binarization import binarize, hysteresis
from workbench.powerset import median_filter
from workbench.reconstruction import cluster_activations, discrete_diarization, reconstruct
from workbench.types import Features, SlidingWindow

pytestmark = pytest.mark.golden

CASES = [
    "a_8s",
    "b_16s",
    "c_10s",
    "d_one",
    "e_two",
    "f_step25",
    "g_fbank",
    "h_nolap",
    "i_dense",
    "j_silence",
    "k_oddstep",
    "z_long",
]


@pytest.fixture(scope="module")
def pack(golden):
    return golden / "reconstruct"


def load_case(path):
    with np.load(path) as archive:
        return dict(archive)


def features_of(case, inputs, median_filtered):
    segmentations = inputs["segmentations"].astype(np.float32)
    if median_filtered:
        segmentations = median_filter(segmentations)
    _, duration, step = inputs["receptive_field"].tolist()
    return Features(
        uri=case,
        segmentations=segmentations,
        embeddings=np.zeros((*inputs["hard_clusters"].shape, 1), dtype=np.float32),
        chunks=SlidingWindow(*inputs["chunk"].tolist()),
        frames=SlidingWindow(0.0, duration, step),
    )


def test_every_case_of_the_pack_is_compared(pack):
    cases = sorted(path.stem for path in pack.glob("*.npz") if "__" not in path.stem)
    assert cases == sorted([*CASES, "aggregate_binarize"])


@pytest.mark.parametrize("case", CASES)
def test_time_axes_equal_the_original_to_the_last_bit(pack, case):
    inputs = load_case(pack / f"{case}.npz")
    features = features_of(case, inputs, median_filtered=False)
    index = np.arange(len(inputs["chunk_start"]))
    np.testing.assert_array_equal(features.chunks.start_of(index), inputs["chunk_start"])
    np.testing.assert_array_equal(FrameGrid.of(features).starts, inputs["chunk_start_frame"])
    middles = features.frames.middle_of(np.arange(len(inputs["frame_middle"])))
    np.testing.assert_array_equal(middles, inputs["frame_middle"])


@pytest.mark.parametrize("median_filtered", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_activations_equal_the_original(pack, case, median_filtered):
    inputs = load_case(pack / f"{case}.npz")
    features = features_of(case, inputs, median_filtered)
    expected = inputs[f"mf{median_filtered:d}_max20/activations"]
    activations = cluster_activations(features, inputs["hard_clusters"])
    assert not expected[:, activations.shape[1] :].any()  # columns the original adds later
    np.testing.assert_array_equal(activations, expected[:, : activations.shape[1]])


@pytest.mark.parametrize("version", ["fork", "v4"])
@pytest.mark.parametrize("case", CASES)
def test_counts_and_diarization_equal_the_original(pack, case, version):
    inputs = load_case(pack / f"{case}.npz")
    recorded = inputs if version == "fork" else load_case(pack / f"{case}__v4.npz")
    compared = 0
    for key, expected in recorded.items():
        if key.endswith("/count"):
            features = features_of(case, inputs, key.startswith("mf1"))
            np.testing.assert_array_equal(speaker_count(features), expected[:, 0])
        run = re.fullmatch(r"(mf([01])_max(\d+))/(discrete|exclusive)", key)
        if run is None:
            continue
        compared += 1
        exclusive = run[4] == "exclusive"
        features = features_of(case, inputs, run[2] == "1")
        options = {"max_speakers": int(run[3]), "exclusive": exclusive}
        discrete, frames = discrete_diarization(features, inputs["hard_clusters"], **options)
        assert [frames.start, frames.duration, frames.step] == recorded[f"{run[1]}/frames"].tolist()
        tie = recorded[f"{run[1]}/exclusive_tie" if exclusive else f"{run[1]}/tie"]
        assert discrete.shape == expected.shape
        np.testing.assert_array_equal(discrete[~tie], expected[~tie])

        variants = {"_exclusive": {}} if exclusive else {"": {}}
        if version == "v4" and not exclusive:
            variants["_off0.5"] = {"min_duration_off": 0.5}
        for suffix, durations in variants.items():
            lines = (pack / f"{case}__{version}_{run[1]}{suffix}.rttm").read_text().splitlines()
            # from the recorded decisions: ties cannot make a difference
            assert rttm_lines(binarize(expected, frames, uri=case, **durations)) == lines
            if not tie.any():
                annotation = reconstruct(features, inputs["hard_clusters"], **options, **durations)
                assert rttm_lines(annotation) == lines
    assert compared == 6


def test_aggregation_equals_the_original(pack):
    recorded = load_case(pack / "aggregate_binarize.npz")
    cases = [case for case in json.loads((pack / "aggregate_binarize.json").read_text()) if "hamming" in case]
    assert len(cases) > 10
    for case in cases:
        aggregated, frames = aggregate(
            recorded[f"agg{case['i']}_in"],
            SlidingWindow(case["chunk_start"], case["chunk_duration"], case["chunk_step"]),
            SlidingWindow(0.0, case["frame_duration"], case["frame_step"]),
            hamming=case["hamming"],
            warm_up=tuple(case["warm_up"]),
            skip_average=case["skip_average"],
            missing=np.nan if case["missing"] is None else case["missing"],
        )
        assert [frames.start, frames.duration, frames.step] == case["out_window"]
        np.testing.assert_allclose(aggregated, recorded[f"agg{case['i']}_out"], rtol=1e-5, err_msg=str(case))


def test_binarization_equals_the_original(pack):
    recorded = load_case(pack / "aggregate_binarize.npz")
    (*_, hysteresis_case) = everything = json.loads((pack / "aggregate_binarize.json").read_text())
    cases = [dict(case) for case in everything if str(case.get("i")).startswith("bin")]
    assert len(cases) == 6
    for case in cases:
        name = case.pop("i")
        annotation = binarize(recorded[f"{name}_in"], SlidingWindow(0.0, 0.025, 0.02), **case)
        got = [(s.start, s.end, label) for s, _, label in annotation.itertracks(yield_label=True)]
        expected = recorded[f"{name}_segments"]
        np.testing.assert_allclose(sorted(got), sorted(map(tuple, expected)), atol=1e-9, rtol=0)

    inputs = [key for key in recorded if re.fullmatch(r"hyst\d+_in", key)]
    assert inputs
    for key in inputs:
        for number, (onset, offset, initial_state) in enumerate(hysteresis_case["hyst_params"]):
            got = hysteresis(recorded[key], onset, offset, initial_state)
            np.testing.assert_array_equal(got, recorded[key.replace("_in", f"_out{number}")])
