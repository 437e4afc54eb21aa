"""Contrastive objectives: which of the batch goes with an example? A Categorical over the batch."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from likelax._checks import is_number
from likelax._pytree import Array
from likelax.distributions.categorical import Categorical
from likelax.energy._rows import over_rows
from likelax.energy.embedding import Embedding, all_of, checked_labels, given_input
from likelax.heads import learned
from likelax.networks import Variables
from likelax.objective import Batch, Scores


class _Choosing(Embedding):
    """Objectives whose loss is -log_prob of a Categorical with logits z'w / temperature."""

    # Where `lx.learned()` starts.
    _temperature = 0.07

    def __init__(self, encoders: dict[str, Any], temperature: Any, **options: Any):
        super().__init__(encoders, **options)
        own = temperature
        if isinstance(temperature, learned):
            own = self._temperature if temperature.init is None else temperature.init
        if not is_number(own) or not 0 < own < math.inf:
            raise ValueError(
                f"{type(self).__name__}: temperature is a positive number, or lx.learned(0.07), got "
                f"{temperature!r}"
            )
        self.temperature, self._learns = float(own), isinstance(temperature, learned)

    def init(self, key: Array, batch: Batch) -> Variables:
        params, state = super().init(key, batch)
        if self._learns:
            params["log_temperature"] = jnp.asarray(math.log(self.temperature))
        return Variables(params, state)

    def _scale(self, params: Any, z: Array) -> Array:
        """One over the temperature."""
        own = -params["log_temperature"] if self._learns else -math.log(self.temperature)
        return jnp.exp(own).astype(z.dtype)

    def _choices(self, rows: _Row, columns: _Columns) -> tuple[Array, Array]:
        return over_rows(_choice, rows, columns, **self._options)


class _Row(NamedTuple):
    """Anchors.

    Attributes:
      z: embeddings, `(rows, features)`.
      label: columns of the same one are positives.
      own: each anchor's own column, which is no candidate; -1 for none.
    """

    z: Array
    label: Array
    own: Array


class _Columns(NamedTuple):
    """Candidates: embeddings, labels, whether they count, and one over the temperature."""

    z: Array
    label: Array
    keep: Array
    scale: Array


def _choice(row: _Row, columns: _Columns) -> tuple[Array, Array]:
    """-log p of the positives, on average over them, and whether the likeliest candidate is one; 0 where
    there is none.
    """
    logits = columns.scale * jnp.matmul(columns.z, row.z)
    candidate = columns.keep & (jnp.arange(len(logits)) != row.own)
    logits = jnp.where(candidate, logits, -jnp.inf)
    positive = candidate & (columns.label == row.label)
    log_p = Categorical(logits=logits)._log_probs()
    cost = -jnp.sum(jnp.where(positive, log_p, 0)) / jnp.maximum(jnp.sum(positive), 1)
    # Where all embeddings are one nobody is right.
    best, other = (jnp.max(logits, initial=-jnp.inf, where=w) for w in (positive, ~positive))
    return cost, (best > other).astype(cost.dtype)


class InfoNCE(_Choosing):
    """Which target of the batch belongs to an input? -log of a Categorical's probability, in nats:

        -log exp(s_ii) / sum_j exp(s_ij),       s_ij = z(input_i)' w(target_j) / temperature,

    the sum over all targets, the right one among them (van den Oord et al. 2018, eq. 4), and with
    `symmetric` the mean of this and of choosing the input for a target: CLIP (Radford et al. 2021).

    ::

        model = lx.energy.InfoNCE(ImageNet, TextNet, temperature=lx.learned(0.07))
        params, state = model.init(key, lx.Batch(target=texts, input=images))
        model.embed(params, images, state=state)

    It is no likelihood of the data. For N independent pairs that were not trained on, log N - loss is in
    expectation a lower bound on the mutual information of input and target, and never more than log N
    (Poole et al. 2019): `terms["mutual_information"]`. `terms["accuracy"]` is how often the right
    one is the likeliest.

    Rows that are masked out, or have weight 0, are neither asked about nor candidates. The matrix s is
    never held beyond a block of rows. Where the batch is divided over a mesh the candidates are those of all
    devices; of Explicit mesh axes the arrays' types tell, Auto ones are named by `data_axis`. Inside a
    `jax.shard_map` of one's own they are those of the device.

    Args:
      encoder: a network of the inputs (see `likelax.networks`), to `(batch, features)`.
      target_encoder: of the targets; None for the same network.
      temperature: a number, or `lx.learned(0.07)`, whose logarithm is `params["log_temperature"]`.
      normalize: whether embeddings are divided by their lengths, so that s is a cosine.
      symmetric: see above.
      data_axis: the Auto mesh axis, or axes, that the batch is divided over.
      block_size: how many rows of s at a time (default: as many as make 8 MiB).

    Raises:
      ValueError: for a temperature that is not positive, and embeddings of other shapes.
    """

    def __init__(
        self,
        encoder: Any,
        target_encoder: Any = None,
        *,
        temperature: Any = 0.07,
        normalize: bool = True,
        symmetric: bool = True,
        data_axis: str | tuple[str, ...] | None = None,
        block_size: Any = None,
    ):
        encoders = {"encoder": encoder}
        if target_encoder is not None:
            encoders["target_encoder"] = target_encoder
        options = {"data_axis": data_axis, "block_size": block_size}
        super().__init__(encoders, temperature, normalize=normalize, **options)
        self.symmetric = symmetric

    def inputs(self, batch: Batch) -> dict[str, tuple[str, Any]]:
        second = "target_encoder" if "target_encoder" in self.encoders else "encoder"
        return {
            "input": ("encoder", given_input(self, batch.input)),
            "target": (second, batch.target),
        }

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        (z, w), state = self._embedded(params, key, batch, state, train, keep)
        number, keep = jnp.arange(len(z)), all_of(keep, len(z))
        none, scale = jnp.full_like(number, -1), self._scale(params, z)

        def chosen(z: Array, w: Array) -> tuple[Array, Array]:
            return self._choices(_Row(z, number, none), _Columns(w, number, keep, scale))

        cost, right = chosen(z, w)
        if self.symmetric:
            cost, right = (0.5 * (a + b) for a, b in zip((cost, right), chosen(w, z), strict=True))
        terms = {
            "mutual_information": jnp.log(jnp.sum(keep, dtype=cost.dtype)) - cost,
            "accuracy": right,
        }
        return Scores(cost, terms, state, self.claim)


