"""Tables and pictures of models: what adds up, what is drawn, what is said where there is nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from workbench.checkpoints.costs import count_costs, largest_blocks
from workbench.checkpoints.difference import diff_states
from workbench.export import export_onnx
from workbench.inspection import inspect_runtime
from workbench.model_tables import compare_cards, show_table, summarize_difference, summarize_exports
from workbench.models.wavlm import WavLMDims
from workbench.models.wavlm_conformer import WavLMConformer, WavLMConformerDims
from workbench.plots.models import LOWEST, plot_agreement, plot_costs, plot_layer_weights

from .hubs import make_tiny_hub

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "01_models.ipynb"
LAYER_WEIGHTS = (0.5, -0.25, 0.75)
WAVLM = WavLMDims(
    extractor_conv_layer_config=tuple((8, k, s) for k, s in ((10, 5), *[(3, 2)] * 4, *[(2, 2)] * 2)),
    encoder_embed_dim=16,
    encoder_pos_conv_groups=4,
    encoder_num_layers=2,
    encoder_use_attention=(True,) * 2,
    encoder_use_feed_forward=(True,) * 2,
    encoder_total_num_heads=(2,) * 2,
    encoder_remaining_heads=((0, 1),) * 2,
    encoder_ff_interm_features=(24,) * 2,
)
WAVLM_CONFIG = """\
[model]
path = "diarizen.models.eend.model_wavlm_conformer.Model"

[model.args]
wavlm_src = "wavlm_tiny.pt"
wavlm_layer_num = 3
wavlm_feat_dim = 16
attention_in = 16
ffn_hidden = 16
num_head = 2
num_layer = 1
dropout = 0.1
chunk_size = 2
use_posi = false
output_activate_function = false
selected_channel = 0
max_speakers_per_chunk = 4
"""


class Pair(nn.Module):
    """A small layer and a large one, two halves of equal size inside it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(1, 2, bias=False)
        self.second = nn.Sequential(nn.Linear(2, 100, bias=False), nn.Linear(100, 2, bias=False))
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, waveforms):
        """Waveforms (batch, channel, sample), every 160th of whose samples counts."""
        return self.second(self.first(waveforms[:, 0, ::160, None])) * self.scale[0]


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    return make_tiny_hub(tmp_path_factory.mktemp("hub"), onnx=False)


@pytest.fixture(scope="module")
def report(hub, tmp_path_factory):
    return export_onnx(f"torch:{hub}", tmp_path_factory.mktemp("onnx") / "model.onnx")


@pytest.fixture
def wavlm_experiment(tmp_path):
    """A training directory of a WavLM-Conformer with two layers."""
    torch.manual_seed(0)
    dims = WavLMConformerDims(
        wavlm=WAVLM, attention_in=16, ffn_hidden=16, num_head=2, num_layer=1, chunk_size=2
    )
    network = WavLMConformer(dims)
    with torch.no_grad():
        network.weight_sum.weight.copy_(torch.tensor([LAYER_WEIGHTS]))
    best = tmp_path / "exp" / "checkpoints" / "best"
    best.mkdir(parents=True)
    torch.save(network.state_dict(), best / "pytorch_model.bin")
    config = {key: value for key, value in asdict(WAVLM).items() if key != "head_width"}
    torch.save({"config": config, "state_dict": {}}, tmp_path / "exp" / "wavlm_tiny.pt")
    (tmp_path / "exp" / "config__2026_01_01--00_00_00.toml").write_text(WAVLM_CONFIG)
    return tmp_path / "exp"


def agreement_table(**columns):
    rows = {"batch": [1, 3], "num_samples": 16000, "duration": 1.0, "min_cosine": 1.0, "frames": [50, 150]}
    return pd.DataFrame(rows | {"max_abs_diff": [1e-6, 2e-6], "flips": [0, 3]} | columns)


# --- what it costs ------------------------------------------------------------------------------


def test_blocks_add_up_and_equal_ones_are_opened_together():
    costs = count_costs(Pair(), duration=1.0)  # 100 frames
    blocks = largest_blocks(costs)
    assert blocks.to_dict("list") == {
        "block": ["(network)", "first", "second.0", "second.1"],
        "parameters": [3, 2, 200, 200],
        "macs": [0, 200, 20_000, 20_000],
    }
    assert largest_blocks(costs, most=3)["block"].tolist() == ["(network)", "first", "second"]


def test_costs_are_bars_in_the_order_of_the_network():
    blocks = pd.DataFrame({"block": ["fbank", "layers.0"], "parameters": [0, 3000], "macs": [4e6, 12e6]})
    figure = plot_costs(blocks, duration=2.0)
    parameters, macs = figure.data
    np.testing.assert_allclose(parameters.x, [0, 3])
    np.testing.assert_allclose(macs.x, [2, 6])
    assert macs.text == ("25.0 %", "75.0 %")
    assert figure.layout.xaxis.title.text == "Parameters (thousands)"
    assert figure.layout.xaxis2.title.text == "MACs per second (millions)"
    assert figure.layout.yaxis.title.text == "Block"
    assert figure.layout.yaxis.range[0] > figure.layout.yaxis.range[1]
    assert [note.text for note in figure.layout.annotations] == [
        "<b>3 thousand</b> parameters",
        "<b>8 million</b> multiply-accumulates for 1 s of audio",
    ]


