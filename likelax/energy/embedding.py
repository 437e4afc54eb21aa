"""Networks that put examples somewhere, and what objectives about that share."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from likelax._checks import is_count
from likelax._keys import stream
from likelax._pytree import Array
from likelax.energy.objective import filled
from likelax.networks import Variables, adapt, called
from likelax.objective import Batch, Claim, Objective


class Embedding(Objective):
    """Base of objectives about where networks put examples, `x (batch, ...) -> z (batch, features)`.

    Attributes:
      encoders: networks by name.
      normalize: whether z is divided by its length.
    """

    claim = Claim("none")

    def __init__(
        self, encoders: dict[str, Any], *, normalize: bool, data_axis: Any, block_size: Any
    ):
        if block_size is not None and not is_count(block_size):
            raise ValueError(
                f"{type(self).__name__}: block_size is a whole number >= 1, got {block_size!r}"
            )
        self.encoders = {name: adapt(net) for name, net in encoders.items()}
        self.normalize = normalize
        self._options = {"data_axis": data_axis, "block_size": block_size}

    def inputs(self, batch: Batch) -> dict[str, tuple[str, Any]]:
        """What is embedded: by name, which encoder, and of what."""
        return {"encoder": ("encoder", given_input(self, batch.input))}

    def init(self, key: Array, batch: Batch) -> Variables:
        params, state = {}, {}
        for name, x in dict(self.inputs(batch).values()).items():
            with called(name, x):
                params[name], state[name] = self.encoders[name].init(stream(key, name), x)
        return Variables(params, state)

    def embed(self, params: Any, x: Any, *, encoder: str = "encoder", state: Any = ()) -> Array:
        """Where the trained network puts x, `(batch, features)`, dropout off.

        Args:
          params, state: as from training.
          x: what the network takes.
          encoder: which, by its name in `params`.
        """
        if encoder not in self.encoders:
            raise ValueError(f"encoder is one of {sorted(self.encoders)}, got {encoder!r}")
        own = state[encoder] if state else ()
        z, _ = self.encoders[encoder].apply(params[encoder], x, key=None, state=own, train=False)
        return self._placed(encoder, z, None)

    def merge(self, params: Any, state: Any = ()) -> Any:
        """The user's own network with these values; of two encoders a dict of both."""
        merged = {
            name: net.merge(params[name], state[name] if state else ())
            for name, net in self.encoders.items()
        }
        return merged if len(merged) > 1 else merged["encoder"]

    def _embedded(
        self, params: Any, key: Array, batch: Batch, state: Any, train: bool, keep: Array | None
    ) -> tuple[list[Array], Any]:
        """All embeddings, and the next state."""
        if keep is not None and keep.ndim > 1:
            raise ValueError(
                f"{type(self).__name__}: a mask and a weight have shape (batch,), got {keep.shape}; write "
                "mask=mask.all(-1)"
            )
        found, state = [], dict(state or dict.fromkeys(self.encoders, ()))
        for name, (encoder, x) in self.inputs(batch).items():
            x = jax.tree.map(lambda leaf: filled(jnp.asarray(leaf), keep, 0), x)
            with called(encoder, x):
                z, state[encoder] = self.encoders[encoder].apply(
                    params[encoder], x, key=stream(key, name), state=state[encoder], train=train
                )
            found.append(self._placed(encoder, z, keep))
            self._check_rows(name, encoder, z, batch.target)
        shapes = {z.shape for z in found}
        if len(shapes) > 1:
            raise ValueError(
                f"{type(self).__name__}: embeddings of one shape wanted, got "
                f"{' and '.join(map(str, (z.shape for z in found)))}; end both encoders with as many "
                "features"
            )
        return found, state

    def _check_rows(self, name: str, encoder: str, z: Array, target: Any) -> None:
        count = len(jax.tree.leaves(target)[0])
        if len(z) != count:
            raise ValueError(
                f"{type(self).__name__}: one embedding for each of {count} targets wanted, the {encoder} makes "
                f"{len(z)} of the {name}; are input and target of one batch?"
            )

    def _placed(self, encoder: str, z: Array, keep: Array | None) -> Array:
        """Embeddings in float32 or wider, of length 1 if wanted; anything finite where not kept."""
        if z.ndim != 2:
            raise ValueError(
                f"{type(self).__name__}: embeddings of shape (batch, features) wanted, the {encoder} makes "
                f"{z.shape}; write z.reshape((len(z), -1))"
            )
        z = filled(z.astype(jnp.promote_types(z.dtype, jnp.float32)), keep, 1)
        return unit(z) if self.normalize else z


def unit(z: Array) -> Array:
    """Each row divided by its length; a row of zeros has no direction and stays as it is."""
    square = jnp.sum(z**2, axis=-1, keepdims=True)
    zero = square == 0
    return jnp.where(zero, z, z / jnp.sqrt(jnp.where(zero, 1, square)))


def checked_labels(owner: Objective, batch: Batch) -> Array:
    """The labels of a batch.

    Raises:
      TypeError: for others than whole numbers or booleans.
      ValueError: for another shape.
    """
    labels = jnp.asarray(batch.target)
    name = type(owner).__name__
    if jnp.issubdtype(labels.dtype, jnp.floating):
        raise TypeError(
            f"{name}: labels are whole numbers, got {labels.dtype}; write target=labels.astype(int)"
        )
    if labels.ndim != 1:
        raise ValueError(
            f"{name}: labels have shape (batch,), got {labels.shape}; write labels[:, 0]"
        )
    return labels


def given_input(owner: Objective, x: Any) -> Any:
    """The input of a batch; raises ValueError where there is none."""
    if x is None:
        raise ValueError(
            f"{type(owner).__name__}: pairs wanted, and the batch has no input; write "
            "lx.Batch(target=y, input=x)"
        )
    return x


def all_of(keep: Array | None, count: int) -> Array:
    """What of a batch is kept, `(count,)`."""
    return jnp.ones(count, bool) if keep is None else keep
