"""Training of the speaker embedding: additive angular margin over pseudo-speakers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.demo.schedule import Progress, learning_rate
from scripts.demo.training_data import VoiceBank
from workbench.models.resnet import ResNetDims, WeSpeakerResNet

EMBEDDING_DIMS = ResNetDims(num_blocks=(2, 2, 2, 2), num_channels=16, embedding=256, num_mels=80)
PEAK_RATE, WARM_UP, CONSTANT_UNTIL = 2e-3, 100, 0.3
SCALE, MARGIN, MARGIN_FROM, MARGIN_UNTIL = 30.0, 0.2, 0.05, 0.65  # the margin grows between the two
SHORT_CROP, LONG_CROP = (0.8, 1.6), (1.4, 2.4)  # s
SHORT_UNTIL = 0.7  # of the training: twice as many steps in the same time
_FRAMES_PER_SECOND = 100
_WEIGHT = {"reader": 3.0, "human": 2.0, "espeak": 1.0}  # of a pseudo-speaker in a batch
_NUM_LOGS = 20


class AngularMarginHead(nn.Module):
    """AAM-softmax, Deng et al., "ArcFace", 2019: the margin is added to the angle of the true speaker."""

    def __init__(self, num_speakers: int, dimension: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_speakers, dimension) * 0.05)

    def forward(self, embeddings: Tensor, speakers: Tensor, margin: float) -> Tensor:
        """embeddings (crop, dimension), speakers (crop,) -> mean cross entropy."""
        cosine = F.normalize(embeddings) @ F.normalize(self.weight).T  # (crop, speaker)
        cosine = cosine.clamp(-1 + 1e-6, 1 - 1e-6)
        truth = F.one_hot(speakers, len(self.weight)).bool()
        with_margin = torch.cos((torch.acos(cosine) + margin).clamp(max=torch.pi))
        return F.cross_entropy(SCALE * torch.where(truth, with_margin, cosine), speakers)


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A batch for the embedding."""

    fbank: Tensor  # float32 (crop, frame, mel), centred
    speakers: Tensor  # int64 (crop,)


class CropSampler:
    """Crops of different bases, mixed with each other and centred as the pipeline centres them."""

    def __init__(self, bank: VoiceBank, rng: np.random.Generator):
        self.bank, self.rng = bank, rng
        weight = np.array([_WEIGHT[str(kind)] for kind in bank.kinds])
        self.probability = weight / weight.sum()

    def draw(self, num_crops: int, seconds: tuple[float, float]) -> Crops:
        """Crops of one random length, all from different bases as far as there are enough."""
        num_frames = int(self.rng.uniform(*seconds) * _FRAMES_PER_SECOND)
        speakers = self.draw_speakers(num_crops)
        raw = np.stack([self.draw_frames(speaker, num_frames) for speaker in speakers])
        raw = self.mix(raw)
        centre = self.draw_centre(raw)
        fbank = mask_band(raw - centre, self.rng)
        return Crops(fbank=torch.from_numpy(fbank.astype(np.float32)), speakers=torch.from_numpy(speakers))

    def draw_speakers(self, num_crops: int) -> np.ndarray:
        """Indices into the bank, one per base."""
        num_candidates = min(4 * num_crops, len(self.bank.names))
        candidates = self.rng.choice(len(self.bank.names), num_candidates, replace=False, p=self.probability)
        _, first = np.unique(self.bank.bases[candidates], return_index=True)
        return candidates[np.sort(first)[:num_crops]]

    def draw_frames(self, speaker: int, num_frames: int) -> np.ndarray:
        """A crop of one of the speaker's copies; short voices are repeated."""
        first, last = self.bank.bounds[speaker, self.rng.integers(self.bank.bounds.shape[1])]
        if last - first <= num_frames:
            return np.resize(
                self.bank.fbank[first:last].astype(np.float32), (num_frames, self.bank.fbank.shape[1])
            )
        start = int(self.rng.integers(first, last - num_frames))
        return self.bank.fbank[start : start + num_frames].astype(np.float32)

    def mix(self, raw: np.ndarray) -> np.ndarray:
        """A third of the crops with another one 6 to 25 dB down behind them: powers add."""
        mixed = self.rng.random(len(raw)) < 0.33
        level = raw.mean(axis=(1, 2))
        other = np.roll(raw, 1, axis=0)
        shift = level - np.roll(level, 1) - np.log(10 ** (self.rng.uniform(6, 25, len(raw)) / 10))
        both = np.logaddexp(raw, other + shift[:, None, None])
        return np.where(mixed[:, None, None], both, raw)

    def draw_centre(self, raw: np.ndarray) -> np.ndarray:
        """What is subtracted: the crop's mean, in half of the crops blended with those of two others.

        The pipeline subtracts the mean of a whole chunk, in which others speak too and nobody at times.
        """
        mean = raw.mean(axis=1, keepdims=True)
        level = mean.mean(axis=2, keepdims=True)
        # Others at this crop's level: a recording has one gain.
        shape = mean - level
        others = (np.roll(shape, 3, axis=0) + np.roll(shape, 5, axis=0)) / 2 + level
        share = np.where(self.rng.random(len(raw)) < 0.5, self.rng.uniform(0, 0.7, len(raw)), 0)[
            :, None, None
        ]
        silence = share * self.rng.uniform(0, 2.5, len(raw))[:, None, None]  # pauses lower the mean
        return (1 - share) * mean + share * others - silence


