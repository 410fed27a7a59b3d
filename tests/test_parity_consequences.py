"""From flips to seconds: a ledger that adds up, and what becomes of every flip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from parity_fakes import POWERSET, Faulty, Network, speech

import workbench
from workbench.agreement import Backend, ParityParams, ParityResult
from workbench.agreement.consequences import link_local_speakers
from workbench.config import PipelineParams
from workbench.powerset import permute_classes
from workbench.scoring import DiarizationCounts

PARAMS = ParityParams(checks=False)
PLAIN = Backend(params=PipelineParams(apply_median_filtering=False))


class Turns(Network):
    """Says who talks from the loudness of the chunk's samples: three speakers by level."""

    name = "turns"

    def __init__(self) -> None:
        super().__init__()
        self.geometry = replace(self.geometry, chunk_step=0.4)

    def stages(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        frames = np.asarray(waveforms)[:, : waveforms.shape[1] // 320 * 320].reshape(len(waveforms), -1, 320)
        level = np.sqrt(np.square(frames).mean(axis=-1))
        centres = np.array([0.0, 0.1, 0.3, 0.6, 9.0, 9.0, 9.0])
        scores = -np.abs(level[..., None] - centres) * 40
        shifted = scores - scores.max(axis=-1, keepdims=True)
        log_probs = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return {"log_probs": log_probs.astype(np.float32)}


def turns_waveform() -> np.ndarray:
    levels = [0.1, 0.3, 0.0, 0.6, 0.1, 0.0, 0.3, 0.6]
    return np.concatenate([np.full(16000, level, dtype=np.float32) for level in levels])


class Later(Turns):
    """The same, with the baseline's decisions changed in given seconds of the recording."""

    name = "later"

    def __init__(self, changed: list[tuple[float, float, int]]) -> None:
        super().__init__()
        self.changed = changed

    def segment(self, waveforms: np.ndarray) -> np.ndarray:
        found = super().segment(waveforms)
        for row, chunk in enumerate(waveforms):
            start = self.start_of(chunk)
            time = start + 0.02 * np.arange(found.shape[1])
            for low, high, winner in self.changed:
                found[row, (time >= low - 1e-9) & (time < high - 1e-9), winner] = 5.0
        return found

    @staticmethod
    def start_of(chunk: np.ndarray) -> float:
        whole = np.concatenate([turns_waveform(), np.zeros(32000, dtype=np.float32)])
        for first in range(0, len(whole) - len(chunk) + 1, 6400):
            if (whole[first : first + len(chunk)] == chunk).all():
                return first / 16000
        raise AssertionError("a chunk that is not of the recording")


def compare(changed: list[tuple[float, float, int]], **options: object) -> ParityResult:
    return workbench.parity(
        Turns(), Later(changed), {"a": turns_waveform()}, params=PARAMS, backend=PLAIN, **options
    )


def test_the_ledger_adds_up_to_the_whole_difference():
    result = compare([(1.4, 1.7, 1), (4.2, 4.3, 0), (6.5, 6.52, 3)])
    found = result.recordings["a"].consequences
    assert found is not None
    assert found.ledger["seconds"].sum() == pytest.approx(found.difference, abs=1e-9)
    assert found.difference == pytest.approx(0.3 + 0.1 + 0.02, abs=1e-6)
    parts = found.ledger[["missed", "false_alarm", "confusion"]].sum()
    assert parts.sum() == pytest.approx(found.difference, abs=1e-9)
    assert parts["missed"] == pytest.approx(0.1, abs=1e-6)
    assert (found.ledger["cause"] == "flips").all()
    assert result.cross is not None
    assert result.cross.der == pytest.approx(found.difference / found.cross.total)


def test_the_median_filter_swallows_a_single_frame_and_not_a_long_flip():
    changed = [(1.4, 1.42, 1), (4.2, 4.5, 0)]
    filtered = workbench.parity(Turns(), Later(changed), {"a": turns_waveform()}, params=PARAMS)
    flips = filtered.recordings["a"].flips
    single = flips[flips["time"] < 2]
    assert len(single) > 0
    assert not single["after_median"].any()
    assert flips.loc[flips["time"] > 4, "in_output"].any()
    assert len(filtered.recordings["a"].consequences.ledger) == 1


def test_the_change_of_der_is_shared_out_completely():
    reference = compare([]).recordings["a"].consequences.baseline
    result = compare([(1.4, 1.7, 1), (4.2, 4.3, 0)], references={"a": reference})
    found = result.recordings["a"].consequences
    first, second = found.baseline_counts, found.candidate_counts

    def errors(counts: DiarizationCounts) -> float:
        return counts.missed + counts.false_alarm + counts.confusion

    assert first.der == 0.0
    assert found.ledger["der_seconds"].sum() + found.elsewhere == pytest.approx(
        errors(second) - errors(first)
    )
    row = result.to_json()["recordings"]["a"]
    assert (row["der_baseline"], row["der_candidate"]) == (first.der, second.der)
    assert "DER 0.00 → " in result.verdict


def test_linking_undoes_any_order_of_local_speakers(rng):
    truth = rng.integers(0, 2, (60, 3)).astype(np.float32)
    starts = np.arange(5) * 10
    orders = [rng.permutation(3) for _ in starts]
    chunks = np.stack([truth[s : s + 20][:, o] for s, o in zip(starts, orders, strict=True)])
    tracks = link_local_speakers(chunks, starts)
    for chunk, order in enumerate(orders):
        # every track is one and the same true speaker
        assert [int(order[list(tracks[chunk]).index(t)]) for t in range(3)] == list(orders[0])


def test_local_speakers_in_another_order_cost_nothing_in_the_output():
    candidate = Faulty(lambda y: y[..., permute_classes(POWERSET, (1, 2, 0))])
    result = workbench.parity(Network(), candidate, speech(), params=PARAMS)
    assert result.flip_rate > 0.3
    assert result.cross is not None
    assert result.cross.der == pytest.approx(0.0, abs=1e-9)