# --- layers of a WavLM --------------------------------------------------------------------------


def test_the_notebook_draws_the_layer_weights_of_a_wavlm_of_ones_own(wavlm_experiment):
    cell = next(cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.id == "layers")
    *imports, call = cell.source.strip().splitlines()
    names = {"wavlm": f"torch:{wavlm_experiment}@best", "inspect_runtime": inspect_runtime}
    exec("\n".join(imports), names)
    figure = eval(call, names)
    (bars,) = figure.data
    np.testing.assert_allclose(bars.y, LAYER_WEIGHTS)
    assert figure.layout.xaxis.ticktext == ("input", "1", "2")
    assert figure.layout.xaxis.title.text.startswith("WavLM layer")
    assert figure.layout.yaxis.title.text == "Weight in the sum"
    assert bars.marker.pattern.shape == ("", "/", "")  # below zero is not said by colour alone
    assert figure.layout.yaxis.range[0] < -0.25


def test_a_model_without_wavlm_gets_words_that_say_what_to_give():
    figure = plot_layer_weights(())
    assert len(figure.data) == 0
    assert "No WavLM here" in figure.layout.annotations[0].text
    assert "experiment directory" in figure.layout.annotations[0].text


# --- exports ------------------------------------------------------------------------------------


def test_an_export_reports_every_length_and_batch(report):
    table = report.agreement.table()
    assert list(zip(table["batch"], table["num_samples"], strict=True)) == list(report.agreement.inputs)
    assert table["frames"].sum() == report.agreement.frames
    assert table["flips"].sum() == report.agreement.flips
    assert table["max_abs_diff"].max() == report.agreement.max_abs_diff
    np.testing.assert_allclose(table["duration"], table["num_samples"] / 16000)


def test_agreement_is_drawn_against_length_and_batch():
    figure = plot_agreement(
        {"fp32": agreement_table(max_abs_diff=[0.0, 2e-6], flips=0), "int8": agreement_table()}
    )
    assert [trace.name for trace in figure.data] == ["fp32", "fp32", "int8", "int8"]
    np.testing.assert_allclose(figure.data[0].y, [LOWEST, 2e-6])
    np.testing.assert_allclose(figure.data[3].y, [0, 2])  # per cent of 150 frames
    assert figure.layout.xaxis.ticktext == ("1 s<br>× 1", "1 s<br>× 3")
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.yaxis.title.text == "max |ONNX − source|"
    assert figure.layout.yaxis2.title.text == "Flipped frames (%)"
    assert figure.data[0].marker.symbol != figure.data[2].marker.symbol


def test_embeddings_are_judged_by_their_cosine():
    table = agreement_table(frames=0, flips=0, min_cosine=[1.0, 0.999])
    figure = plot_agreement({"fp16": table})
    np.testing.assert_allclose(figure.data[1].y, [LOWEST, 1e-3])
    assert figure.layout.yaxis2.title.text == "1 − smallest cosine"


def test_nothing_to_draw_is_no_error():
    assert len(plot_agreement({}).data) == 0


def test_exports_are_summarised_file_by_file(report):
    table = summarize_exports([report])
    row = table.loc["model.onnx"]
    assert (row["precision"], row["flips"], row["checked on"]) == ("fp32", 0, "noise")
    assert row["size (MB)"] == report.path.stat().st_size / 1e6


# --- tables -------------------------------------------------------------------------------------


def test_torch_and_onnx_say_the_same_about_one_model(hub, report):
    runtimes = [f"torch:{hub}", f"onnx:{report.path}", f"torch:{hub}/embedding"]
    table = compare_cards([inspect_runtime(each) for each in runtimes])
    assert table.columns.tolist() == runtimes
    for fact in ("kind", "architecture", "chunk", "frames per chunk", "receptive field", "powerset"):
        assert table.loc[fact, runtimes[0]] == table.loc[fact, runtimes[1]] != "–"
    assert table.loc["embedding"].tolist() == ["–", "–", "16 values"]


def test_counters_are_no_weights_that_differ():
    a = {
        "same": torch.ones(2),
        "weight": torch.ones(2, 3),
        "num_batches": torch.tensor(4),
        "gone": torch.ones(1),
    }
    b = {"same": torch.ones(2), "weight": 1.5 * torch.ones(2, 3), "num_batches": torch.tensor(9)}
    table = summarize_difference(diff_states(a, b))
    assert table.index.tolist() == ["gone", "weight"]
    assert table.loc["weight", "shape"] == "2 × 3"
    assert table.loc["weight", "relative change"] == pytest.approx(0.5)
    assert "weight" not in show_table(summarize_difference(diff_states(a, a))).to_html()


def test_tables_for_reading_show_long_names_whole_and_harmless():
    name = "conformer.conformer_layer.0.conv.bn_norm.running_mean_of_many_things"
    table = pd.DataFrame({"": ["<b>x</b>"], "relative change": [0.125]}, index=[name])
    page = show_table(table).to_html()
    assert name in page
    assert "12.50%" in page
    assert "<b>" not in page
