from __future__ import annotations

import numpy as np
import pytest
from fakes import FakeEmbedding

from workbench.embedding import embed_recording, embedding_masks, min_clean_frames
from workbench.errors import InputError
from workbench.segmentation import Chunking


def chunking(seconds: float, seg_duration: float = 2.0) -> Chunking:
    return Chunking(num_samples=round(seconds * 16000), seg_duration=seg_duration, segmentation_step=0.25)


@pytest.mark.parametrize(
    ("num_frames", "seg_duration", "num_min_samples", "expected"),
    [
        (399, 8.0, 400, 2),  # the figures of pipeline.md §5: two frames for 8, 10 and 16 s
        (499, 10.0, 400, 2),
        (799, 16.0, 400, 2),
        (399, 8.0, 1680, 6),  # and of embedding-models.md §8 for the ONNX wrapper of pyannote
        (799, 16.0, 1680, 6),
    ],
)
def test_the_smallest_clean_mask_is_that_of_the_reference(
    num_frames, seg_duration, num_min_samples, expected
):
    assert min_clean_frames(num_frames, num_min_samples, chunking(60, seg_duration)) == expected


def test_overlap_is_left_out_only_where_more_than_the_minimum_remains():
    segmentations = np.zeros((1, 10, 2))
    segmentations[0, :8, 0] = 1  # 0 talks in frames 0-7, alone in 0-2
    segmentations[0, 3:, 1] = 1  # 1 talks in frames 3-9, alone in 8-9
    masks = embedding_masks(segmentations, min_frames=2)
    assert masks.dtype == np.float32
    assert masks[0, 0].nonzero()[0].tolist() == [0, 1, 2]  # three frames alone are enough
    assert masks[0, 1].nonzero()[0].tolist() == [3, 4, 5, 6, 7, 8, 9]  # two are not: all of them


def test_a_silent_speaker_has_an_empty_mask():
    assert not embedding_masks(np.zeros((2, 5, 3)), min_frames=2).any()


def test_every_chunk_is_embedded_once_with_the_masks_of_all_its_speakers(rng):
    chunks = chunking(5.3)
    waveform = rng.uniform(-1, 1, chunks.num_samples).astype(np.float32)
    segmentations = (rng.random((chunks.num_chunks, 100, 3)) < 0.4).astype(np.float32)
    runtime = FakeEmbedding()
    embeddings = embed_recording(waveform, segmentations, runtime, chunks, batch_size=7)
    assert [len(waveforms) for waveforms, _ in runtime.calls] == [3, 3, 2]  # seven pairs are three chunks
    expected = embedding_masks(segmentations, min_clean_frames(100, 400, chunks)).sum(axis=2)
    np.testing.assert_array_equal(embeddings[..., 0], expected)
    np.testing.assert_array_equal(embeddings[:, 0, 1], waveform[chunks.labelled_starts])
    last, rest = runtime.calls[-1][0][-1], chunks.num_samples - chunks.labelled_starts[-1]
    assert last.shape == (32000,)
    assert not last[rest:].any()


def test_overlap_can_be_kept(rng):
    chunks = chunking(2)
    segmentations = np.ones((1, 100, 3), dtype=np.float32)
    segmentations[0, :50, 0] = 0
    waveform = rng.uniform(-1, 1, chunks.num_samples)
    kept = embed_recording(waveform, segmentations, FakeEmbedding(), chunks, exclude_overlap=False)
    assert kept[0, :, 0].tolist() == [50, 100, 100]


def test_a_model_that_ignores_the_masks_is_refused(rng):
    class OnePerChunk(FakeEmbedding):
        def embed(self, waveforms, masks=None):
            return np.zeros((len(waveforms), 16))

    with pytest.raises(InputError, match=r"returned embeddings of shape \(1, 16\)"):
        embed_recording(np.zeros(32000), np.ones((1, 100, 3)), OnePerChunk(), chunking(2))


def test_the_model_decides_how_much_clean_speech_is_enough():
    """Speaker 0 is alone in 10 of 100 frames: more than 400 samples' worth, less than 8000."""
    segmentations = np.zeros((1, 100, 3), dtype=np.float32)
    segmentations[0, :50, 0] = segmentations[0, 10:, 1] = 1
    used = {}
    for num_min_samples in (400, 8000):
        runtime = FakeEmbedding(num_min_samples)
        used[num_min_samples] = embed_recording(np.zeros(32000), segmentations, runtime, chunking(2))[0, 0, 0]
    assert used == {400: 10, 8000: 50}
