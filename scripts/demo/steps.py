"""The stages of the recipe, in order; each skips itself when its product is there."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch

from scripts.demo import (
    assemble,
    corpus,
    embedding,
    evaluate,
    plda,
    readers,
    segmentation,
    training_data,
    voices,
)
from scripts.demo.stages import Run, pick_device
from workbench.models.fbank_conformer import FBankConformer
from workbench.models.resnet import WeSpeakerResNet
from workbench.pipeline import load_hub

_VOICES, _SHARDS, _HELDOUT, _BANK, _CORPUS, _PLDA = range(6)  # purposes of the random generators


def make_speakers(run: Run) -> None:
    """Synthesize the voices, read the readers, make the variants."""
    if run.speakers.exists():
        return
    speakers = []
    for i, voice in enumerate(voices.available_voices()):
        human = voice.kind == "human"
        num_sentences = run.amounts.num_sentences if human else run.amounts.num_espeak_sentences
        pieces = voices.synthesize(voice, num_sentences, run.rng(_VOICES, 0, i))
        speakers += voices.make_variants(voice.name, voice.kind, voice.split, pieces)
    utterances = {}
    for folder in run.readers:
        utterances.update(readers.find_utterances(folder))
    for i, (name, paths) in enumerate(list(utterances.items())[: run.amounts.num_readers]):
        split = "heldout" if i % readers.HELDOUT_EVERY == 0 else "train"
        pieces = readers.read_reader(paths, run.rng(_VOICES, 1, i))
        speakers += voices.make_variants(name, "reader", split, pieces)
    voices.save_speakers(run.speakers, speakers)


def make_heldout_chunks(run: Run) -> None:
    """Conversations of voices that no training sees: they choose the checkpoint."""
    if run.heldout_chunks.exists():
        return
    speakers = [s for s in voices.load_speakers(run.speakers) if s.split == "heldout"]
    chunks = training_data.make_chunks(run.rng(_HELDOUT), speakers, run.amounts.num_heldout_recordings)
    # Chunks of one recording are much alike: a quarter of them says as much in a quarter of the time.
    few = training_data.Chunks(features=chunks.features[::4], targets=chunks.targets[::4])
    training_data.save_chunks(run.heldout_chunks, few)


def make_shards(run: Run) -> None:
    """Conversations to train on, a shard at a time; training may start on the first ones."""
    missing = [i for i in range(run.amounts.num_shards) if not (run.shards / f"{i:03d}").exists()]
    if not missing:
        return
    run.shards.mkdir(parents=True, exist_ok=True)
    speakers = [s for s in voices.load_speakers(run.speakers) if s.split == "train"]
    for i in missing:
        chunks = training_data.make_chunks(run.rng(_SHARDS, i), speakers, run.amounts.num_recordings)
        training_data.save_chunks(run.shards / f"{i:03d}", chunks)
        one_or_more = np.bincount(chunks.targets.max(axis=1).sum(axis=1), minlength=5) / len(chunks)
        print(
            f"shard {i}: {len(chunks)} chunks, by speakers {one_or_more.round(2)}",
            file=sys.stderr,
            flush=True,
        )


def make_voice_bank(run: Run) -> None:
    """Noisy copies of every training speaker for the embedding."""
    if run.voice_bank.exists():
        return
    speakers = [s for s in voices.load_speakers(run.speakers) if s.split == "train"]
    bank = training_data.make_voice_bank(run.rng(_BANK), speakers, run.amounts.num_copies)
    training_data.save_voice_bank(run.voice_bank, bank)


def make_corpus(run: Run) -> None:
    """The demo corpus."""
    if (run.corpus / "manifest.json").exists():
        return
    speakers = voices.load_speakers(run.speakers)
    corpus.write_corpus(run.corpus, run.rng(_CORPUS), speakers, run.seed)


def train_segmentation(run: Run) -> None:
    """The segmentation experiment; complete when its last epoch is there."""
    folder, amounts = run.segmentation, run.amounts
    if (folder / "checkpoints" / f"epoch_{amounts.num_epochs:04d}").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "started").exists():
        (folder / "started").write_text(time.strftime("%Y_%m_%d--%H_%M_%S"))

    def draw_shards() -> list[training_data.Chunks]:
        # A stage that is still making shards leaves more of them between two passes.
        return [training_data.load_chunks(path) for path in sorted(run.shards.glob("[0-9][0-9][0-9]"))]

    segmentation.train(
        segmentation.Experiment(folder, folder / "training.log"),
        draw_shards,
        training_data.load_chunks(run.heldout_chunks),
        num_steps=amounts.segmentation_steps,
        minutes=run.minutes,
        batch_size=amounts.segmentation_batch,
        num_epochs=amounts.num_epochs,
        seed=run.seed,
        device=pick_device(),
    )


def train_embedding(run: Run) -> None:
    """The embedding network; complete when its weights are there."""
    if (run.embedding / "pytorch_model.bin").exists():
        return
    embedding.train(
        training_data.load_voice_bank(run.voice_bank),
        run.embedding,
        num_steps=run.amounts.embedding_steps,
        minutes=run.minutes,
        batch_size=run.amounts.embedding_batch,
        seed=run.seed,
        device=pick_device(),
    )


def estimate_plda(run: Run) -> None:
    """Transform and PLDA from what the two networks make of further conversations.

    Half of these are of training voices, half of the held-out ones, whose variants count as people too.
    """
    if run.plda.exists():
        return
    speakers = voices.load_speakers(run.speakers)
    networks = load_best_segmentation(run), load_trained_embedding(run)
    rows, labels, unseen = [], [], []
    for i, cast in enumerate(
        (
            [s for s in speakers if s.split == "train" and s.rate == 1.0],
            [s for s in speakers if s.split == "heldout"],
        )
    ):
        found, names = plda.collect_embeddings(
            run.rng(_PLDA, i), cast, *networks, run.amounts.num_plda_recordings // 2
        )
        rows.append(found)
        labels.append(names)
        unseen.append(np.full(len(names), i == 1))
    estimated = plda.estimate(
        np.concatenate(rows), np.concatenate(labels), np.concatenate(unseen), plda.DIMENSION
    )
    plda.save_plda(run.plda, estimated)


def load_best_segmentation(run: Run) -> FBankConformer:
    """The checkpoint with the lowest loss so far."""
    weights = run.segmentation / "checkpoints" / "best" / "pytorch_model.bin"
    model = FBankConformer(training_data.SEGMENTATION_DIMS)
    model.load_state_dict(torch.load(weights, weights_only=True))
    return model.to(pick_device())


def load_trained_embedding(run: Run) -> WeSpeakerResNet:
    """The finished embedding network."""
    model = WeSpeakerResNet(embedding.EMBEDDING_DIMS)
    model.load_state_dict(torch.load(run.embedding / "pytorch_model.bin", weights_only=True))
    return model.to(pick_device())


def assemble_hub(run: Run) -> None:
    """The hub-layout folder, with DiariZen's clustering parameters until `evaluate` has chosen others."""
    assemble.assemble(
        run.out,
        run.segmentation,
        run.embedding / "pytorch_model.bin",
        run.plda,
        (run.segmentation / "started").read_text(),
        {"seed": run.seed, "lr": segmentation.PEAK_RATE, "num_epochs": run.amounts.num_epochs},
    )


