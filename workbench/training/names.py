"""What the many names of logged numbers mean: one quantity, and whose it is."""

from __future__ import annotations

import re

QUANTITIES = ("loss", "der", "missed", "false_alarm", "confusion", "learning_rate", "gradient_norm", "other")
"""What a curve can show; `other` is everything whose name says nothing known."""

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_VALIDATION = frozenset({"validation", "validate", "val", "valid", "dev", "eval"})
_TRAINING = frozenset({"training", "train"})
_UNIT = frozenset({"epoch", "epochs", "step", "steps", "batch", "iteration"})
_MEANINGS: tuple[
    tuple[str, tuple[frozenset[str], ...]], ...
] = (  # the first that fits; any of the sets suffices
    ("learning_rate", (frozenset({"lr"}), frozenset({"learning", "rate"}))),
    ("gradient_norm", (frozenset({"norm"}), frozenset({"gradient"}), frozenset({"grad"}))),
    ("der", (frozenset({"der"}), frozenset({"diarization", "error", "rate"}))),
    ("false_alarm", (frozenset({"fa"}), frozenset({"false", "alarm"}))),
    ("missed", (frozenset({"miss"}), frozenset({"missed"}))),
    ("confusion", (frozenset({"confusion"}),)),
    ("loss", (frozenset({"loss"}),)),
)
_REPEATED = {  # words that say again what the quantity says
    "learning_rate": {"lr", "learning", "rate"},
    "gradient_norm": {"norm", "gradient", "grad"},
    "der": {"der", "diarization", "error", "rate"},
    "false_alarm": {"fa", "false", "alarm"},
    "missed": {"miss", "missed"},
    "confusion": {"confusion"},
    "loss": {"loss"},
}


def words_of(name: str) -> list[str]:
    """The words of a tag in lower case.

    Examples
    --------
    >>> words_of("Train_Epoch/lr_small"), words_of("valDER")
    (['train', 'epoch', 'lr', 'small'], ['val', 'der'])
    """
    return [word.lower() for word in _WORD.findall(name)]


def meaning_of(name: str) -> tuple[str, str]:
    """Quantity (one of `QUANTITIES`) and series of a logged name.

    A series is `training` or `validation` with what else the name says; learning rates and gradient
    norms exist in training alone and are called by what tells them apart.

    Examples
    --------
    >>> meaning_of("Train_Epoch/Loss"), meaning_of("Validation_Epoch/DER"), meaning_of("Train_Epoch/lr_small")
    (('loss', 'training'), ('der', 'validation'), ('learning_rate', 'small'))
    """
    words = words_of(name)
    known = set(words)
    quantity = next((each for each, sets in _MEANINGS if any(needed <= known for needed in sets)), "other")
    if quantity == "other":
        return "other", name
    ignored = _UNIT | _REPEATED[quantity]
    phase = "validation" if known & _VALIDATION else "training"
    rest = [word for word in words if word not in ignored | _VALIDATION | _TRAINING]
    if quantity in ("learning_rate", "gradient_norm") and phase == "training":
        return quantity, " ".join(rest) or "all parameters"
    return quantity, " ".join([phase, *rest])


def counts_epochs(name: str) -> bool | None:
    """Whether a tag's steps are epochs, or training steps, as far as its name says."""
    known = set(words_of(name))
    if known & {"epoch", "epochs"}:
        return True
    return False if known & {"step", "steps", "batch", "iteration"} else None