def mask_band(fbank: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the crops without a band of up to ten mels."""
    for i in np.flatnonzero(rng.random(len(fbank)) < 0.5):
        first, width = int(rng.integers(fbank.shape[2] - 10)), int(rng.integers(1, 11))
        fbank[i, :, first : first + width] = 0
    return fbank


def equal_error_rate(scores: np.ndarray, same: np.ndarray) -> float:
    """Rate at which misses and false alarms of a threshold on the score are equal, interpolated."""
    order = np.argsort(-scores, kind="stable")
    same = np.asarray(same, dtype=bool)[order]
    missed = 1 - np.cumsum(same) / max(1, same.sum())
    false_alarm = np.cumsum(~same) / max(1, (~same).sum())
    crossing = int(np.argmax(false_alarm >= missed))
    return float((missed[crossing] + false_alarm[crossing]) / 2)


def trial_error_rate(embeddings: np.ndarray, labels: np.ndarray) -> float:
    """Equal error rate of the cosine over all pairs of rows."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    first, second = np.triu_indices(len(unit), k=1)
    return equal_error_rate(np.sum(unit[first] * unit[second], axis=1), labels[first] == labels[second])


@torch.inference_mode()
def embed(model: WeSpeakerResNet, fbanks: list[Tensor]) -> np.ndarray:
    """Embeddings of features of any lengths, each centred on itself, (item, dimension)."""
    model.eval()
    device = next(model.parameters()).device
    rows = [model((f - f.mean(dim=0)).to(device)[None])[0].cpu().numpy() for f in fbanks]
    return np.stack(rows)


def train(
    bank: VoiceBank,
    folder: Path,
    *,
    num_steps: int,
    minutes: float | None,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> list[float]:
    """Train to the end, from the last stored state where there is one; the losses of all steps come back.

    The product is `folder/pytorch_model.bin`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    model = WeSpeakerResNet(EMBEDDING_DIMS).to(device, memory_format=torch.channels_last)
    head = AngularMarginHead(len(bank.names), EMBEDDING_DIMS.embedding).to(device)
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=PEAK_RATE, weight_decay=0.02, fused=True)
    progress, logged = Progress(num_steps, minutes), 0
    state_path = folder / "state.pt"
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        head.load_state_dict(state["head"])
        optimizer.load_state_dict(state["optimizer"])
        logged, progress = state["logged"], Progress(num_steps, minutes, state["step"], state["elapsed"])
    sampler = CropSampler(bank, np.random.default_rng([seed, logged]))
    losses: list[float] = []
    model.train()
    while progress.done < 1:
        done = progress.done
        rate = learning_rate(PEAK_RATE, progress.step, done, warm_up=WARM_UP, constant_until=CONSTANT_UNTIL)
        optimizer.param_groups[0]["lr"] = rate
        margin = MARGIN * float(np.clip((done - MARGIN_FROM) / (MARGIN_UNTIL - MARGIN_FROM), 0, 1))
        crops = sampler.draw(batch_size, SHORT_CROP if done < SHORT_UNTIL else LONG_CROP)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            embeddings = model(crops.fbank.to(device))
        loss = head(embeddings.float(), crops.speakers.to(device), margin)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        losses.append(loss.item())
        progress.step += 1
        if progress.done >= (logged + 1) / _NUM_LOGS:
            logged += 1
            log_state(folder, progress, np.mean(losses[-50:]), margin)
            save_state(
                state_path,
                {"model": model.state_dict(), "head": head.state_dict(), "optimizer": optimizer.state_dict(),
                 "logged": logged, "step": progress.step, "elapsed": progress.elapsed},
            )  # fmt: skip
    save_state(
        folder / "pytorch_model.bin", {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
    )
    return losses


def log_state(folder: Path, progress: Progress, loss: float, margin: float) -> None:
    """One line per twentieth of the training."""
    with (folder / "training.log").open("a") as log:
        moment = time.strftime("%Y-%m-%d %H:%M:%S")
        log.write(
            f"[{moment}] step {progress.step} done {progress.done:.2f} margin {margin:.2f} loss {loss:.3f}\n"
        )


def save_state(path: Path, state: dict) -> None:
    """`torch.save` in one move."""
    temporary = path.with_suffix(".tmp")
    torch.save(state, temporary)
    temporary.replace(path)
