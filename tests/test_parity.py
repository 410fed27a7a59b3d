"""Parity of two runtimes: planted faults are named, near-ties are told from real flips, nothing is hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parity_fakes import POWERSET, Embedder, Faulty, Forgetless, Network, speech

import workbench
from workbench.agreement import ParityParams, ParityResult
from workbench.errors import InputError
from workbench.powerset import permute_classes

QUICK = ParityParams(checks=False, consequences=False)
SPEECH = speech()


def compare(candidate: Network, params: ParityParams = QUICK, waveforms: object = SPEECH) -> ParityResult:
    return workbench.parity(Network(), candidate, waveforms, params=params)


def kinds(result: ParityResult) -> set[str]:
    return {finding.kind for finding in result.all_findings if finding.severity == "fault"}


def said(result: ParityResult, kind: str) -> str:
    return next(finding.words for finding in result.all_findings if finding.kind == kind)


def stretched(log_probs: np.ndarray, num_frames: int) -> np.ndarray:
    position = (np.arange(num_frames) + 0.5) * log_probs.shape[1] / num_frames - 0.5
    return log_probs[:, np.clip(np.rint(position).astype(int), 0, log_probs.shape[1] - 1)]


def test_a_runtime_agrees_with_itself_and_nothing_is_found():
    result = compare(Network(), ParityParams())
    assert result.verdict.startswith("100 % of frames agree (none of 2,600 flips). Largest difference 0.")
    assert result.all_findings == []
    row = result.to_json()["recordings"]["waveform"]
    assert row["first_divergence"] is None
    assert (row["frames"], row["flips"], row["multilabel_flips"], row["max_flip_margin"]) == (2600, 0, 0, 0.0)
    assert row["rtf_baseline"] > 0
    assert row["rtf_candidate"] > 0
    assert result.to_json()["overall"]["cross_der"] == 0.0


@pytest.mark.parametrize("frames", [1, 3, -2])
def test_a_shift_by_frames_is_named_and_undone(frames):
    candidate = Faulty(lambda y: np.roll(y, frames, axis=1))
    result = compare(candidate)
    word = "late" if frames > 0 else "early"
    assert kinds(result) == {"frame_shift"}
    assert f"{word} by {abs(frames)} frame" in said(result, "frame_shift")
    assert f"({20 * abs(frames):.1f} ms)" in said(result, "frame_shift")
    assert result.flip_rate > 0.01
    aligned = compare(candidate, replace(QUICK, align=True))
    assert (aligned.num_flips, aligned.statistics.max_abs) == (0, 0.0)
    assert aligned.num_frames == 2600 - 26 * abs(frames)  # only what both sides have


def test_another_order_of_classes_is_named_and_undone():
    columns = np.array([0, 1, 2, 3, 6, 5, 4])
    candidate = Faulty(lambda y: y[..., columns])
    result = compare(candidate)
    assert "class_order" in kinds(result)
    assert "class 4 in column 6, 6 in column 4" in said(result, "class_order")
    assert compare(candidate, replace(QUICK, align=True)).num_flips == 0


def test_another_order_of_speakers_is_named_and_undone():
    candidate = Faulty(lambda y: y[..., permute_classes(POWERSET, (1, 2, 0))])
    result = compare(candidate)
    assert "speaker_order" in kinds(result)
    assert "the baseline's 0, 1, 2 are its 2, 0, 1" in said(result, "speaker_order")
    assert compare(candidate, replace(QUICK, align=True)).num_flips == 0


def test_a_shift_under_another_order_is_found_too():
    columns = np.array([0, 3, 2, 1, 4, 5, 6])
    candidate = Faulty(lambda y: np.roll(y, 2, axis=1)[..., columns])
    assert {"frame_shift", "class_order"} <= kinds(compare(candidate))
    assert compare(candidate, replace(QUICK, align=True)).num_flips == 0


def test_speakers_reordered_chunk_by_chunk_are_named_and_undone():
    orders = [permute_classes(POWERSET, order) for order in ((0, 1, 2), (2, 0, 1), (1, 0, 2))]
    candidate = Faulty(lambda y: np.stack([c[:, orders[int(1e3 * c[0, 0] ** 2) % 3]] for c in y]))
    assert "local_speaker_order" in kinds(compare(candidate))
    assert compare(candidate, replace(QUICK, align=True)).num_flips == 0


def test_other_weights_are_named_by_the_stage_they_act_in():
    candidate = Network()
    candidate.out = candidate.out * np.float32(1.3)
    result = compare(candidate)
    assert kinds(result) == {"weights"}
    assert "part at stage logits" in said(result, "weights")
    assert "the last, hidden, within 0.0e+00" in said(result, "weights")
    assert result.to_json()["overall"]["first_divergence"]["stage"] == "logits"


def test_a_planted_decision_gives_real_flips_with_margins_within_the_bound():
    def after(log_probs: np.ndarray) -> np.ndarray:
        changed = log_probs.copy()
        changed[:, 40, 0] = 3.0
        return changed

    result = compare(Faulty(after))
    assert result.num_real > 0
    assert result.bound_holds
    assert result.flips["frame"].unique().tolist() == [40]
    assert f"{result.num_flips - result.num_real:,} near-tie" in result.verdict


def test_a_level_that_differs_is_found_in_the_front_end():
    result = compare(Faulty(before=lambda x: x * np.float32(32768)))
    assert "front_end" in kinds(result)
    assert "samples scaled by 32768" in said(result, "front_end")


def test_samples_that_are_late_by_part_of_a_frame_are_named_by_the_baselines_own_features():
    late = Faulty(before=lambda x: np.pad(x, ((0, 0), (100, 0)))[:, :-100])
    result = compare(late)
    assert said(result, "sample_shift").startswith("the candidate hears the samples late by 100 (6.25 ms)")
    assert "front_end" not in kinds(result)
    loud = compare(Faulty(before=lambda x: x / np.abs(x).max(axis=1, keepdims=True)))
    assert "another front end" not in " ".join(finding.words for finding in loud.all_findings)
    rng = np.random.default_rng(3)
    noisy = compare(Faulty(before=lambda x: x + rng.normal(0, 1e-3, x.shape).astype(np.float32)))
    assert kinds(noisy) == {"front_end"}


def test_float16_outputs_are_called_that():
    result = compare(Faulty(lambda y: y.astype(np.float16).astype(np.float32)))
    assert kinds(result) == {"precision"}
    assert "float16" in said(result, "precision")


def test_state_that_leaks_is_named_and_noise_is_not_taken_for_it():
    leak = compare(Forgetless(), ParityParams(consequences=False))
    assert "state_leak" in kinds(leak)
    assert "not_repeatable" not in kinds(leak)
    assert not leak.repeatability["candidate"].checks[1].passed
    rng = np.random.default_rng(1)
    noise = compare(
        Faulty(lambda y: y + rng.normal(0, 0.05, y.shape).astype(np.float32)),
        ParityParams(consequences=False),
    )
    assert "not_repeatable" in kinds(noise)
    assert "state_leak" not in kinds(noise)


def test_noise_is_no_shift_by_half_a_frame():
    rng = np.random.default_rng(1)

    def noisy(log_probs: np.ndarray) -> np.ndarray:
        logits = log_probs + rng.normal(0, 1, log_probs.shape)
        return (logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))).astype(np.float32)

    assert "frame_shift" not in kinds(compare(Faulty(noisy)))


def test_an_answer_that_depends_on_the_batch_is_named():
    tilt = 0.2 * np.sin(np.arange(7)).astype(np.float32)
    result = compare(Faulty(lambda y: y + tilt * (len(y) > 1)), ParityParams(consequences=False))
    assert {"batch_dependent", "context_dependent"} <= kinds(result)


def test_a_baked_in_length_is_found_although_all_chunks_agree():
    def pad(waveforms: np.ndarray) -> np.ndarray:
        fixed = np.zeros((len(waveforms), 32000), dtype=np.float32)
        fixed[:, : waveforms.shape[1]] = waveforms[:, :32000]
        return fixed

    result = compare(Faulty(before=pad), ParityParams(consequences=False))
    assert result.num_flips == 0
    assert "baked_in_length" in kinds(result)


def test_nan_and_constants_and_lost_classes_are_named():
    def break_chunk(log_probs: np.ndarray) -> np.ndarray:
        broken = log_probs.copy()
        broken[2:3] = np.nan
        return broken

    result = compare(Faulty(break_chunk))
    assert "700 NaN" in said(result, "non_finite")
    assert "first in chunk 2" in said(result, "non_finite")
    assert result.statistics.max_abs == np.inf
    constant = compare(Faulty(lambda y: np.zeros_like(y) - np.float32(np.log(7))))
    assert {"constant_output", "collapsed"} <= kinds(constant)
    never = compare(Faulty(lambda y: y - np.eye(7, dtype=np.float32)[1] * 20))
    assert "never decides for 0 " in said(never, "lost_classes")


def test_probabilities_and_logits_are_told_from_log_probabilities():
    for after, words in ((np.exp, "probabilities, not their logarithms"), (lambda y: y + 3, "log-softmax")):
        result = compare(Faulty(after))
        assert words in said(result, "values")
        assert compare(Faulty(after), replace(QUICK, align=True)).statistics.max_abs < 1e-4


def test_560_frames_against_589_are_explained_and_aligned():
    base = Network(chunk_duration=10.0)
    base.geometry = replace(base.geometry, frame_step=10 / 500)
    candidate = Network(chunk_duration=10.0)
    plain = candidate.stages
    candidate.stages = lambda x: plain(x) | {"log_probs": stretched(plain(x)["log_probs"], 475)}
    waveform = speech(seconds=24.0)
    result = workbench.parity(base, candidate, waveform, params=QUICK)
    ((uri, error),) = result.failed
    assert uri == "waveform"
    assert "475 frames against 500: scale 0.950, boundaries drift by up to 0.50 s" in error
    row = result.to_json()["recordings"]["waveform"]
    assert (row["frame_count_baseline"], row["frame_count_candidate"], row["flips"]) == (500, 475, None)
    aligned = workbench.parity(base, candidate, waveform, params=replace(QUICK, align=True))
    assert aligned.failed == ()
    assert 0 < aligned.flip_rate < 0.05  # what the coarser grid costs


def test_frames_that_are_missing_at_the_start_are_not_taken_for_another_scale():
    result = compare(Faulty(lambda y: y[:, 4:]))
    assert "lacks the first 4 (80.0 ms)" in said(result, "frame_count")
    assert compare(Faulty(lambda y: y[:, 4:]), replace(QUICK, align=True)).num_flips == 0


def test_a_drift_within_the_same_number_of_frames_is_measured():
    def drift(log_probs: np.ndarray) -> np.ndarray:
        position = np.rint(0.92 * np.arange(log_probs.shape[1])).astype(int)
        return log_probs[:, position]

    words = said(compare(Faulty(drift)), "time_scale")
    scale = float(words.split("scale of ")[1].split(":")[0])
    assert scale == pytest.approx(1 / 0.92, abs=0.03)


def test_classes_declared_in_another_order_are_compared_by_what_they_mean():
    candidate = Faulty(lambda y: y[..., ::-1])
    candidate.geometry = replace(candidate.geometry, powerset=POWERSET[::-1])
    result = compare(candidate)
    assert result.num_flips == 0
    assert {finding.kind for finding in result.all_findings} >= {"declared_class_order"}


def test_silence_proves_nothing():
    result = compare(Network(), QUICK, np.zeros(48000, dtype=np.float32))
    assert "100 %" not in result.verdict
    assert "proves nothing" in result.verdict
    assert "silent" in result.verdict
    assert result.exceeded(max_flip_rate=0.5)  # a limit that cannot be shown to be kept is not kept
    assert not compare(Network()).exceeded(max_flip_rate=0.0, max_diff=0.0)


def test_the_one_bad_recording_is_ranked_first_whatever_the_mean_says():
    waveforms = {f"r{i}": speech(seed=i, seconds=4.0) for i in range(8)}
    target = waveforms["r5"][:32000].copy()

    def after(log_probs: np.ndarray) -> np.ndarray:
        return log_probs

    class Bad(Network):
        def segment(self, chunks: np.ndarray) -> np.ndarray:
            found = super().segment(chunks)
            return found[..., [0, 2, 1, 3, 4, 5, 6]] if (chunks[0] == target).all() else after(found)

    result = compare(Bad(), QUICK, waveforms)
    assert result.damage.table["uri"].iloc[0] == "r5"
    assert result.damage.standing_out == ["r5"]
    assert result.to_json()["damage"]["files_needed"] == 8


def test_one_recording_that_fails_does_not_stop_the_others():
    waveforms = {"good": speech(seconds=4.0), "bad": np.full(32000, np.nan, dtype=np.float32)}
    result = compare(Network(), QUICK, waveforms)
    assert list(result.recordings) == ["good"]
    assert result.failed == (("bad", "the waveform holds samples that are not finite"),)


def test_classes_that_cannot_be_matched_are_an_input_error():
    other = Network()
    other.geometry = replace(other.geometry, powerset=((), (0,), (1,)))
    with pytest.raises(InputError, match="3 powerset classes of 2 speakers, the baseline 7 of 3"):
        compare(other)


def test_a_segmentation_and_an_embedding_model_cannot_be_compared():
    with pytest.raises(InputError, match="only models of one kind"):
        workbench.parity(Network(), Embedder(), SPEECH)


def test_embeddings_are_compared_by_cosine():
    result = workbench.parity(Embedder(), Embedder(0.05, "other"), {"a": SPEECH})
    row = result.to_json()["recordings"]["a"]
    first = Embedder().embed(SPEECH[None, :128000])[0]
    second = Embedder(0.05).embed(SPEECH[None, :128000])[0]
    cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    assert row["embeddings"]["min_cosine"] <= cosine + 1e-6
    assert row["flips"] is None
    assert row["first_divergence"]["stage"] == "embedding"
    assert "2 embeddings compared" in result.verdict


def test_posteriors_are_kept_where_asked_for():
    row = compare(Network(), replace(QUICK, keep_posteriors=True)).recordings["waveform"]
    assert row.posteriors is not None
    assert [each.shape for each in row.posteriors] == [(26, 100, 7)] * 2
    assert row.posteriors[0].dtype == np.float16
