"""The pictures of the live screen: what follows the sliders, drawn only where it has changed."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pandas as pd

from workbench.explorers.clustering_grid_live_leaves import Leaves
from workbench.plots import theme
from workbench.plots.grid_live import PICTURES, LiveScene
from workbench.plots.grid_pictures import PointMap, bound_picture, lane_pixels, strip_pixels
from workbench.plots.raster import data_uri
from workbench.plots.theme import SpeakerStyle
from workbench.sweeps import LiveCell


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What is to be seen.

    Attributes
    ----------
    cell : LiveCell
    clustering : equal numbers have the same clusters, looks and wrong stretches
    looks : of the speakers of the hypothesis, in the order of their rows
    wrong : DataFrame, as `wrong_stretches` returns it
    view : start and end (s) of the lanes
    """

    cell: LiveCell
    clustering: int
    looks: Mapping[Hashable, SpeakerStyle]
    wrong: pd.DataFrame
    view: tuple[float, float]


class LivePictures:
    """Draws what has changed since the last time.

    Parameters
    ----------
    scene : what does not follow the sliders
    leaves : what the dendrogram and the map show
    """

    def __init__(
        self,
        scene: LiveScene,
        leaves: Leaves,
    ):
        self._scene, self._leaves = scene, leaves
        self._point_places = leaves.point_places
        self._map = PointMap(scene.points)
        self._colors = {who: style.color for who, style in scene.styles.items()}
        self._drawn: dict[str, tuple[Hashable, str]] = {}  # what a picture shows, and its address

    def draw(self, shown: Shown) -> dict[str, str]:
        """Addresses of all pictures."""
        lanes = (shown.clustering, shown.view)
        decisive: dict[str, Hashable] = {
            "reference": shown.view,
            "hypothesis": lanes,
            "errors": lanes,
            "found_strip": shown.clustering,
            "true_strip": None,
            "map": shown.clustering,
            "bound": shown.cell.elbo.tobytes(),
        }
        for name in PICTURES:
            if name not in self._drawn or self._drawn[name][0] != decisive[name]:
                self._drawn[name] = decisive[name], self._draw(name, shown)
        return {name: address for name, (_, address) in self._drawn.items()}

    def _draw(self, name: str, shown: Shown) -> str:
        """Address of one picture."""
        rows, scene, clusters = self._scene.num_rows, self._scene, shown.cell.hard_clusters
        colors = {who: look.color for who, look in shown.looks.items()}
        if name == "bound":
            return bound_picture(shown.cell.elbo, scene.most_iterations)
        if name == "map":
            taken = clusters[self._point_places]
            fill = [colors.get(each, theme.UNMATCHED) for each in taken.tolist()]
            truth = self._leaves.points["reference_speaker"]
            rim = [self._colors.get(who, theme.UNMATCHED) for who in truth]
            return self._map.picture(fill, rim)
        if name == "found_strip":
            return data_uri(strip_pixels(clusters[self._leaves.places].tolist(), colors))
        if name == "true_strip":
            return data_uri(strip_pixels(self._leaves.speakers, self._colors))
        if name == "errors":
            kinds: dict[Hashable, str] = {kind: style.color for kind, style in theme.ERRORS.items()}
            pixels = lane_pixels(shown.wrong, _rows(kinds), kinds, rows[name], shown.view, key="kind")
        elif name == "hypothesis":
            pixels = lane_pixels(shown.cell.turns, _rows(colors), colors, rows[name], shown.view)
        else:
            assert scene.reference is not None
            pixels = lane_pixels(scene.reference, _rows(self._colors), self._colors, rows[name], shown.view)
        return data_uri(pixels)


def _rows(speakers: Mapping[Hashable, str]) -> dict[Hashable, int]:
    """Row of everyone, from above."""
    return {speaker: row for row, speaker in enumerate(speakers)}
