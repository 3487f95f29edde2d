"""The registry of published weights."""

import re

import pytest
import torch
import torch.hub
import torchvision

from ssl_video.backbones.base import BACKBONES, IMAGENET_MEAN, backbone_options, build_backbone, unloaded_backbone
from ssl_video.backbones.weights import WEIGHTS, Entry, entries
from ssl_video.backbones.weights.files import videos_seen
from ssl_video.config import from_mapping

BORROWED = {"googlenet"}  # published networks that are no backbones, but that backbones are made of


@pytest.mark.parametrize("key", WEIGHTS.names())
def test_an_entry_is_of_a_network_that_there_is_and_says_what_is_known_of_it(key):
    network, _, name = key.partition("/")
    entry = WEIGHTS[key]
    assert name and (network in BACKBONES.names() or network in BORROWED)
    if network not in BORROWED:
        from_mapping(backbone_options(network), entry.options, key)
    assert bool(entry.source) != (entry.layout is not None)  # it has an address, or the user has the file
    assert entry.licence and entry.trained_on
    assert entry.lists or videos_seen(entry.source)
    assert all(re.fullmatch(r"[a-z_0-9]+:[a-z]+\d*", name) for name in entry.lists)
    assert (entry.mean is None) == (entry.std is None)


def test_what_torchvision_publishes_is_found_without_a_list():
    weights = torchvision.models.get_model_weights("swin3d_b")
    found = [key for key in WEIGHTS.names() if key.startswith("swin3d_b/")]
    assert found == sorted(f"swin3d_b/torchvision:{name}" for name in weights.__members__)
    entry = WEIGHTS["swin3d_b/torchvision:KINETICS400_V1"]
    assert entry.source.endswith(f"{entry.sha256}.pth") and entry.trained_on == "Kinetics-400"


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """torchvision's cache with the weights of VGG-16 that were trained on unscaled pixels."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(entries, "check_digest", lambda *_: None)
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_FEATURES
    with torch.device("meta"):
        net = torchvision.models.vgg16()
    state = {k: torch.zeros(v.shape) for k, v in net.state_dict().items() if k.startswith("features.")}
    torch.save(state, tmp_path / "hub" / "checkpoints" / weights.url.rpartition("/")[2])
    return weights


def test_published_weights_see_the_pixels_that_they_were_trained_on(cached):
    clip = build_backbone("vgg16", weights="torchvision:IMAGENET1K_FEATURES").clip
    assert clip.mean == tuple(cached.transforms().mean) and clip.std == (1 / 255,) * 3
    assert build_backbone("vgg16").clip.mean == IMAGENET_MEAN


def test_a_network_whose_weights_come_from_a_checkpoint_is_noted_as_one_that_loads_them(cached):
    options = {"weights": "torchvision:IMAGENET1K_FEATURES"}
    loaded, unloaded = build_backbone("vgg16", **options), unloaded_backbone("vgg16", **options)
    assert loaded.clip == unloaded.clip and loaded.provenance.entry == unloaded.provenance.entry
    assert next(unloaded.parameters()).any() and not next(loaded.parameters()).any()


def test_names_of_other_projects_are_changed_by_the_entry(tmp_path, monkeypatch):
    source = build_backbone("r3d_10", width=2)
    torch.save({f"theirs.{k}": v for k, v in source.state_dict().items()}, tmp_path / "theirs.pth")
    WEIGHTS.names()
    entry = Entry(
        str(tmp_path / "theirs.pth"), {"width": 2}, lambda w: {k.removeprefix("theirs."): v for k, v in w.items()}
    )
    monkeypatch.setitem(WEIGHTS._members, "r3d_10/theirs", entry)
    target = build_backbone("r3d_10", weights="theirs")
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
