"""A whole hub folder with tiny models, built in about a second: enough to run every command.

The weights are random but for the two last layers, which are regressed onto three synthetic
voices: enough for the whole pipeline to tell those voices apart, in 60 kB.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile
import torch
from pyannote.core import Annotation, Segment

from workbench.models.fbank_conformer import FBankConformer, FBankConformerDims
from workbench.models.kaldi_fbank import kaldi_fbank
from workbench.models.resnet import ResNetDims, WeSpeakerResNet, pool_weighted_statistics

SAMPLE_RATE = 16000
SEG_DURATION = 2  # s
POWERSET = tuple(  # every set of at most two of four local speakers, as 0/1 rows, smaller sets first
    tuple(float(speaker in members) for speaker in range(4))
    for size in range(3)
    for members in combinations(range(4), size)
)
VOICES = ((110, 1.0), (170, 0.5), (240, 2.0))  # pitch in Hz, decay of the harmonics
CONFIG = """\
[model]
path = "diarizen.models.eend.model_fbank_conformer.Model"

[model.args]
n_fft = 400
n_mels = 80
win_length = 25
hop_length = 20
sample_rate = 16000
attention_in = 16
ffn_hidden = 16
num_head = 2
num_layer = 1
kernel_size = 7
dropout = 0.0
use_posi = false
output_activate_function = false
max_speakers_per_chunk = 4
chunk_size = 2
selected_channel = 0

[inference.args]
seg_duration = 2
segmentation_step = 0.25
batch_size = 4
apply_median_filtering = true

[clustering.args]
method = "VBxClustering"
min_speakers = 1
max_speakers = 20
ahc_criterion = "distance"
ahc_threshold = 0.75
Fa = 0.5
Fb = 0.8
lda_dim = 8
max_iters = 20
"""


def make_conversation(duration: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Turns of three buzzing voices with pauses and overlaps.

    Returns the waveform, float32 (num_samples,) with peak 0.5, and who talks, bool (3, num_samples).
    """
    rng = np.random.default_rng(seed)
    time = np.arange(round(duration * SAMPLE_RATE)) / SAMPLE_RATE
    waveform = 1e-3 * rng.standard_normal(len(time))
    active = np.zeros((len(VOICES), len(time)), dtype=bool)
    now = 0.2
    while now < duration:
        voice = rng.integers(len(VOICES))
        pitch, timbre = VOICES[voice]
        length = rng.uniform(0.4, 1.6)
        turn = (time >= now) & (time < now + length) & ~active[voice]
        sweep = 2 * np.pi * pitch * (time[turn] + 0.002 * np.sin(7 * time[turn]))
        waveform[turn] += sum(np.sin(n * sweep) / n**timbre for n in range(1, 12))
        active[voice] |= turn
        now += length + rng.uniform(-0.3, 0.5)
    return (0.5 * waveform / max(np.abs(waveform).max(), 1e-9)).astype(np.float32), active


def make_speech(duration: float, seed: int = 0) -> np.ndarray:
    """The waveform of `make_conversation`."""
    return make_conversation(duration, seed)[0]


def write_speech(path: Path, duration: float = 6.0, seed: int = 0) -> Path:
    """`make_speech` in a file, whose format follows the name's ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, make_speech(duration, seed), SAMPLE_RATE)
    return path


def make_tiny_hub(folder: Path, *, onnx: bool = True) -> Path:
    """A hub-layout folder: config.toml, segmentation, embedding, PLDA and, if asked for, ONNX exports."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(CONFIG)
    with torch.no_grad():
        torch.save(tiny_segmentation().state_dict(), folder / "pytorch_model.bin")
        state = {f"resnet.{key}": value for key, value in tiny_embedding().state_dict().items()}
    (folder / "embedding").mkdir(exist_ok=True)
    torch.save({"state_dict": state}, folder / "embedding" / "pytorch_model.bin")
    write_plda(folder / "plda")
    if onnx:
        export_hub(folder)
    return folder


def training_chunks() -> tuple[torch.Tensor, torch.Tensor]:
    """Chunks of conversation and of silence (chunk, sample), and who talks in them (chunk, voice, sample)."""
    waveform, active = make_conversation(100.0, seed=99)
    size = SEG_DURATION * SAMPLE_RATE
    silence = np.zeros((2, size), dtype=np.float32)
    chunks = np.concatenate([waveform.reshape(-1, size), silence])
    talking = np.concatenate([active.reshape(len(VOICES), -1, size).swapaxes(0, 1), np.zeros((2, 3, size))])
    return torch.from_numpy(chunks), torch.from_numpy(talking).float()


