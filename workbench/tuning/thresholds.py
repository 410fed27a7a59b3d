"""Thresholds on unit vectors in all their spaces.

Clustering works on embeddings of length one. There Euclidean distance, cosine distance and cosine
similarity say the same in three ways: ``d**2 = 2 * (1 - cos)``. Programs name their thresholds after any
of them, and none says which.
"""

from __future__ import annotations

import math
from typing import Any, Literal

from workbench.errors import InputError, expect_number

Space = Literal["euclidean", "cosine_distance", "cosine_similarity"]

SPACES: dict[Space, tuple[str, float, float]] = {
    "euclidean": ("distance", 0.0, 2.0),
    "cosine_distance": ("cosine distance", 0.0, 2.0),
    "cosine_similarity": ("cosine similarity", -1.0, 1.0),
}
"""Name and range of every space."""


def convert_threshold(value: float, source: Space, target: Space) -> float:
    """A threshold of one space in another.

    Examples
    --------
    >>> round(convert_threshold(0.6, "euclidean", "cosine_similarity"), 4)
    0.82
    >>> convert_threshold(0.5, "cosine_similarity", "euclidean")
    1.0
    """
    for space in (source, target):
        if not isinstance(space, str) or space not in SPACES:
            raise InputError(f"unknown space {space!r}; known are {', '.join(SPACES)}")
    name, low, high = SPACES[source]
    expect_number(value, f"a {name} of unit vectors lies between {low:g} and {high:g}", low, high)
    if source == target:
        return float(value)
    similarity = {
        "euclidean": 1.0 - value * value / 2.0,
        "cosine_distance": 1.0 - value,
        "cosine_similarity": value,
    }[source]
    return {
        "euclidean": math.sqrt(max(2.0 - 2.0 * similarity, 0.0)),
        "cosine_distance": 1.0 - similarity,
        "cosine_similarity": similarity,
    }[target]


def threshold_spaces(value: float, space: Space = "euclidean") -> dict[Space, float]:
    """A threshold in every space.

    Examples
    --------
    >>> threshold_spaces(1.0)
    {'euclidean': 1.0, 'cosine_distance': 0.5, 'cosine_similarity': 0.5}
    """
    return {target: convert_threshold(value, space, target) for target in SPACES}


def describe_threshold(
    value: float, space: Space = "euclidean", *, decimals: int = 2, full: bool = False
) -> str:
    """A threshold with its space, and what it is in the others.

    Parameters
    ----------
    full : name the cosine distance as well

    Examples
    --------
    >>> describe_threshold(0.6)
    '0.60 (distance; cosine similarity 0.82)'
    >>> describe_threshold(0.6, full=True)
    '0.60 (distance; cosine distance 0.18; cosine similarity 0.82)'
    >>> describe_threshold(0.5, "cosine_similarity")
    '0.50 (cosine similarity; distance 1.00)'
    """
    spaces = threshold_spaces(value, space)
    others: list[Space] = [
        other for other in SPACES if other != space and (full or other != "cosine_distance")
    ]
    texts = [SPACES[space][0], *(f"{SPACES[other][0]} {spaces[other]:z.{decimals}f}" for other in others)]
    return f"{value:.{decimals}f} ({'; '.join(texts)})"


def describe_parameter(name: str, value: Any, *, ahc_criterion: str = "distance") -> str:
    """A parameter's value in words; thresholds with their space.

    Examples
    --------
    >>> describe_parameter("ahc_threshold", 0.6)
    '0.60 (distance; cosine similarity 0.82)'
    >>> describe_parameter("ahc_threshold", 8, ahc_criterion="maxclust")
    '8 clusters'
    >>> describe_parameter("Fa", 0.07)
    '0.07'
    """
    from workbench.tuning.cells import format_value

    if name != "ahc_threshold" or not isinstance(value, int | float):
        return format_value(value)
    if ahc_criterion == "maxclust":
        return f"{value:g} clusters"
    if not 0 <= value <= 2:  # beyond the diameter: everything becomes one cluster
        return f"{value:g} (distance; farther than unit vectors can be)"
    return describe_threshold(value)
