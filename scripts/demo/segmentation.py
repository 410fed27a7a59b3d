"""Training of the segmentation model, kept as DiariZen keeps an experiment."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations, permutations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from scripts.demo.schedule import Progress, learning_rate
from scripts.demo.training_data import NUM_SLOTS, SEGMENTATION_DIMS, Chunks
from workbench.models.fbank_conformer import FBankConformer

PEAK_RATE, WARM_UP, CONSTANT_UNTIL = 1e-3, 200, 0.45
HALF_CHUNKS_UNTIL = 0.25  # of the training sees 4 s, twice as many
_FEATURE_MEAN, _FEATURE_DEVIATION = -23.5, 18.0  # dB, of the training features


@dataclass(frozen=True)
class FrameErrors:
    """Diarization errors in frames; counts add."""

    total: int = 0
    missed: int = 0
    false_alarm: int = 0
    confusion: int = 0

    def __add__(self, other: FrameErrors) -> FrameErrors:
        return FrameErrors(
            self.total + other.total,
            self.missed + other.missed,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )

    @property
    def der(self) -> float:
        return (self.missed + self.false_alarm + self.confusion) / max(1, self.total)


POWERSET = [members for size in range(3) for members in combinations(range(NUM_SLOTS), size)]
_CLASS_OF = {members: index for index, members in enumerate(POWERSET)}
MEMBERSHIP = torch.tensor([[slot in members for slot in range(NUM_SLOTS)] for members in POWERSET])
_PERMUTATIONS = list(permutations(range(NUM_SLOTS)))
# Entry [p, c]: the class that c becomes when the slots are renamed by permutation p.
_RENAMED = torch.tensor(
    [[_CLASS_OF[tuple(sorted(p[slot] for slot in members))] for members in POWERSET] for p in _PERMUTATIONS]
)


def powerset_classes(slots: Tensor) -> Tensor:
    """Class of every frame, (..., slot) 0/1 -> (...); of three active slots the first two count."""
    kept = slots.bool() & (slots.cumsum(dim=-1) <= 2)
    code = (kept * (2 ** torch.arange(NUM_SLOTS, device=slots.device))).sum(dim=-1)
    lookup = torch.zeros(2**NUM_SLOTS, dtype=torch.long)
    for members, index in _CLASS_OF.items():
        lookup[sum(2**slot for slot in members)] = index
    return lookup.to(slots.device)[code]


def permutation_free_loss(log_probs: Tensor, slots: Tensor) -> Tensor:
    """Cross entropy under the best renaming of the slots of each chunk, mean over chunks and frames.

    log_probs (chunk, frame, class), slots (chunk, frame, slot) 0/1. The sum over frames is one
    class-by-class matrix per chunk; the 24 renamings only permute its columns.
    """
    onehot = torch.nn.functional.one_hot(powerset_classes(slots), len(POWERSET)).to(log_probs.dtype)
    cost = -onehot.transpose(1, 2) @ log_probs  # (chunk, class said, class given)
    renamed = _RENAMED.to(log_probs.device)
    rows = torch.arange(len(POWERSET), device=log_probs.device)
    per_permutation = cost[:, rows, renamed].sum(dim=-1)  # (chunk, permutation)
    return per_permutation.amin(dim=1).mean() / log_probs.shape[1]


def score_frames(log_probs: Tensor, slots: Tensor) -> FrameErrors:
    """Errors of hard decisions under the best renaming of each chunk, no collar, overlap included."""
    hypothesis = MEMBERSHIP.to(log_probs.device)[log_probs.argmax(dim=-1)].long()  # (chunk, frame, slot)
    reference = slots.long()
    said, given = reference.sum(dim=-1), hypothesis.sum(dim=-1)
    joint = reference.transpose(1, 2) @ hypothesis  # (chunk, slot, slot), frames both are active
    order = torch.tensor(_PERMUTATIONS, device=log_probs.device)
    correct = joint[:, torch.arange(NUM_SLOTS), order].sum(dim=-1).amax(dim=1)  # (chunk,)
    return FrameErrors(
        total=int(said.sum()),
        missed=int((said - given).clamp(min=0).sum()),
        false_alarm=int((given - said).clamp(min=0).sum()),
        confusion=int(torch.minimum(said, given).sum() - correct.sum()),
    )


def build_model(seed: int) -> FBankConformer:
    """The network with the scaling of the features folded into its first layer."""
    torch.manual_seed(seed)
    model = FBankConformer(SEGMENTATION_DIMS)
    for block in model.conformer.conformer_layer:
        block.mha.mha.dropout.p = 0.0  # on the attention weights it costs a fifth of the time
    with torch.no_grad():
        model.proj.weight /= _FEATURE_DEVIATION
        model.proj.bias -= _FEATURE_MEAN * model.proj.weight.sum(dim=1)
    return model


def augment(features: Tensor, generator: torch.Generator) -> Tensor:
    """Another gain, another microphone and sometimes a missing band for every chunk."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator)

    num_chunks, _, num_mels = features.shape
    position = torch.linspace(0, torch.pi, num_mels)
    waves = torch.stack([torch.cos(k * position) for k in (1, 2, 3, 4)])  # (wave, mel)
    colour = 1.5 * torch.randn(num_chunks, 4, generator=generator) @ waves  # (chunk, mel), dB
    features = features + uniform(-12, 10, num_chunks, 1, 1) + colour[:, None]
    masked = torch.rand(num_chunks, generator=generator) < 0.5
    first, width = uniform(0, num_mels - 12, num_chunks), uniform(2, 12, num_chunks)
    mel = torch.arange(num_mels)
    hidden = masked[:, None] & (mel >= first[:, None]) & (mel < (first + width)[:, None])
    floor = features.amax(dim=(1, 2), keepdim=True) - 80
    features = torch.where(hidden[:, None], floor, features)
    return torch.maximum(features, floor).clamp(min=-100.0)