@torch.no_grad()
def tiny_segmentation() -> FBankConformer:
    """A random network whose classifier is a ridge regression onto who talks."""
    torch.manual_seed(3)
    dims = FBankConformerDims(
        hop_length=20, attention_in=16, ffn_hidden=16, num_head=2, num_layer=1, kernel_size=7, chunk_size=2
    )
    network = FBankConformer(dims).eval()
    chunks, talking = training_chunks()
    hidden = network.conformer(
        network.lnorm(network.proj(network.make_feats(chunks)))
    )  # (chunk, frame, width)
    middle = (torch.arange(hidden.shape[1]) * dims.hop_samples).clamp(max=talking.shape[-1] - 1)
    sets = talking[..., middle].transpose(1, 2).flatten(0, 1)  # (frame, voice)
    # the class whose set differs least; voices are local speakers 0 to 2, speaker 3 never talks
    distance = (sets[:, None] - torch.tensor(POWERSET)[None, :, :3]).abs().sum(dim=-1)  # (frame, class)
    distance += 9 * torch.tensor(POWERSET)[:, 3]
    classes = torch.nn.functional.one_hot(distance.argmin(dim=1), len(POWERSET))
    inputs = torch.cat([hidden.flatten(0, 1), torch.ones(len(classes), 1)], dim=1).double()
    # the ridge keeps the weights small, so that rounding in the hidden layer stays rounding
    gram = inputs.T @ inputs + 1e-3 * len(inputs) * torch.eye(inputs.shape[1])
    solution = torch.linalg.solve(gram, 20 * inputs.T @ classes.double()).float()
    network.classifier.weight.copy_(solution[:-1].T)
    network.classifier.bias.copy_(solution[-1])
    return network


@torch.no_grad()
def tiny_embedding() -> WeSpeakerResNet:
    """A random network whose last layer is a ridge regression onto one direction per voice."""
    torch.manual_seed(4)
    network = WeSpeakerResNet(ResNetDims(num_blocks=(1, 1, 1, 1), num_channels=2, embedding=16)).eval()
    chunks, talking = training_chunks()
    fbank = kaldi_fbank(chunks)
    features = network.trunk(fbank - fbank.mean(dim=1, keepdim=True))
    alone = talking * (talking.sum(dim=1, keepdim=True) == 1)
    masks = alone[..., :: SAMPLE_RATE // 50]  # (chunk, voice, frame)
    statistics = pool_weighted_statistics(features, masks)  # (chunk, voice, statistic)
    voice = torch.arange(len(VOICES)).expand(len(chunks), -1)
    enough = masks.sum(dim=2) > 10
    directions = torch.from_numpy(voice_directions()[: len(VOICES)])
    inputs = torch.cat([statistics[enough], torch.ones(int(enough.sum()), 1)], dim=1).double()
    target = directions[voice[enough]] + 0.05 * torch.randn(int(enough.sum()), 16)
    gram = inputs @ inputs.T + 1e-2 * torch.eye(len(inputs))
    solution = (inputs.T @ torch.linalg.solve(gram, target)).float()
    network.seg_1.weight.copy_(solution[:-1].T)
    network.seg_1.bias.copy_(solution[-1])
    return network


def voice_directions() -> np.ndarray:
    """Orthonormal rows (16, 16); the first three are where the embeddings of the voices point."""
    return np.linalg.qr(np.random.default_rng(5).standard_normal((16, 16)))[0].T


def write_plda(folder: Path, lda_dim: int = 8) -> Path:
    """A transform and PLDA, in DiariZen's naming, that know where voices differ."""
    folder.mkdir(parents=True, exist_ok=True)
    zeros = np.zeros(lda_dim)
    np.savez(
        folder / "xvec_transform.npz", mean1=np.zeros(16), mean2=zeros, lda=voice_directions()[:lda_dim].T
    )
    psi = np.where(np.arange(lda_dim) < len(VOICES), 8.0, 0.1) + 0.01 * np.arange(lda_dim)
    np.savez(folder / "plda.npz", mu=zeros, tr=np.eye(lda_dim), psi=psi)
    return folder


def export_hub(folder: Path) -> None:
    """Write `onnx/segmentation.onnx` and `onnx/embedding.onnx` of a hub folder."""
    from workbench.export import export_onnx

    for kind, output in (("segmentation", "powerset"), ("embedding", "embedding")):
        export_onnx(f"torch:{folder}", folder / "onnx" / f"{kind}.onnx", output=output)


def make_reference(duration: float, seed: int = 0, uri: str = "speech") -> Annotation:
    """Who really talks in `make_conversation`."""
    reference = Annotation(uri=uri)
    for voice, active in enumerate(make_conversation(duration, seed)[1]):
        edges = np.flatnonzero(np.diff(active.astype(int), prepend=0, append=0)) / SAMPLE_RATE
        for start, end in edges.reshape(-1, 2):
            reference[Segment(start, end), voice] = f"voice{voice}"
    return reference
