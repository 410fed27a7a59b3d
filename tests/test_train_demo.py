"""The recipe of the demo models, run for real on voices made here: no synthesizer is needed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch

from scripts.demo import (
    assemble,
    conversations,
    corpus,
    embedding,
    plda,
    readers,
    segmentation,
    steps,
    training_data,
)
from scripts.demo.stages import QUICK, Run
from scripts.demo.voices import SAMPLE_RATE, Speaker, load_speakers, make_variants, save_speakers, to_int16
from workbench.clustering import PLDA
from workbench.rttm import read_rttm

NUM_READERS = 12


def draw_utterance(rng: np.random.Generator, pitch: float, duration: float) -> np.ndarray:
    """Pulses at a pitch, through two formants, in syllables with pauses; float in [-1, 1)."""
    time = np.arange(int(duration * SAMPLE_RATE)) / SAMPLE_RATE
    formants = rng.uniform(300, 2500, 2)
    harmonics = pitch * np.arange(1, int(3500 / pitch))
    gains = sum(np.exp(-0.5 * ((harmonics - formant) / 200) ** 2) for formant in formants) + 0.02
    voice = sum(g * np.sin(2 * np.pi * h * time) for h, g in zip(harmonics, gains, strict=True))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time) + 0.3, 0, 1) * (np.sin(2 * np.pi * 0.4 * time) > -0.8)
    return 0.3 * voice * syllables / np.abs(voice).max() + 1e-4 * rng.standard_normal(len(time))


@pytest.fixture(scope="module")
def reader_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("readers")
    for reader in range(NUM_READERS):
        pitch = 80 + 15 * reader
        for utterance in range(2):
            path = folder / f"{100 + reader}-1-{utterance:04d}.flac"
            sf.write(path, draw_utterance(rng, pitch, 5.0), SAMPLE_RATE)
    return folder


@pytest.fixture(scope="module")
def speakers(reader_folder: Path) -> list[Speaker]:
    rng = np.random.default_rng(1)
    found = []
    for name, paths in readers.find_utterances(reader_folder).items():
        found += make_variants(name, "reader", "train", readers.read_reader(paths, rng))
    return found


@pytest.fixture(scope="module")
def chunks(speakers: list[Speaker]) -> training_data.Chunks:
    return training_data.make_chunks(np.random.default_rng(2), speakers, 1)


def test_utterances_are_cut_into_two_to_six_pieces(reader_folder):
    for paths in readers.find_utterances(reader_folder).values():
        pieces = readers.read_reader(paths[:1], np.random.default_rng(3))
        assert 1 <= len(pieces) <= 6  # a piece of nothing but a pause is dropped
        assert sum(map(len, pieces)) <= 5.0 * SAMPLE_RATE


def test_speakers_survive_being_stored(speakers, tmp_path):
    save_speakers(tmp_path / "speakers.npz", speakers)
    again = load_speakers(tmp_path / "speakers.npz")
    assert [s.name for s in again] == [s.name for s in speakers]
    assert all(
        np.array_equal(a, b)
        for s, t in zip(again, speakers, strict=True)
        for a, b in zip(s.pieces, t.pieces, strict=True)
    )


def test_conversations_repeat_with_their_seed_and_stay_inside_the_audio(speakers):
    params = conversations.draw_params(np.random.default_rng(4), 20.0)
    params = replace(params, num_speakers=3, long_pause=0.0)
    drawn = [
        conversations.draw_conversation(np.random.default_rng(5), speakers[:9:3], params, speakers)
        for _ in range(2)
    ]
    assert np.array_equal(drawn[0].waveform, drawn[1].waveform)
    assert drawn[0].segments() == drawn[1].segments()
    other = conversations.draw_conversation(np.random.default_rng(6), speakers[:9:3], params, speakers)
    assert not np.array_equal(drawn[0].waveform, other.waveform)
    assert len(drawn[0].waveform) == 20 * SAMPLE_RATE
    assert np.abs(drawn[0].waveform).max() <= 1
    segments = drawn[0].segments()
    assert segments
    assert all(0 <= start < end <= 20.0 for start, end, _ in segments)


def test_pauses_shorter_than_half_a_second_are_filled():
    row = np.zeros(300, dtype=bool)
    row[10:60] = row[100:150] = row[210:260] = True  # gaps of 0.4 and 0.6 s
    conversations.fill_short_runs(row, value=False, max_frames=50)
    assert row[10:150].all()
    assert not row[150:210].any()


def test_no_speaker_talks_over_himself(speakers):
    params = conversations.ConversationParams(
        duration=60, num_speakers=3, overlap=0.9, overlap_mean=2.5, back_channel=0.5
    )
    placements = conversations.draw_schedule(np.random.default_rng(7), speakers[:9:3], params)
    for speaker in range(3):
        own = sorted((p.start, p.start + len(p.piece)) for p in placements if p.speaker == speaker)
        assert all(end <= start + 1 for (_, end), (start, _) in zip(own[:-1], own[1:], strict=True))


def test_slots_are_sorted_by_talk_time_and_a_fifth_speaker_ends_the_chunk():
    active = np.zeros((400, 5), dtype=bool)
    for speaker, frames in enumerate([50, 200, 10, 100, 20]):
        active[:frames, speaker] = True
    assert training_data.sort_slots(active).sum(axis=0).tolist() == [200, 100, 50, 20]
    active[:30, 2] = True  # 0.4 s is the smallest now, still under the limit
    assert training_data.sort_slots(active) is not None
    active[:60, [2, 4]] = True
    assert training_data.sort_slots(active) is None


def test_loss_does_not_depend_on_the_order_of_the_slots():
    torch.manual_seed(0)
    log_probs = torch.randn(3, 50, 11).log_softmax(dim=-1)
    slots = torch.rand(3, 50, 4) < 0.3
    shuffled = slots[..., [2, 0, 3, 1]]
    kept = slots.sum(dim=-1, keepdim=True) <= 2  # with three active, which two stay depends on the order
    loss, again = (segmentation.permutation_free_loss(log_probs, s & kept) for s in (slots, shuffled))
    torch.testing.assert_close(loss, again)


def test_frame_errors_of_a_known_case():
    slots = torch.zeros(1, 10, 4, dtype=torch.uint8)
    slots[0, :6, 0] = 1
    slots[0, 4:8, 1] = 1  # total 10, two frames overlap
    decided = torch.zeros(1, 10, dtype=torch.long)
    decided[0, :5], decided[0, 5:9] = 3, 1  # slot 2, then slot 0: renamed to the reference's 0 and 1
    log_probs = torch.nn.functional.one_hot(decided, 11).float()
    # Frames 4 and 5 miss one of two; frame 8 is false alarm; no confusion.
    assert segmentation.score_frames(log_probs, slots) == segmentation.FrameErrors(10, 2, 1, 0)


def test_segmentation_learns_and_is_kept_as_an_experiment(chunks, tmp_path):
    experiment = segmentation.Experiment(tmp_path, tmp_path / "training.log")
    losses = segmentation.train(
        experiment, lambda: [chunks], chunks, num_steps=12, minutes=None, batch_size=2, num_epochs=4, seed=0,
        device=torch.device("cpu"),
    )  # fmt: skip
    assert np.mean(losses[-4:]) < np.mean(losses[:4])
    assemble.write_experiment(
        tmp_path / "experiment", tmp_path, "2026_01_01--00_00_00", {"seed": 0, "lr": 1e-3, "num_epochs": 4}
    )
    written = tmp_path / "experiment"
    names = {path.name for path in (written / "checkpoints").iterdir()}
    assert {"best", "epoch_0002", "epoch_0003", "epoch_0004"} <= names
    lines = (written / "val_metric_summary.lst").read_text().splitlines()
    assert [int(line.split()[4].rstrip(":")) for line in lines] == [1, 2, 3, 4]
    for name in names:
        state_dict = torch.load(written / "checkpoints" / name / "pytorch_model.bin", weights_only=True)
        segmentation.build_model(0).load_state_dict(state_dict)  # strict: no key more or less


def test_interrupted_training_goes_on_after_its_last_epoch(chunks, tmp_path):
    experiment = segmentation.Experiment(tmp_path, tmp_path / "training.log")

    def train(num_steps: int, num_epochs: int) -> list[float]:
        return segmentation.train(
            experiment, lambda: [chunks], chunks, num_steps=num_steps, minutes=None, batch_size=1,
            num_epochs=num_epochs, seed=0, device=torch.device("cpu"),
        )  # fmt: skip

    assert len(train(2, 1)) == 2
    assert len(train(4, 2)) == 2
    assert train(4, 2) == []


def test_embedding_learns_and_fits_the_pipeline_form(speakers, tmp_path, monkeypatch):
    monkeypatch.setattr(embedding, "MARGIN", 0.0)  # a growing margin raises the loss
    monkeypatch.setattr(embedding, "WARM_UP", 1)
    bank = training_data.make_voice_bank(np.random.default_rng(8), speakers, 2)
    training_data.save_voice_bank(tmp_path / "bank", bank)
    losses = embedding.train(
        training_data.load_voice_bank(tmp_path / "bank"), tmp_path / "embedding", num_steps=10, minutes=None,
        batch_size=8, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assemble.write_embedding(tmp_path / "hub.bin", tmp_path / "embedding" / "pytorch_model.bin")
    stored = torch.load(tmp_path / "hub.bin", weights_only=True)
    assert all(key.startswith("resnet.") for key in stored["state_dict"])
    assert stored["state_dict"]["resnet.seg_1.weight"].shape == (256, 2560)


def test_plda_recovers_the_variances_it_was_drawn_from(rng):
    between = np.array([9.0, 4.0, 1.0, 0.25, 0.1, 0.1])
    labels = np.repeat(np.arange(400), 20)
    rows = (rng.standard_normal((400, 6)) * np.sqrt(between))[labels] + rng.standard_normal((8000, 6))
    within, spread = plda.scatter(rows, labels)
    np.testing.assert_allclose(np.diag(within), 1.0, atol=0.05)
    tr, psi = plda.diagonalise(within, spread)
    np.testing.assert_allclose(psi[:3], between[:3], rtol=0.2)
    np.testing.assert_allclose(tr @ within @ tr.T, np.eye(6), atol=1e-9)


def test_plda_files_are_those_of_a_hub_folder(rng, tmp_path):
    labels = np.repeat(np.arange(40), 5)
    rows = rng.standard_normal((40, 16))[labels] * 2 + rng.standard_normal((200, 16)) + 3
    plda.save_plda(tmp_path / "plda", plda.estimate(rows, labels, labels >= 20, 8))
    stored = PLDA.load(tmp_path / "plda")
    assert stored.lda.shape == (16, 8)
    assert stored.lda.dtype == np.float64
    assert (np.diff(stored.psi) <= 0).all()
    assert stored.psi.min() > 0


def test_equal_error_rate_of_known_scores():
    assert embedding.equal_error_rate(np.array([4.0, 3, 2, 1]), np.array([1, 1, 0, 0])) == 0
    assert embedding.equal_error_rate(np.array([4.0, 3, 2, 1]), np.array([1, 0, 1, 0])) == 0.5


def test_corpus_is_complete_and_repeats_with_its_seed(speakers, tmp_path, monkeypatch):
    bases = sorted({base for entry in corpus.ENTRIES for base in entry.voices})
    plain = [s for s in speakers if s.rate == 1.0]
    cast = [replace(plain[i], base=base, split="demo") for i, base in enumerate(bases)]
    short = [replace(e, params=replace(e.params, duration=60, long_pause=0.0)) for e in corpus.ENTRIES[:2]]
    monkeypatch.setattr(corpus, "ENTRIES", short)
    for name in ("first", "second"):
        corpus.write_corpus(tmp_path / name, np.random.default_rng(9), cast, 9)
    files = sorted(path.name for path in (tmp_path / "first").iterdir())
    assert files == ["demo.rttm", "demo.uem", "demo01_easy.flac", "demo02_overlap.flac", "dev.lst",
                     "manifest.json", "test.lst"]  # fmt: skip
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    references = read_rttm(tmp_path / "first" / "demo.rttm")
    for entry in short:
        assert len(references[entry.uri].labels()) == len(entry.voices)
        assert references[entry.uri].get_timeline().extent().end <= 60
        audio = sf.info(tmp_path / "first" / f"{entry.uri}.flac")
        assert (audio.samplerate, audio.channels, audio.subtype) == (SAMPLE_RATE, 1, "PCM_16")


def test_stages_are_skipped_when_their_product_is_there(reader_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(steps.voices, "available_voices", list)
    run = Run(readers=(reader_folder,), work=tmp_path, out=tmp_path / "out", corpus=tmp_path / "corpus",
              amounts=replace(QUICK, num_recordings=1, num_heldout_recordings=1))  # fmt: skip
    steps.make_speakers(run)
    steps.make_shards(run)
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert {speaker.split for speaker in load_speakers(run.speakers)} == {"train", "heldout"}
    steps.make_speakers(run)
    steps.make_shards(run)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == made


def test_int16_conversion_clips():
    assert to_int16(np.array([-2.0, 0.5, 2.0])).tolist() == [-32768, 16384, 32767]
