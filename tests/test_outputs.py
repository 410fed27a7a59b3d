"""What was chosen, in the files of DiariZen and pyannote."""

from __future__ import annotations

import codecs
import dataclasses
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from sweep_tables import DEFAULT, noise_grid

from workbench.clustering import CLUSTERING_PRESETS, AHCParams, VBxParams, XVectorParams
from workbench.config import read_config
from workbench.errors import InputError
from workbench.sweeps.settings import SweepSettings
from workbench.tuning.choice import choose
from workbench.tuning.folder import remarks
from workbench.tuning.outputs import merge_toml, pyannote_params, pyannote_yaml, write_best

CHOSEN = SweepSettings(clustering=VBxParams(ahc_threshold=0.55, Fa=0.11, Fb=2.5, max_iters=40))
CONFIG = """\
# my training
[model]
path = "diarizen.models.eend.model_fbank_conformer.Model"  # the network

[clustering.args]
method = "VBxClustering"   # or AgglomerativeClustering
min_speakers = 1
max_speakers = 20          # never more in a meeting
ahc_criterion = "distance"
ahc_threshold = 0.6        # tuned by hand
min_cluster_size = 13
Fa = 0.07
Fb = 0.8
lda_dim = 128
max_iters = 20

[inference.args]           # comes last
seg_duration = 16
segmentation_step = 0.1
"""


@pytest.mark.parametrize(
    "clustering",
    [
        CHOSEN.clustering,
        AHCParams(ahc_threshold=0.9, min_cluster_size=5, max_speakers=None),
        AHCParams(linkage="average", num_speakers=3),
        *CLUSTERING_PRESETS.values(),
    ],
    ids=lambda params: f"{type(params).__name__}-{params.convention}",
)
def test_best_toml_reads_back_as_what_was_chosen(tmp_path, clustering):
    written = write_best(tmp_path, SweepSettings(clustering=clustering), remarks=["where from", ""])
    read = read_config(written["best.toml"]).clustering
    # TOML has no null: without a bound, the reader's own default holds
    expected = {k: v for k, v in dataclasses.asdict(clustering).items() if v is not None}
    assert {name: getattr(read, name) for name in expected} == expected
    assert type(read) is type(clustering)
    assert written["best.toml"].read_text().startswith("# where from\n#\n")


def test_merging_changes_the_values_and_nothing_else(tmp_path):
    (tmp_path / "config.toml").write_text(CONFIG)
    merged = merge_toml(CHOSEN, tmp_path / "config.toml")
    expected = CONFIG
    for old, new in (
        ("ahc_threshold = 0.6        #", "ahc_threshold = 0.55        #"),
        ("Fa = 0.07", "Fa = 0.11"),
        ("Fb = 0.8", "Fb = 2.5"),
        ("max_iters = 20", "max_iters = 40"),
    ):
        expected = expected.replace(old, new)
    assert merged == expected


def test_merging_what_is_there_already_leaves_every_byte(tmp_path):
    (tmp_path / "config.toml").write_text(CONFIG)
    assert merge_toml(SweepSettings(), tmp_path / "config.toml") == CONFIG


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_ends_of_lines_are_those_of_the_config(tmp_path, mark):
    config, crlf = tmp_path / "config.toml", CONFIG.replace("\n", "\r\n").encode()
    config.write_bytes(mark + crlf)
    write_best(tmp_path, SweepSettings(), config=config)
    assert (tmp_path / "best.toml").read_bytes() == crlf
    write_best(tmp_path, CHOSEN, config=config, remarks=["where from", ""])
    lines = (tmp_path / "best.toml").read_bytes().split(b"\n")
    assert lines[:2] == [b"# where from\r", b"#\r"]
    assert b"Fa = 0.11\r" in lines
    assert all(line.endswith(b"\r") for line in lines[:-1])
    write_best(tmp_path, SweepSettings(clustering=AHCParams(linkage="average")), config=config)  # a new key
    assert all(line.endswith(b"\r") for line in (tmp_path / "best.toml").read_bytes().split(b"\n")[:-1])


def test_merging_another_method_keeps_the_parameters_of_the_first(tmp_path):
    (tmp_path / "config.toml").write_text(CONFIG)
    chosen = SweepSettings(clustering=AHCParams(ahc_threshold=0.8, min_cluster_size=30))
    args = tomllib.loads(merge_toml(chosen, tmp_path / "config.toml"))["clustering"]["args"]
    assert args["method"] == "AgglomerativeClustering"
    assert (args["ahc_threshold"], args["min_cluster_size"]) == (0.8, 30)
    assert (args["Fa"], args["lda_dim"]) == (0.07, 128)


def test_a_config_without_clustering_gets_the_table(tmp_path):
    (tmp_path / "config.toml").write_text("[model]\npath = 'x'  # kept\n")
    merged = merge_toml(CHOSEN, tmp_path / "config.toml")
    assert merged.startswith("[model]\npath = 'x'  # kept\n")
    assert tomllib.loads(merged)["clustering"]["args"]["Fa"] == 0.11


