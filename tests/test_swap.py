"""Stage swap: planted faults end up with the stage they were planted in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
from pyannote.core import Annotation, Segment

from workbench.clustering import AHCParams
from workbench.errors import RecordingError
from workbench.steps.noise import noise_consequences
from workbench.steps.shapley import coalitions, interactions, shapley_shares
from workbench.steps.stages import STAGES, Cluster, ReadAudio, Reconstruct, SideStages
from workbench.steps.swap import swap_stages
from workbench.types import Features, SlidingWindow

CHUNKS, FRAMES = SlidingWindow(0.0, 2.0, 1.0), SlidingWindow(0.0, 0.1, 0.1)
CLUSTERING = AHCParams(ahc_threshold=0.6, min_cluster_size=2)


def turns() -> list[tuple[float, float, int]]:
    """Three speakers take turns of two seconds."""
    return [(2.0 * n, 2.0 * n + 2.0, n % 3) for n in range(15)]


def reference() -> Annotation:
    annotation = Annotation(uri="one")
    for start, end, speaker in turns():
        annotation[Segment(start, end)] = "abc"[speaker]
    return annotation


def talking(waveform: np.ndarray) -> np.ndarray:
    """Speaker of every frame, out of a waveform that holds speaker + 1 in every sample of 0.1 s."""
    return np.rint(waveform).astype(int) - 1


def segment(uri: str, waveform: np.ndarray) -> Features:
    """Local speakers in the order in which they appear in a chunk."""
    who = talking(waveform)
    num_chunks = (len(who) - 20) // 10 + 1
    segmentations = np.zeros((num_chunks, 20, 3), dtype=np.float32)
    for chunk in range(num_chunks):
        part = who[10 * chunk : 10 * chunk + 20]
        for local, speaker in enumerate(dict.fromkeys(part[part >= 0].tolist())):
            segmentations[chunk, part == speaker, local] = 1
    nothing = np.full((num_chunks, 3, 1), np.nan, dtype=np.float32)
    return Features(uri=uri, segmentations=segmentations, embeddings=nothing, chunks=CHUNKS, frames=FRAMES)


def embed(uri: str, waveform: np.ndarray, features: Features) -> np.ndarray:
    """The direction of whoever talks most in the local speaker's frames."""
    who, rng = talking(waveform), np.random.default_rng(1)
    directions = np.eye(4)[:3] + 0.2
    found = 0.01 * rng.standard_normal((*features.segmentations.shape[::2], 4))
    for chunk, local in np.argwhere(features.segmentations.any(axis=1)):
        frames = features.segmentations[chunk, :, local] > 0
        heard = who[10 * chunk : 10 * chunk + 20][frames]
        if (heard >= 0).any():
            found[chunk, local] += directions[np.bincount(heard[heard >= 0]).argmax()]
    return found.astype(np.float32)


@pytest.fixture
def side() -> SideStages:
    return SideStages(
        name="right",
        front_end=ReadAudio(),
        segmentation=segment,
        embeddings=embed,
        clustering=Cluster(params=CLUSTERING, source=""),
        post_processing=Reconstruct(options=(("max_speakers", 20),)),
    )


@pytest.fixture
def waveform() -> np.ndarray:
    who = np.full(300, -1)
    for start, end, speaker in turns():
        who[round(10 * start) : round(10 * end)] = speaker
    return (who + 1).astype(np.float32)


def late(uri, source):
    return np.roll(source, 5)  # half a second


def deaf(uri, waveform):
    found = segment(uri, waveform)
    found.segmentations[5:9] = 0
    return found


def mixed_up(uri, waveform, features):
    return np.where(np.arange(len(features.segmentations))[:, None, None] < 12, 0.5, 1.0) * np.roll(
        embed(uri, waveform, features), (np.arange(3) == 1).argmax(), axis=0
    ).astype(np.float32)


@dataclass(frozen=True)
class MergesAll:
    """Clustering that finds one speaker."""

    def __call__(self, features: Features) -> np.ndarray:
        return np.zeros(features.segmentations.shape[::2], dtype=np.int64)


def drops_short(features, clusters):
    found = Reconstruct(options=(("max_speakers", 20), ("min_duration_on", 3.0)))(features, clusters)
    return found


FAULTS = {
    "front end": {"front_end": late},
    "segmentation": {"segmentation": deaf},
    "embeddings": {"embeddings": mixed_up},
    "clustering": {"clustering": MergesAll()},
    "post-processing": {"post_processing": drops_short},
}


def swapped(side, candidate, waveform, **options):
    return swap_stages(side, candidate, {"one": waveform}, references={"one": reference()}, **options)


def test_shares_and_interaction_of_a_published_example():
    """int8 in encoder and decoder: 12.0 % both, 11.0 and 8.5 % one of them, 6.16 % none."""
    values = {frozenset(): 6.16, frozenset("e"): 11.0, frozenset("d"): 8.5, frozenset("ed"): 12.0}
    shares = shapley_shares(values, ["e", "d"])
    assert shares == pytest.approx({"e": 4.17, "d": 1.67})
    assert interactions(values, ["e", "d"]) == pytest.approx({("e", "d"): -1.34})