class SimCLR(_Choosing):
    """Which of the 2N - 1 other views is of the same example? -log of a Categorical's probability, in nats, on
    average over both views of each: NT-Xent (Chen et al. 2020, eq. 1).

    The two views, `Batch.target` and `Batch.input`, go through one network. Candidates are both views of
    all examples, without the one that is asked about. As the candidates are of one's own view, too, the
    number bounds no mutual information, and is no likelihood; `terms["accuracy"]` as of `InfoNCE`.

    ::

        model = lx.energy.SimCLR(Net, temperature=0.5)
        loss, aux = model(params, key, lx.Batch(target=crop(key1, x), input=crop(key2, x)), state=state)

    Args:
      encoder, temperature, normalize, data_axis, block_size: as of `InfoNCE`.
    """

    _temperature = 0.5

    def __init__(
        self,
        encoder: Any,
        *,
        temperature: Any = _temperature,
        normalize: bool = True,
        data_axis: str | tuple[str, ...] | None = None,
        block_size: Any = None,
    ):
        options = {"data_axis": data_axis, "block_size": block_size}
        super().__init__({"encoder": encoder}, temperature, normalize=normalize, **options)

    def inputs(self, batch: Batch) -> dict[str, tuple[str, Any]]:
        return {
            "input": ("encoder", given_input(self, batch.input)),
            "target": ("encoder", batch.target),
        }

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        (z, w), state = self._embedded(params, key, batch, state, train, keep)
        number, keep = jnp.arange(len(z)), all_of(keep, len(z))
        scale = self._scale(params, z)

        def chosen(own: Array, other: Array) -> tuple[Array, Array]:
            pairs = (own, other), (number, number), (keep, keep)
            columns = _Columns(*(_alternating(a, b) for a, b in pairs), scale)
            return self._choices(_Row(own, number, 2 * number), columns)

        cost, right = (0.5 * (a + b) for a, b in zip(chosen(z, w), chosen(w, z), strict=True))
        return Scores(cost, {"accuracy": right}, state, self.claim)


class SupervisedContrastive(_Choosing):
    """Which others are of the same class? -log of a Categorical's probability, in nats, on average over all
    others of the class (Khosla et al. 2020, eq. 2: the mean outside of the logarithm).

    `Batch.target` holds labels, whole numbers `(batch,)`, `Batch.input` what the network takes; candidates
    are all but the one that is asked about. An example without another of its class costs 0, and counts in
    the mean; `terms["alone"]` is how many they are. `terms["accuracy"]`: how often the likeliest
    candidate is of the class.

    Args:
      encoder, temperature, normalize, data_axis, block_size: as of `InfoNCE`.
    """

    _temperature = 0.1

    def __init__(
        self,
        encoder: Any,
        *,
        temperature: Any = _temperature,
        normalize: bool = True,
        data_axis: str | tuple[str, ...] | None = None,
        block_size: Any = None,
    ):
        options = {"data_axis": data_axis, "block_size": block_size}
        super().__init__({"encoder": encoder}, temperature, normalize=normalize, **options)

    def score(
        self, params: Any, key: Array, batch: Batch, *, state: Any, train: bool, keep: Array | None
    ) -> Scores:
        labels = checked_labels(self, batch)
        (z,), state = self._embedded(params, key, batch, state, train, keep)
        number, keep = jnp.arange(len(z)), all_of(keep, len(z))
        columns = _Columns(z, labels, keep, self._scale(params, z))
        cost, right = self._choices(_Row(z, labels, number), columns)
        alone = (cost == 0) & (right == 0)  # a wrong choice costs log 2 or more
        return Scores(
            cost, {"accuracy": right, "alone": alone.astype(cost.dtype)}, state, self.claim
        )


def _alternating(a: Array, b: Array) -> Array:
    """a_0, b_0, a_1, b_1, ...: on a mesh no row leaves its device for that."""
    return jnp.stack([a, b], axis=1).reshape((2 * len(a), *a.shape[1:]))