def evaluate_hub(run: Run) -> None:
    """Choose the clustering on the dev half of the corpus, write it into config.toml, measure everything."""
    figures: dict[str, object] = {}
    cache = run.work / "features"
    shutil.rmtree(cache, ignore_errors=True)
    references = evaluate.read_references(run.corpus)
    runtimes, params = load_hub(run.out)
    splits = {}
    for split in ("dev", "test"):
        uris = (run.corpus / f"{split}.lst").read_text().split()[: run.amounts.num_evaluated]
        recordings = [run.corpus / f"{uri}.flac" for uri in uris]
        splits[split] = evaluate.features_of(recordings, run.out, cache / "demo")
    clustering, grid = evaluate.choose_clustering(splits["dev"], references, params, runtimes.plda)
    assemble.write_hub_config(run.out / "config.toml", clustering)
    params = load_hub(run.out)[1]
    figures["clustering"] = asdict(clustering)
    for split, features in splits.items():
        figures[f"demo_{split}"] = evaluate.diarization_figures(features, references, params, runtimes.plda)
    if run.ami is not None:
        excerpts = evaluate.recordings_in(run.ami)[: run.amounts.num_evaluated]
        ami = evaluate.features_of(excerpts, run.out, cache / "ami")
        figures["ami"] = evaluate.diarization_figures(
            ami, evaluate.read_references(run.ami), params, runtimes.plda
        )
    network = evaluate.load_embedding(run.out / "embedding" / "pytorch_model.bin")
    unseen = evaluate.synthetic_voices(voices.load_speakers(run.speakers))
    figures["verification_synthetic"] = evaluate.verification_figures(network, unseen)
    if run.verification is not None:
        readers_unseen = evaluate.read_voices(run.verification)
        figures["verification_readers"] = evaluate.verification_figures(network, readers_unseen)
    evaluate.write_figures(run.out / "figures.json", figures)
    evaluate.write_figures(run.work / "grid.json", {"grid": grid})


STAGES: dict[str, Callable[[Run], None]] = {
    "speakers": make_speakers,
    "heldout": make_heldout_chunks,
    "bank": make_voice_bank,
    "chunks": make_shards,
    "corpus": make_corpus,
    "segmentation": train_segmentation,
    "embedding": train_embedding,
    "plda": estimate_plda,
    "assemble": assemble_hub,
    "evaluate": evaluate_hub,
}