def test_shares_add_up_and_a_player_without_effect_has_none(rng):
    players = list("abcd")
    values = {each: float(rng.normal()) for each in coalitions(players)}
    for each in coalitions(players):
        values[each] = values[each - {"d"}]
    shares = shapley_shares(values, players)
    assert sum(shares.values()) == pytest.approx(values[frozenset("abcd")] - values[frozenset()])
    assert shares["d"] == pytest.approx(0)


def test_the_unchanged_pipeline_makes_no_error_and_has_no_player(side, waveform):
    result = swapped(side, replace(side, name="same"), waveform)
    assert result.players == ()
    assert result.values[frozenset()] < 1.0  # boundaries only
    assert "same in every stage" in result.verdict


@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_in_one_stage_gets_the_change_among_others_that_differ_harmlessly(side, waveform, stage):
    harmless = {
        "front_end": lambda uri, source: source + np.float32(0.01),
        "segmentation": lambda uri, waveform: segment(uri, waveform),
        "embeddings": lambda uri, waveform, features: embed(uri, waveform, features) * np.float32(1.001),
        "clustering": Cluster(params=CLUSTERING, source="elsewhere"),
        "post_processing": lambda features, clusters: side.post_processing(features, clusters),
    }
    result = swapped(side, replace(side, name="wrong", **(harmless | FAULTS[stage])), waveform)
    assert result.players == STAGES
    assert abs(result.change) > 1
    shares = result.shares.set_index("stage")["share"]
    assert shares[stage] >= 0.95
    assert result.verdict.split(": ")[1].startswith(stage)
    assert not len(result.notable_interactions)
    regions = result.recordings["one"].regions
    assert set(regions["cause"]) == {stage}
    assert regions["seconds"].sum() == pytest.approx(result.change)


def test_two_faults_that_only_hurt_together_show_as_an_interaction(side, waveform):
    """A threshold that merges everything needs embeddings that were moved together: neither hurts alone."""

    def closer(uri, waveform, features):
        return embed(uri, waveform, features) + np.float32(0.3)

    looser = Cluster(params=replace(CLUSTERING, ahc_threshold=0.95), source="")
    result = swapped(side, replace(side, embeddings=closer, clustering=looser), waveform)
    both = frozenset({"embeddings", "clustering"})
    values = result.values
    assert values[both] > values[frozenset()] + 5
    alone = [values[frozenset({each})] - values[frozenset()] for each in both]
    assert max(map(abs, alone)) < 0.5
    assert result.notable_interactions["stages"].tolist() == ["embeddings + clustering"]
    assert result.notable_interactions["seconds"].iloc[0] == pytest.approx(result.change, rel=0.05)
    assert "Only together: embeddings + clustering" in result.verdict


def test_stages_with_equal_inputs_run_once(side, waveform):
    calls = []

    def counted(uri, waveform, features):
        calls.append(features)
        return embed(uri, waveform, features)

    swapped(side, replace(side, clustering=MergesAll(), embeddings=counted), waveform)
    assert len(calls) == 1


def test_without_a_reference_the_baseline_is_the_truth(side, waveform):
    result = swap_stages(side, replace(side, segmentation=deaf), {"one": waveform})
    assert not result.against_reference
    assert result.values[frozenset()] == 0
    assert result.verdict.startswith("cross-DER changes by +")


def test_a_recording_without_reference_or_with_an_unusable_stage_fails_alone(side, waveform):
    def picky(uri, waveform):
        if uri == "two":
            raise RecordingError("two: no arrays")
        return deaf(uri, waveform)

    recordings = {"one": waveform, "two": waveform, "three": waveform}
    truth = {"one": reference(), "two": reference()}
    result = swap_stages(side, replace(side, segmentation=picky), recordings, references=truth)
    assert dict(result.failed) == {"two": "two: no arrays", "three": "no reference names 'three'"}
    assert list(result.recordings) == ["one"]


def test_recordings_add_up_and_the_waterfall_ends_at_the_candidate(side, waveform):
    candidate = replace(side, segmentation=deaf, clustering=MergesAll())
    truth = {uri: reference() for uri in ("one", "two")}
    result = swap_stages(side, candidate, {"one": waveform, "two": waveform[:200]}, references=truth)
    table = result.per_recording()
    assert table["change"].sum() == pytest.approx(result.change)
    assert table[list(result.players)].to_numpy().sum() == pytest.approx(result.change)
    steps = result.waterfall()["points"].to_numpy()
    assert steps[:-1].sum() == pytest.approx(steps[-1])
    assert all(a["label"] != b["label"] for a, b in pairwise(result.waterfall().to_dict("records")))


def test_measured_noise_says_which_settings_label_both_sides_alike(side, waveform, rng):
    features = segment("one", waveform)
    features = replace(features, embeddings=embed("one", waveform, features))
    tiny = replace(features, embeddings=features.embeddings * np.float32(1 + 1e-6) + np.float32(1e-6))
    found = noise_consequences(features, tiny, CLUSTERING, reference=reference())
    assert found.cells["same"].all()
    assert found.breaks_at is None or found.breaks_at >= 10
    size = 0.8 * rng.standard_normal(features.embeddings.shape)
    loud = replace(features, embeddings=(features.embeddings + size).astype(np.float32))
    found = noise_consequences(features, loud, CLUSTERING)
    assert not found.cells["same"].all()
    assert found.breaks_at is not None
    assert found.breaks_at <= 1
    assert "moves labels" in found.words
