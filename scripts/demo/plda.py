"""The transform and the two-covariance PLDA that VBx clustering uses.

Formulas and file names are DiariZen's: with `n` the L2 normalisation of a row and x an embedding,
``v = sqrt(d) n(sqrt(D) n(x - mean1) lda - mean2)`` and then PLDA with mean `mu`, diagonalising `tr` and
between-speaker variances `psi` (within-speaker variance 1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from scripts.demo.conversations import Conversation, draw_cast, draw_conversation, draw_params
from scripts.demo.segmentation import MEMBERSHIP
from scripts.demo.training_data import CHUNK, NUM_FRAMES, frame_activity
from scripts.demo.voices import SAMPLE_RATE, Speaker
from workbench.clustering import PLDA, plda_files
from workbench.clustering.plda_estimation import diagonalise, normalise_rows, speaker_scatter
from workbench.models.fbank_conformer import FBankConformer
from workbench.models.kaldi_fbank import kaldi_fbank
from workbench.models.resnet import WeSpeakerResNet, pool_weighted_statistics

DIMENSION = 128  # of the LDA, as in the published hub folders

_RECORDING = 64.0  # s
_MIN_CLEAN_FRAMES = 40  # 0.8 s of a local speaker alone
_MIN_PURITY = 0.6  # of those frames must belong to one person
_SHRINKAGE = 0.2  # of the within-speaker covariance towards its mean variance


def scatter(rows: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Within- and between-speaker covariance of rows, the first one shrunk."""
    return speaker_scatter(rows, labels, _SHRINKAGE)


def estimate(embeddings: np.ndarray, labels: np.ndarray, unseen: np.ndarray, dimension: int) -> PLDA:
    """Centring, LDA to `dimension` and PLDA, from embeddings (item, D) of speakers `labels` (item,).

    `unseen` (item,) marks speakers that the embedding was not trained on. The variance within speakers comes
    from them alone: a network keeps those it was trained on closer together than anybody a user brings, and
    VBx then splits everybody. The variance between speakers comes from all.
    """
    embeddings = embeddings.astype(np.float64)
    mean1 = embeddings.mean(axis=0)
    y = np.sqrt(embeddings.shape[1]) * normalise_rows(embeddings - mean1)
    rows, _ = diagonalise(scatter(y[unseen], labels[unseen])[0], scatter(y, labels)[1])
    lda = rows[:dimension].T
    mean2 = (y @ lda).mean(axis=0)
    v = np.sqrt(lda.shape[1]) * normalise_rows(y @ lda - mean2)
    tr, psi = diagonalise(scatter(v[unseen], labels[unseen])[0], scatter(v, labels)[1])
    return PLDA(mean1=mean1, lda=lda, mean2=mean2, mu=v.mean(axis=0), tr=tr, psi=psi)


def save_plda(folder: Path, plda: PLDA) -> None:
    """`plda.npz` and `xvec_transform.npz`, as a hub-layout folder has them."""
    temporary = folder.with_name(folder.name + ".tmp")
    temporary.mkdir(parents=True, exist_ok=True)
    plda_files.save_plda(temporary, plda)
    temporary.rename(folder)


@torch.inference_mode()
def embed_conversation(
    conversation: Conversation, segmentation: FBankConformer, embedding: WeSpeakerResNet
) -> tuple[np.ndarray, list[str]]:
    """Embeddings of the local speakers of 8 s chunks, cut with predicted masks, and who they are.

    The masks are those of the pipeline: frames in which a local speaker talks alone.
    """
    num_samples = int(CHUNK * SAMPLE_RATE)
    starts = np.arange(0, len(conversation.waveform) - num_samples + 1, num_samples)
    device = next(segmentation.parameters()).device
    chunks = torch.from_numpy(np.stack([conversation.waveform[s : s + num_samples] for s in starts])).to(
        device
    )
    log_probs = segmentation(chunks[:, None])
    active = MEMBERSHIP.to(device)[log_probs.argmax(dim=-1)].float()  # (chunk, frame, slot)
    clean = (active * (active.sum(dim=-1, keepdim=True) == 1)).transpose(1, 2)  # (chunk, slot, frame)
    fbank = kaldi_fbank(chunks)
    with torch.autocast(device.type, dtype=torch.bfloat16):  # of the two, by far the longer part
        features = embedding.trunk(fbank - fbank.mean(dim=1, keepdim=True))
    statistics = pool_weighted_statistics(features.float(), clean)
    embeddings = embedding.project(statistics).cpu().numpy()  # (chunk, slot, dimension)
    rows, names = [], []
    for i, start in enumerate(starts):
        truth = frame_activity(conversation.activity, start / SAMPLE_RATE, NUM_FRAMES)  # (frame, speaker)
        shared = clean[i].cpu().numpy() @ truth  # (slot, speaker), frames
        for slot, num_clean in enumerate(clean[i].sum(dim=1).tolist()):
            speaker = int(shared[slot].argmax())
            if num_clean >= _MIN_CLEAN_FRAMES and shared[slot, speaker] >= _MIN_PURITY * num_clean:
                rows.append(embeddings[i, slot])
                names.append(conversation.speakers[speaker])
    return np.array(rows).reshape(-1, embeddings.shape[-1]), names


def collect_embeddings(
    rng: np.random.Generator,
    speakers: list[Speaker],
    segmentation: FBankConformer,
    embedding: WeSpeakerResNet,
    num_recordings: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings (item, dimension) and speaker names (item,) from conversations of these speakers."""
    segmentation.eval()
    embedding.eval()
    rows, names = [], []
    for _ in range(num_recordings):
        params = draw_params(rng, _RECORDING)
        cast = draw_cast(rng, speakers, params.num_speakers)
        conversation = draw_conversation(rng, cast, params, speakers)
        found, who = embed_conversation(conversation, segmentation, embedding)
        rows.append(found)
        names += who
    return np.concatenate(rows), np.array(names)
