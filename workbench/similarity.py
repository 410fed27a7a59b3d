"""How alike the local speakers of a recording are, and which of them sound like another cluster."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pyannote.core import Annotation
from scipy.optimize import linear_sum_assignment

from workbench.clustering.ahc import unit_length
from workbench.clustering.filtering import is_active
from workbench.overview import principal_plane, talking_most
from workbench.types import Features

MOST_SHOWN = 240  # local speakers; a matrix of more cells is slow to draw, and no finer on a screen
SHORTEST_OUTLIER = 1.0  # s of speech; from less, a voice is hard to tell for anybody
SAME_BREATH = 0.15  # s: shorter gaps between two stretches are played as they are


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalSimilarity:
    """The local speakers of one recording, by cluster and, within one, by time.

    Attributes
    ----------
    uri : name of the recording
    table : one row per local speaker
        `chunk`, `local_speaker`; `start`, `end` of the chunk (s); `seconds` it talks in it; `cluster`;
        `reference_speaker` who talks most meanwhile (None without a reference); `own`, the mean cosine
        with the others of its cluster; `other`, that with the members of the most similar other cluster,
        `nearest` (NaN and -1 where there is one cluster); `margin`, own - other: below 0 it sounds like
        somebody else (`own` itself where there is one cluster); `x`, `y` on the map.
    cosine : float64 array, shape (num_shown, num_shown), between the rows of the table
    shares : share of the variance that x and y of the map show
    num_left_out : local speakers that were left out to keep the matrix small
    matching : cluster -> reference speaker it has most time in common with, one to one
    """

    uri: str
    table: pd.DataFrame
    cosine: np.ndarray
    shares: tuple[float, float]
    num_left_out: int
    matching: dict[Hashable, Hashable]

    @property
    def clusters(self) -> list[int]:
        """Clusters in the order of the rows."""
        return list(dict.fromkeys(self.table["cluster"].tolist()))

    @property
    def outlying(self) -> pd.Series:
        """Margins by row of the table, the worst fitting first; of those that talk for a second."""
        long = self.table[self.table["seconds"] >= SHORTEST_OUTLIER]
        return (self.table if long.empty else long)["margin"].sort_values(kind="stable")


def compare_local_speakers(
    features: Features,
    clusters: np.ndarray,
    reference: Annotation | None = None,
    most: int = MOST_SHOWN,
) -> LocalSimilarity:
    """Cosines of all local speakers that talk, and how well each fits its cluster.

    Parameters
    ----------
    features : of the recording
    clusters : int array, shape (num_chunks, num_local_speakers)
        Negative where a local speaker has none.
    reference : who talks when, optional
    most : rows at most; of more, the worst fitting stay and the others are thinned out evenly

    Notes
    -----
    `own` and `other` are those of the silhouette with cosines for distances (Rousseeuw, 1987). In a
    cluster by itself nothing can be said: the margin is 0.
    """
    finite = np.isfinite(features.embeddings).all(axis=2) & features.embeddings.any(axis=2)
    chunk, local_speaker = np.nonzero(is_active(features.segmentations) & finite & (clusters >= 0))
    rows = unit_length(features.embeddings[chunk, local_speaker].astype(np.float64))
    cluster = clusters[chunk, local_speaker]
    start = features.chunks.start_of(chunk)
    table = pd.DataFrame(
        {
            "chunk": chunk,
            "local_speaker": local_speaker,
            "start": start,
            "end": start + features.chunks.duration,
            "seconds": features.segmentations[chunk, :, local_speaker].sum(axis=1) * features.frames.step,
            "cluster": cluster,
            "reference_speaker": pd.Series([None] * len(chunk), dtype=object),
        }
    ).assign(**_fit(rows, cluster))
    if reference is not None and len(reference.labels()) and len(chunk):
        talking = talking_most(features, reference, chunk, local_speaker)
        table["reference_speaker"] = pd.Series(talking, dtype=object)  # keeps None as it is
    plane, shares = principal_plane(rows)
    table["x"], table["y"] = plane[:, 0], plane[:, 1]
    kept = _thin(table["margin"].to_numpy(), most)
    order = kept[np.lexsort((local_speaker[kept], chunk[kept], cluster[kept]))]
    return LocalSimilarity(
        uri=features.uri,
        table=table.iloc[order].reset_index(drop=True),
        cosine=rows[order] @ rows[order].T,
        shares=shares,
        num_left_out=len(table) - len(order),
        matching=_match(table),
    )


def find_stretches(features: Features, chunk: int, local_speaker: int) -> list[tuple[float, float]]:
    """Start and end (s, in the recording) of everything that a local speaker says in its chunk."""
    active = features.segmentations[chunk, :, local_speaker] > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    begin = float(features.chunks.start_of(chunk))
    times = begin + edges.reshape(-1, 2) * features.frames.step
    joined: list[tuple[float, float]] = []
    for start, end in times.tolist():
        if joined and start - joined[-1][1] < SAME_BREATH:
            start = joined.pop()[0]
        joined.append((start, end))
    return joined


def _fit(rows: np.ndarray, cluster: np.ndarray) -> dict[str, np.ndarray]:
    """`own`, `other`, `nearest` and `margin` of unit vectors (num_rows, dimension)."""
    names, place, size = np.unique(cluster, return_inverse=True, return_counts=True)
    if not len(names):
        return {name: np.zeros(0) for name in ("own", "other", "nearest", "margin")}
    totals = np.stack([rows[place == number].sum(axis=0) for number in range(len(names))])
    sums = rows @ totals.T  # (row, cluster): cosines with all members, one of them itself
    index = np.arange(len(rows))
    alone = size[place] == 1
    own = (sums[index, place] - 1) / np.maximum(size[place] - 1, 1)
    if len(names) == 1:
        nothing = np.full(len(rows), np.nan)
        return {"own": own, "other": nothing, "nearest": np.full(len(rows), -1), "margin": own}
    means = sums / size
    means[index, place] = -np.inf
    nearest = means.argmax(axis=1)
    other = means[index, nearest]
    own = np.where(alone, other, own)
    return {"own": own, "other": other, "nearest": names[nearest], "margin": own - other}


def _thin(margin: np.ndarray, most: int) -> np.ndarray:
    """Rows to show: the quarter of them that fits worst, and an even selection of the others."""
    if len(margin) <= most:
        return np.arange(len(margin))
    order = np.argsort(margin, kind="stable")
    worst, rest = order[: most // 4], np.sort(order[most // 4 :])
    even = np.linspace(0, len(rest) - 1, most - len(worst)).astype(np.int64)
    return np.concatenate([worst, rest[even]])


def _match(table: pd.DataFrame) -> dict[Hashable, Hashable]:
    """The one-to-one matching of clusters and reference speakers with most time in common."""
    known = table[table["reference_speaker"].notna()]
    if known.empty:
        return {}
    common = known.groupby(["cluster", "reference_speaker"])["seconds"].sum().unstack(fill_value=0)
    seconds = common.to_numpy(dtype=np.float64)
    clusters, speakers = linear_sum_assignment(seconds, maximize=True)
    return {
        common.index[row]: common.columns[column]
        for row, column in zip(clusters, speakers, strict=True)
        if seconds[row, column] > 0
    }
