"""What is drawn is what was given."""

import numpy as np
import pytest

from likelax import plotting

X = np.array([0.0, 1.0, 3.0])
QUANTILES = np.array([[0.0, 1.0, 2.0], [1.0, 3.0, 4.0], [5.0, 6.0, 9.0]])


def test_predictive_bands(tmp_path):
    figure, (axis, other) = plotting.panels(2)
    plotting.predictive_bands(axis, X, QUANTILES, [0.1, 0.5, 0.9])
    (median,) = axis.get_lines()
    np.testing.assert_array_equal(median.get_xydata(), np.stack([X, QUANTILES[1]], -1))
    (band,) = axis.collections
    assert band.get_label() == "80% interval"
    corners = {tuple(point) for point in band.get_paths()[0].vertices}
    assert {(3.0, 2.0), (3.0, 9.0), (0.0, 5.0)} <= corners
    assert other.get_ylim() == axis.get_ylim()  # the panels share their y axis
    plotting.save(figure, tmp_path / "bands.png")
    assert (tmp_path / "bands.png").stat().st_size > 2000


@pytest.mark.parametrize("levels", [[0.1, 0.5, 0.8], [0.1, 0.9]])
def test_levels_that_are_not_symmetric_are_refused(levels):
    _, (axis,) = plotting.panels(1)
    with pytest.raises(ValueError, match="symmetric about 0.5"):
        plotting.predictive_bands(axis, X, QUANTILES[: len(levels)], levels)


def test_count_frequencies():
    _, (axis,) = plotting.panels(1)
    counts, observed = np.arange(3), np.array([0.5, 0.3, 0.2])
    fitted = {"Poisson": np.array([0.4, 0.4, 0.2]), "geometric": np.array([0.6, 0.3, 0.1])}
    plotting.count_frequencies(axis, counts, observed, fitted)
    np.testing.assert_allclose([bar.get_height() for bar in axis.patches], observed)
    for line, (name, shares) in zip(axis.get_lines(), fitted.items(), strict=True):
        assert line.get_label() == name
        np.testing.assert_array_equal(line.get_ydata(), shares)


def test_image_rows_and_density_map():
    pictures = np.arange(12.0).reshape(3, 2, 2)
    figure = plotting.image_rows({"first": pictures, "second": pictures[::-1]}, 11.0)
    axes = np.reshape(figure.axes, (2, 3))
    assert [row[0].get_ylabel() for row in axes] == ["first", "second"]
    np.testing.assert_array_equal(axes[1, 0].images[0].get_array(), pictures[2])
    assert axes[0, 0].images[0].get_clim() == (0.0, 11.0)
    _, (axis,) = plotting.panels(1)
    density = np.array([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])
    plotting.density_map(axis, X, np.array([-1.0, 1.0]), density)
    (image,) = axis.images
    np.testing.assert_array_equal(image.get_array(), density)
    assert image.origin == "lower" and list(image.get_extent()) == [0.0, 3.0, -1.0, 1.0]
