"""The hub-layout folder `models/demo`, made from the products of the other stages."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from scripts.demo.embedding import EMBEDDING_DIMS
from scripts.demo.training_data import SEGMENTATION_DIMS

EXPERIMENT = "demo_fbank_conformer"
PIPELINE_ARGUMENTS = {
    "seg_duration": 8,
    "segmentation_step": 0.1,
    "batch_size": 32,
    "apply_median_filtering": True,
}


@dataclass(frozen=True, kw_only=True)
class ClusteringArguments:
    """`[clustering.args]`; the values that `evaluate` finds best on the dev half of the demo corpus."""

    method: str = "VBxClustering"
    min_speakers: int = 1
    max_speakers: int = 20
    ahc_criterion: str = "distance"
    ahc_threshold: float = 0.6
    Fa: float = 0.07
    Fb: float = 0.8
    lda_dim: int = 128
    max_iters: int = 20


def model_arguments() -> dict[str, object]:
    """`[model.args]` as DiariZen spells them."""
    dims = SEGMENTATION_DIMS
    names = (
        "n_fft n_mels win_length hop_length sample_rate attention_in ffn_hidden num_head num_layer dropout "
        "chunk_size use_posi selected_channel max_speakers_per_chunk"
    )
    return {name: getattr(dims, name) for name in names.split()} | {"output_activate_function": False}


def to_toml(tables: dict[str, dict[str, object]]) -> str:
    """TOML text of tables of strings, booleans and numbers."""

    def literal(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        return f'"{value}"' if isinstance(value, str) else repr(value)

    blocks = []
    for table, entries in tables.items():
        lines = [f"{key} = {literal(value)}" for key, value in entries.items()]
        blocks.append("\n".join([f"[{table}]", *lines]))
    return "\n\n".join(blocks) + "\n"


def write_hub_config(path: Path, clustering: ClusteringArguments) -> None:
    """`config.toml` of the hub layout."""
    tables = {
        "model": {"path": "diarizen.models.eend.model_fbank_conformer.Model"},
        "model.args": model_arguments(),
        "inference.args": PIPELINE_ARGUMENTS,
        "clustering.args": asdict(clustering),
    }
    path.write_text(to_toml(tables))


def write_experiment(folder: Path, trained: Path, stamp: str, training: dict[str, object]) -> None:
    """The experiment directory with three of its epochs, and `best` as a link to the epoch it is.

    Links keep the whole folder under its 25 MB; `trained` holds every epoch.
    """
    shutil.rmtree(folder, ignore_errors=True)
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(parents=True)
    tables = {
        "meta": {"save_dir": "exp", "seed": training["seed"], "exp_id": EXPERIMENT},
        "model": {"path": "diarizen.models.eend.model_fbank_conformer.Model"},
        "model.args": model_arguments(),
        "optimizer": {"path": "torch.optim.AdamW"},
        "optimizer.args": {"lr": training["lr"]},
        "trainer.args": {"max_epochs": training["num_epochs"], "save_max_score": False},
    }
    (folder / f"config__{stamp}.toml").write_text(to_toml(tables))
    log = (trained / "training.log").read_text()
    (folder / f"{EXPERIMENT}_{stamp}.log").write_text(log)
    metrics = [line.rsplit("]:", 1)[-1] for line in log.splitlines() if "Validation Loss/DER" in line]
    (folder / "val_metric_summary.lst").write_text("\n".join(metrics) + "\n")
    best_epoch = choose_best_epoch(metrics)
    for epoch in choose_epochs(len(metrics), best_epoch):
        shutil.copytree(trained / "checkpoints" / f"epoch_{epoch:04d}", checkpoints / f"epoch_{epoch:04d}")
    (checkpoints / "best").mkdir()
    (checkpoints / "best" / "pytorch_model.bin").symlink_to(
        Path("..") / f"epoch_{best_epoch:04d}" / "pytorch_model.bin"
    )


def choose_best_epoch(metrics: list[str]) -> int:
    """Epoch with the lowest validation loss, the first of equal ones, from `Validation Loss/DER` lines."""
    best = min(metrics, key=lambda line: float(line.split()[-3]))
    return int(best.split()[4].rstrip(":"))


def choose_epochs(num_epochs: int, best_epoch: int) -> list[int]:
    """The best epoch, one about 60 % of the way, the last, and the one before where that makes but two."""
    epochs = {best_epoch, max(1, round(0.6 * num_epochs)), num_epochs}
    if len(epochs) < 3:
        epochs.add(max(1, num_epochs - 1))
    return sorted(epochs)


def write_embedding(path: Path, weights: Path) -> None:
    """pyannote's form of the embedding: keys prefixed `resnet.`, plain metadata beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state_dict = torch.load(weights, weights_only=True)
    torch.save(
        {
            "state_dict": {f"resnet.{key}": value.contiguous() for key, value in state_dict.items()},
            "hyper_parameters": {
                "sample_rate": 16000, "num_channels": 1, "num_mel_bins": EMBEDDING_DIMS.num_mels,
                "frame_length": 25, "frame_shift": 10, "dither": 0.0, "window_type": "hamming",
                "use_energy": False,
            },
            "pyannote.audio": {
                "architecture": {
                    "module": "pyannote.audio.models.embedding.wespeaker",
                    "class": "WeSpeakerResNet18",
                },
            },
        },
        path,
    )  # fmt: skip


def assemble(
    out: Path,
    trained: Path,
    embedding_weights: Path,
    plda: Path,
    stamp: str,
    training: dict[str, object],
) -> None:
    """Write the hub-layout folder; what others put there (ONNX exports, figures) stays."""
    out.mkdir(parents=True, exist_ok=True)
    write_experiment(out / "experiment", trained, stamp, training)
    link = out / "pytorch_model.bin"
    link.unlink(missing_ok=True)
    link.symlink_to(Path("experiment") / "checkpoints" / "best" / "pytorch_model.bin")
    write_embedding(out / "embedding" / "pytorch_model.bin", embedding_weights)
    shutil.copytree(plda, out / "plda", dirs_exist_ok=True)
    write_hub_config(out / "config.toml", ClusteringArguments())
