"""FID and KID by a tiny InceptionV3 with random weights: the network's layout, both ways to its input, known distances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from scipy import linalg

from evaluation.metrics import distances
from evaluation.metrics.base import Sources, Unavailable
from evaluation.metrics.distances import frechet_distance, published_frechet_distance
from evaluation.metrics.inception_distance import FILE, InceptionDistance, resized
from evaluation.metrics.networks.inception import FidInception, Mixed
from tests.evaluation.twins import inception_twin
from tests.real_photos import photo  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    inception_twin(folder / FILE)
    return InceptionDistance(Sources(str(folder)))


def test_the_whole_network_has_the_layers_of_the_published_weights():
    """Once held against torchvision 0.28 with pytorch-fid's four changes, random weights: the same to the last bit."""
    with torch.device("meta"):
        network = FidInception()
        assert network(torch.empty(2, 3, 299, 299)).shape == (2, 2048)
    names = network.state_dict()
    assert len(names) == 564 and sum(item.numel() for item in network.parameters()) == 21_785_568
    assert names["Mixed_6c.branch7x7dbl_4.conv.weight"].shape == (160, 160, 7, 1)
    assert names["Mixed_7c.branch3x3dbl_3b.bn.running_var"].shape == (384,)


def test_averages_leave_out_the_padding_and_the_last_block_takes_the_maximum():
    x = torch.rand(1, 4, 5, 5, dtype=torch.float64)
    for maximum in (False, True):
        block = Mixed(4, ((("branch1x1", 2, 1),),), 4, maximum).double().eval()
        block.branch_pool.conv.weight.data = torch.eye(4, dtype=torch.float64)[..., None, None]
        corner = block(x)[0, 2:, 0, 0] * np.sqrt(1 + block.branch_pool.bn.eps)
        window = x[0, :, :2, :2].flatten(1)
        torch.testing.assert_close(corner, window.amax(1) if maximum else window.mean(1))


def test_a_picture_comes_in_as_clean_fid_has_it_and_as_the_published_script_had_it(metric, photo):  # noqa: F811
    rgb = photo("cat").rgb
    features = metric.features(rgb)
    network = metric._network
    small = np.asarray(Image.fromarray(rgb).resize((256, 256), Image.Resampling.BICUBIC), np.float32)
    unit = torch.from_numpy(small).permute(2, 0, 1)[None] / 255
    inputs = {
        "clean": torch.from_numpy(resized(rgb, 299))[None] / 127.5 - 1,
        "published": F.interpolate(unit, (299, 299), mode="bilinear") * 2 - 1,
    }
    for name, pixels in inputs.items():
        assert features[name] == pytest.approx(network(pixels)[0].tolist(), abs=1e-6)
    assert np.abs(np.subtract(features["clean"], features["published"])).max() > 1e-4


def test_the_clean_resize_averages_and_keeps_fractions():
    rows = np.tile(np.array([[0], [255]], np.uint8), (299, 598))
    made = resized(np.stack([rows] * 3, axis=2), 299)
    assert made.dtype == np.float32 and np.abs(made[:, 5:-5] - 127.5).max() < 1e-3


def test_copies_are_at_distance_0_and_exchanged_channels_are_not(metric, photo):  # noqa: F811
    rgbs = [
        np.ascontiguousarray(np.rot90(photo(name).rgb[:256, :256], n)) for name in ("cat", "astronaut") for n in (0, 1)
    ]
    plain = [metric.features(rgb) for rgb in rgbs]
    swapped = [metric.features(np.ascontiguousarray(rgb[..., ::-1])) for rgb in rgbs]
    for figure in metric.figures():
        own, other = ([row[figure.feature] for row in rows] for rows in (plain, swapped))
        same, apart = figure.distance(own, own), figure.distance(own, other)
        assert apart > same
        if figure.title == "FID":  # an unbiased KID of a set and itself is below 0
            assert same == pytest.approx(0, abs=1e-6) and apart > 1e-5