class ChunkSampler:
    """Shuffled batches, epoch after epoch; looks for further shards at the start of each epoch."""

    def __init__(self, list_chunks: Callable[[], list[Chunks]], rng: np.random.Generator):
        self.list_chunks, self.rng = list_chunks, rng
        self.shards: list[Chunks] = []
        self.queue: list[tuple[int, int]] = []

    def draw(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """features (chunk, frame, mel) float32 and slots (chunk, frame, slot)."""
        if len(self.queue) < batch_size:
            self.shards = self.list_chunks()
            everything = [(i, j) for i, shard in enumerate(self.shards) for j in range(len(shard))]
            self.queue = [everything[k] for k in self.rng.permutation(len(everything))]
        drawn, self.queue = self.queue[:batch_size], self.queue[batch_size:]
        features = np.stack([self.shards[i].features[j] for i, j in drawn]).astype(np.float32)
        slots = np.stack([self.shards[i].targets[j] for i, j in drawn])
        return torch.from_numpy(features), torch.from_numpy(slots)


def validate(model: FBankConformer, chunks: Chunks, device: torch.device) -> tuple[float, FrameErrors]:
    """Mean loss and frame errors on held-out chunks."""
    model.eval()
    errors, loss = FrameErrors(), 0.0
    with torch.inference_mode():
        for first in range(0, len(chunks), 32):
            features = torch.from_numpy(chunks.features[first : first + 32].astype(np.float32)).to(device)
            slots = torch.from_numpy(chunks.targets[first : first + 32]).to(device)
            log_probs = model.classify(features)
            loss += float(permutation_free_loss(log_probs, slots)) * len(features)
            errors += score_frames(log_probs, slots)
    model.train()
    return loss / len(chunks), errors


@dataclass
class Experiment:
    """A DiariZen experiment directory being written."""

    folder: Path
    log_path: Path

    def log(self, message: str) -> None:
        """Append a line as DiariZen's logger writes it."""
        with self.log_path.open("a") as log:
            log.write(f"{time.strftime('%m-%d %H:%M:%S')} INFO     [segmentation.py]: {message}\n")

    def save(self, state_dict: dict[str, Tensor], name: str) -> None:
        """A plain state dict in float32 under `checkpoints/<name>`."""
        folder = self.folder / "checkpoints" / name
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / "pytorch_model.tmp"
        torch.save({key: value.detach().cpu().clone() for key, value in state_dict.items()}, temporary)
        temporary.replace(folder / "pytorch_model.bin")


def train(
    experiment: Experiment,
    draw_shards: Callable[[], list[Chunks]],
    heldout: Chunks,
    *,
    num_steps: int,
    minutes: float | None,
    batch_size: int,
    num_epochs: int,
    seed: int,
    device: torch.device,
) -> list[float]:
    """Train to the end, from the last finished epoch where there is one; the losses of all steps come back.

    An *epoch* is a share of the training, `1 / num_epochs`; after each the model is validated and saved.
    """
    model = build_model(seed).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    state_path = experiment.folder / "state.pt"
    epoch, best, progress = 0, float("inf"), Progress(num_steps, minutes)
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        epoch, best = state["epoch"], state["best"]
        progress = Progress(num_steps, minutes, state["step"], state["elapsed"])
    # Resuming draws other chunks than an uninterrupted run would; both are seeded.
    sampler = ChunkSampler(draw_shards, np.random.default_rng([seed, epoch]))
    generator = torch.Generator().manual_seed(seed + epoch)
    losses: list[float] = []
    while epoch < num_epochs:
        done = progress.done
        rate = learning_rate(PEAK_RATE, progress.step, done, warm_up=WARM_UP, constant_until=CONSTANT_UNTIL)
        optimizer.param_groups[0]["lr"] = rate
        features, slots = draw_batch(sampler, batch_size, done < HALF_CHUNKS_UNTIL)
        features = augment(features, generator)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            log_probs = model.classify(features.to(device))
        loss = permutation_free_loss(log_probs.float(), slots.to(device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        progress.step += 1
        if progress.step % 50 == 0:
            experiment.log(f"step {progress.step} done {done:.3f} loss {np.mean(losses[-50:]):.3f}")
        if progress.done >= (epoch + 1) / num_epochs:
            epoch += 1
            best = finish_epoch(experiment, model, heldout, epoch, best, device)
            torch.save(
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch,
                 "best": best, "step": progress.step, "elapsed": progress.elapsed},
                state_path,
            )  # fmt: skip
    return losses


def draw_batch(sampler: ChunkSampler, batch_size: int, halves: bool) -> tuple[Tensor, Tensor]:
    """Whole chunks, or twice as many halves at random places."""
    if not halves:
        return sampler.draw(batch_size)
    features, slots = sampler.draw(2 * batch_size)
    length = features.shape[1] // 2
    first = int(sampler.rng.integers(features.shape[1] - length + 1))
    return features[:, first : first + length], slots[:, first : first + length]


def finish_epoch(
    experiment: Experiment,
    model: FBankConformer,
    heldout: Chunks,
    epoch: int,
    best: float,
    device: torch.device,
) -> float:
    """Validate, log and save an epoch; the lowest loss so far comes back."""
    loss, errors = validate(model, heldout, device)
    experiment.log(f"Validation Loss/DER on epoch {epoch}: {round(loss, 3)} / {round(errors.der, 3)}")
    experiment.log(
        f"miss {errors.missed / errors.total:.3f} false alarm {errors.false_alarm / errors.total:.3f} "
        f"confusion {errors.confusion / errors.total:.3f}"
    )
    experiment.save(model.state_dict(), f"epoch_{epoch:04d}")
    if loss < best:
        experiment.save(model.state_dict(), "best")
    return min(loss, best)
