from __future__ import annotations

from pathlib import Path

import pytest

from workbench.clustering import AHCParams, VBxParams
from workbench.config import PipelineParams, read_config, with_options, with_preset
from workbench.errors import InputError

HUB = """
[model]
path = "diarizen.models.eend.model_wavlm_conformer.Model"

[inference.args]
seg_duration = 16
segmentation_step = 0.1
batch_size = 8
apply_median_filtering = false

[clustering.args]
method = "AgglomerativeClustering"
min_speakers = 1
max_speakers = 6
ahc_threshold = 0.7
min_cluster_size = 30
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(HUB)
    return path


def test_a_hub_configuration_is_read_value_by_value(config):
    params = read_config(config)
    assert params == PipelineParams(
        seg_duration=16,
        segmentation_step=0.1,
        batch_size=8,
        apply_median_filtering=False,
        clustering=AHCParams(ahc_threshold=0.7, min_cluster_size=30, min_speakers=1, max_speakers=6),
    )


@pytest.mark.parametrize(
    ("line", "wrong", "message"),
    [
        (
            "segmentation_step",
            "segmentation_stp",
            r"config\.toml: \[inference\.args\].*'segmentation_stp'.*'segmentation_step'",
        ),
        (
            "ahc_threshold",
            "ahc_treshold",
            r"config\.toml: \[clustering\.args\].*'ahc_treshold'.*'ahc_threshold'",
        ),
        (
            "batch_size = 8",
            "batch_size = 0",
            r"config\.toml: \[inference\.args\] batch_size must be a whole number",
        ),
        ("batch_size = 8", "batch_size = 8.0", "batch_size must be a whole number"),
        ("segmentation_step = 0.1", "segmentation_step = 2", "segmentation_step must be a fraction"),
        ("seg_duration = 16", "seg_duration = 'long'", "seg_duration must be a number of seconds"),
        ("apply_median_filtering = false", "apply_median_filtering = 0", "must be true or false"),
        ("[inference.args]", "[inference]\nargs = 3\n[other]", r"\[inference\.args\] must be a table"),
        ("[clustering.args]", "[clusterin.args]", r"no table \[clustering\.args\]"),
        ("[model]", "[model", r"config\.toml: is not valid TOML: .*line 2"),
    ],
)
def test_a_wrong_configuration_is_explained(config, line, wrong, message):
    config.write_text(HUB.replace(line, wrong))
    with pytest.raises(InputError, match=message):
        read_config(config)


def test_a_missing_configuration_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.toml: cannot be read"):
        read_config(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    ("preset", "median", "convention", "labels", "limit"),
    [
        ("diarizen", True, "diarizen", None, 20),
        ("pyannote-3.1", False, "pyannote-3.1", "SPEAKER_00", None),
        ("community-1", False, "community-1", "SPEAKER_00", None),
    ],
)
def test_presets_follow_the_table_of_the_reference(preset, median, convention, labels, limit):
    params = PipelineParams.preset(preset)
    assert params.apply_median_filtering is median
    assert params.embedding_exclude_overlap
    assert params.segmentation_step == 0.1
    assert params.clustering.convention == convention
    options = params.reconstruction_options()
    assert (options.get("labels"), options["max_speakers"]) == (labels, limit)


def test_an_unknown_preset_is_refused():
    with pytest.raises(InputError, match="community-1"):
        PipelineParams.preset("community")


def test_a_preset_keeps_how_the_recording_is_cut(config):
    params = with_preset(read_config(config), "community-1")
    assert (params.seg_duration, params.batch_size) == (16, 8)
    assert params.clustering == PipelineParams.preset("community-1").clustering


def test_single_options_win_and_none_leaves_a_parameter_alone(config):
    params = with_options(read_config(config), segmentation_step=0.2, ahc_threshold=0.5, batch_size=None)
    assert (params.segmentation_step, params.batch_size) == (0.2, 8)
    assert params.clustering == AHCParams(ahc_threshold=0.5, min_cluster_size=30, max_speakers=6)


def test_another_clustering_starts_from_its_own_defaults_but_keeps_the_bounds(config):
    params = with_options(read_config(config), "vbx", Fa=0.2)
    assert params.clustering == VBxParams(Fa=0.2, max_speakers=6)


@pytest.mark.parametrize(
    ("method", "option", "other"), [("vbx", "min_cluster_size", "ahc"), ("ahc", "Fa", "vbx")]
)
def test_a_parameter_of_the_other_clustering_is_refused(method, option, other):
    with pytest.raises(InputError, match=f"{option} is no parameter .* choose --clustering {other}"):
        with_options(PipelineParams(), method, **{option: 3})


def test_an_unknown_option_names_the_nearest():
    with pytest.raises(InputError, match=r"'max_iter'.*'max_iters'"):
        with_options(PipelineParams(), max_iter=3)


def test_a_known_number_of_speakers_caps_how_many_talk_at_once():
    params = with_options(PipelineParams(), num_speakers=2)
    assert params.reconstruction_options()["max_speakers"] == 2