def test_a_broken_config_is_named(tmp_path):
    (tmp_path / "config.toml").write_text("[clustering\n")
    with pytest.raises(InputError, match="config.toml: is not TOML"):
        merge_toml(CHOSEN, tmp_path / "config.toml")


def test_pyannote_takes_vbx_in_the_form_of_community_1():
    preset = SweepSettings(clustering=CLUSTERING_PRESETS["community-1"])
    # config.yaml of pyannote/speaker-diarization-community-1
    assert pyannote_params(preset) == {
        "clustering": {"threshold": 0.6, "Fa": 0.07, "Fb": 0.8},
        "segmentation": {"min_duration_off": 0.0},
    }


def test_pyannote_takes_ahc_in_the_form_of_3_1():
    preset = SweepSettings(clustering=CLUSTERING_PRESETS["pyannote-3.1"], min_duration_off=0.25)
    # config.yaml of pyannote/speaker-diarization-3.1
    assert pyannote_params(preset) == {
        "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7045654963945799},
        "segmentation": {"min_duration_off": 0.25},
    }


def test_best_yaml_is_a_params_file_and_says_what_it_cannot_hold():
    settings = dataclasses.replace(CHOSEN, onset=0.4, min_duration_off=0.1)
    text = pyannote_yaml(settings, names=["lda_dim"])
    assert yaml.safe_load(text) == {
        "params": {
            "clustering": {"threshold": 0.55, "Fa": 0.11, "Fb": 2.5},
            "segmentation": {"min_duration_off": 0.1},
        }
    }
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for word in ("onset: 0.4", "max_iters: 40", "lda_dim: 128", "convention diarizen"):
        assert any(word in line for line in comments), word
    assert not any("min_duration_off" in line for line in comments)


def test_best_toml_says_what_toml_cannot_say():
    text = merge_toml(SweepSettings(clustering=VBxParams(max_speakers=None, lda_dim=None)))
    assert text.startswith(
        "# TOML cannot say lda_dim = none, max_speakers = none: left out here, so DiariZen"
    )
    assert "cannot say" not in merge_toml(SweepSettings())


def test_best_toml_says_what_diarizen_does_not_know():
    settings = SweepSettings(clustering=CLUSTERING_PRESETS["community-1"], median_filter=11, onset=0.4)
    text = merge_toml(settings)
    for word in ("# ", "onset = 0.4", "median_filter = 11", "apply_median_filtering", "community-1"):
        assert word in text


@pytest.mark.parametrize(
    ("gain", "verdict", "is_recommended"),
    [(0.03, "is significant", True), (0.0, "keep the default", False)],
)
def test_the_remarks_hold_the_verdict(gain, verdict, is_recommended):
    choice = choose(noise_grid(np.random.default_rng(1), "smooth", 16, gain=gain), DEFAULT)
    report = {
        "default": {"der": 0.2},
        "best": {"der": 0.1, "parameters": {"Fa": 0.3}},
        "recordings": ["a", "b"],
    }
    search, best = SimpleNamespace(cells=range(120)), SimpleNamespace(feasible=True)
    lines = remarks(search, best, report, choice)
    assert lines[1] == "DER 10.00 % on these recordings, 20.00 % with the parameters to begin with."
    assert lines[2].startswith(f"DER {100 * choice.der_out_of_fold:.2f} % if chosen without the recordings")
    assert lines[3].startswith("Verdict: The gain")
    assert verdict in lines[3]
    assert lines[3].removeprefix("Verdict: ") in choice.words
    assert lines[4:] == ["The values below are the best of those tried, not a recommendation."] * (
        not is_recommended
    )


def test_a_remark_stays_in_its_comment_whatever_it_holds():
    for character in "\n\r\x0b\x0c\x1c\x85\u2028\u2029\x00\x07\x7f\ud800\ufeff":
        remarks = [f"Found in a{character}Fa = 9"]
        settings = SweepSettings(clustering=VBxParams(Fa=0.05))
        toml = merge_toml(settings, remarks=remarks)
        assert tomllib.loads(toml)["clustering"]["args"]["Fa"] == 0.05
        assert toml.splitlines()[0] == "# Found in a Fa = 9"
        text = pyannote_yaml(settings, remarks=remarks)
        assert yaml.safe_load(text) == {"params": pyannote_params(settings)}


def test_segments_get_the_options_of_vbhmm_and_no_pyannote_file(tmp_path):
    (tmp_path / "best.yaml").write_text("of an earlier sweep")
    write_best(tmp_path, SweepSettings(clustering=XVectorParams(Fa=0.4)))
    content = tomllib.loads((tmp_path / "best.toml").read_text())
    assert content["vbhmm"]["Fa"] == 0.4
    assert content["vbhmm"]["loopP"] == 0.99
    assert "vbhmm.py --init AHC+VB --threshold -0.015" in (tmp_path / "best.toml").read_text()
    assert not (tmp_path / "best.yaml").exists()
