"""What a loader returns, the check of what it read, and standardisation."""

import dataclasses
import hashlib
from typing import Any

import numpy as np

from ..objective import Batch

__all__ = ["Dataset", "Standardizer", "check", "random_split"]


@dataclasses.dataclass(frozen=True, eq=False)
class Standardizer:
    """`(x - mean) / scale` by column, and back. `fit` takes both from an array of rows."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def fit(cls, array: np.ndarray) -> "Standardizer":
        """Mean and deviation over the leading axis; a constant column keeps a scale of 1."""
        wide = np.asarray(array, np.float64)
        scale = wide.std(axis=0)
        return cls(np.asarray(wide.mean(axis=0)), np.where(scale > 0, scale, 1.0))

    def __call__(self, array: Any) -> np.ndarray:
        """Standardise; float32."""
        return ((np.asarray(array, np.float64) - self.mean) / self.scale).astype(np.float32)

    def inverse(self, array: Any) -> np.ndarray:
        """Back to the units of the data; float32."""
        return (np.asarray(array, np.float64) * self.scale + self.mean).astype(np.float32)

    @property
    def log_scale(self) -> float:
        """What to add to the NLL of a standardised row to have it in the units of the data."""
        return float(np.log(self.scale).sum())


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A table in memory with a fixed split. NumPy arrays, read-only; no device is touched.

    `input` is `(rows, features)` float32; `target` is `(rows,)`. `train_rows` and `test_rows` index
    them. `source` says where the data came from and under what terms; print it with results.
    """

    name: str
    input: np.ndarray
    target: np.ndarray
    train_rows: np.ndarray
    test_rows: np.ndarray
    features: tuple[str, ...]
    target_name: str
    source: str
    classes: tuple[str, ...] = ()
    input_scaler: Standardizer | None = None
    target_scaler: Standardizer | None = None

    def __post_init__(self) -> None:
        for array in (self.input, self.target, self.train_rows, self.test_rows):
            array.flags.writeable = False

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name}: {len(self.train_rows)} train and {len(self.test_rows)} test "
            f"rows, {len(self.features)} features -> {self.target_name})"
        )

    @property
    def whole(self) -> Batch:
        """All rows in the order of the source."""
        return Batch(target=self.target, input=self.input)

    @property
    def train(self) -> Batch:
        """The rows to fit on."""
        return Batch(target=self.target[self.train_rows], input=self.input[self.train_rows])

    @property
    def test(self) -> Batch:
        """The rows held out."""
        return Batch(target=self.target[self.test_rows], input=self.input[self.test_rows])

    def standardized(self, *, target: bool = False) -> "Dataset":
        """The same with standardised inputs, and target where asked.

        Mean and scale are those of the training rows. The result carries `input_scaler` and
        `target_scaler`. An NLL of a standardised target is in standardised units: add
        `target_scaler.log_scale` to compare with one that is not.

        Raises:
            ValueError: already standardised, or `target=True` for a target of classes or counts.
        """
        if self.input_scaler is not None:
            raise ValueError(f"{self.name} is standardised already; start from the loader's result")
        if target and self.target.dtype.kind != "f":
            raise ValueError(
                f"{self.name} has a discrete target ({self.target.dtype}), and a discrete "
                "likelihood needs it as it is: standardized() leaves it alone"
            )
        scaler = Standardizer.fit(self.input[self.train_rows])
        result = dataclasses.replace(self, input=scaler(self.input), input_scaler=scaler)
        if not target:
            return result
        scaler = Standardizer.fit(self.target[self.train_rows])
        return dataclasses.replace(result, target=scaler(self.target), target_scaler=scaler)


def check(name: str, digest: str, *arrays: np.ndarray) -> None:
    """Raise ValueError unless the arrays hold the values that `digest` was taken from.

    Values are rounded to 6 decimals first: readers of text differ in a number's last bit.
    """
    found = hashlib.sha256()
    for array in arrays:
        rounded = np.rint(np.asarray(array, np.float64) * 1e6).astype("<i8")
        found.update(repr(rounded.shape).encode() + rounded.tobytes())
    if not found.hexdigest().startswith(digest):
        shapes = ", ".join(str(np.shape(array)) for array in arrays)
        raise ValueError(
            f"{name}: the installed package carries other data than likelax knows (got arrays of "
            f"{shapes} with checksum {found.hexdigest()[:16]}, wanted {digest}). Results on it "
            "would not compare with published ones: install another version of the package."
        )


def random_split(rows: int, test_fraction: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train and to test on: always the same for a number of rows."""
    # RandomState's streams are frozen by NumPy's policy; default_rng's are not.
    order = np.random.RandomState(0).permutation(rows)
    held_out = round(rows * test_fraction)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