def test_each_figure_is_the_formula_on_the_same_features(metric):
    one, other = np.random.default_rng(0).normal(size=(2, 60, 12)) + [[[0]], [[0.2]]]
    covariances = [np.cov(rows, rowvar=False) for rows in (one, other)]
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    fid = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(sum(covariances) - 2 * root)
    told = {(item.title, item.protocol): item.distance(one, other) for item in metric.figures()}
    assert told["FID", "sound"] == pytest.approx(fid, abs=1e-6)
    assert told["FID", "reconstructed"] == pytest.approx(fid, abs=1e-6)
    assert metric.scores(None) == {}, "no number of a single picture"


def test_published_fid_of_50_is_mostly_bias():
    """Two sets of one Gaussian, so the truth is 0: what the published N gives, and what more pictures give."""
    rng = np.random.default_rng(1)
    spectrum = np.exp(-np.arange(96) / 24)

    def told(pictures):
        return published_frechet_distance(*(rng.normal(size=(2, pictures, 96)) * spectrum))

    few, more, many = told(50), told(500), told(2048)
    assert few > 8 * more and more > 3 * many, (few, more, many)


def test_published_fid_adds_to_the_diagonal_only_where_the_root_is_not_finite(monkeypatch):
    rows = np.random.default_rng(2).normal(size=(2, 30, 4))
    plain, seen, real = published_frechet_distance(*rows), [], linalg.sqrtm

    def fails_once(matrix):
        seen.append(matrix)
        return np.full_like(matrix, np.nan) if len(seen) == 1 else real(matrix)

    monkeypatch.setattr(distances.linalg, "sqrtm", fails_once)
    again = published_frechet_distance(*rows)
    first, second = (np.cov(item, rowvar=False) for item in rows)
    np.testing.assert_allclose(seen[1], (first + 1e-6 * np.eye(4)) @ (second + 1e-6 * np.eye(4)))
    assert again != plain and again == pytest.approx(plain, abs=1e-4)


@pytest.mark.parametrize(("imaginary", "stops"), [(9e-4, False), (2e-3, True)])
def test_published_fid_stops_at_an_imaginary_part(monkeypatch, imaginary, stops):
    rows, real = np.random.default_rng(3).normal(size=(2, 30, 4)), linalg.sqrtm
    monkeypatch.setattr(distances.linalg, "sqrtm", lambda matrix: real(matrix) + 1j * imaginary * np.eye(4))
    if stops:
        with pytest.raises(ValueError, match="the published script ends with: Imaginary component 0.002"):
            published_frechet_distance(*rows)
    else:
        assert published_frechet_distance(*rows) == pytest.approx(frechet_distance(*rows), abs=1e-6)


def test_weights_that_are_not_here_or_are_others_say_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(Unavailable, match=f"{FILE} is not on this machine.*pytorch-fid.*--model-of inception=FILE"):
        InceptionDistance(Sources())
    with pytest.raises(Unavailable, match="none.pth: no such file"):
        InceptionDistance(Sources(models={"inception": str(tmp_path / "none.pth")}))
    torch.save({"Conv2d_1a_3x3.conv.weight": torch.zeros(2, 3, 3, 3)}, tmp_path / "part.pth")
    with pytest.raises(Unavailable, match="part.pth: not the weights of FidInception: .*Missing key"):
        InceptionDistance(Sources(models={"inception": str(tmp_path / "part.pth")}))
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(Unavailable, match="text.pth: no file of weights alone"):
        InceptionDistance(Sources(models={"inception": str(tmp_path / "text.pth")}))


def test_other_weights_are_another_fingerprint(metric, tmp_path):
    other = InceptionDistance(Sources(models={"inception": str(inception_twin(tmp_path / "other.pth", seed=1))}))
    assert metric.fingerprint != other.fingerprint
