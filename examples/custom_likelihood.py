"""A likelihood of your own in one class: checked, trained, mixed.

    python examples/custom_likelihood.py

Wind speeds are often taken to be Rayleigh distributed. The class below is all that is needed; its
check, its place in a Flax model and in a mixture follow from it.
"""

import argparse

import jax
import jax.numpy as jnp
import optax

import likelax as lx


class Rayleigh(lx.Distribution):
    """p(x) = x / scale^2 exp(-x^2 / (2 scale^2)), x >= 0."""

    scale: lx.Array = lx.param(support=lx.supports.positive)
    support = lx.supports.non_negative

    def log_prob(self, value):
        z = value / self.scale
        return jnp.log(value) - 2 * jnp.log(self.scale) - 0.5 * z**2

    def cdf(self, value):
        return -jnp.expm1(-0.5 * (value / self.scale) ** 2)

    def sample(self, key, shape=()):
        u = jax.random.exponential(key, self._shape(shape), self.dtype)
        return self.scale * jnp.sqrt(2 * u)


def main(steps: int) -> float:
    print(lx.testing.check_distribution(Rayleigh(2.0), key=jax.random.key(0)))

    # Hourly wind speeds of a place whose wind depends on the hour, simulated with a known answer.
    hours = jnp.arange(2000) % 24
    truth = jnp.exp(1.0 + 0.6 * jnp.sin(2 * jnp.pi * hours / 24))
    speed = Rayleigh(truth).sample(jax.random.key(1))
    features = jnp.stack([jnp.sin(2 * jnp.pi * hours / 24), jnp.cos(2 * jnp.pi * hours / 24)], -1)

    def linear(key, x):
        return {"w": jnp.zeros((x.shape[-1], head.size)), "b": jnp.zeros(head.size)}

    head = lx.Head(Rayleigh)
    model = lx.Likelihood((linear, lambda p, x: x @ p["w"] + p["b"]), head)
    batch = lx.Batch(target=speed, input=features)
    result = lx.train.fit(model, optax.adam(0.05), batch, steps=steps, key=jax.random.key(2))
    scale = model.predict(result.params, features[:24]).scale
    print("hour, true scale, fitted scale")
    for hour in (0, 6, 12, 18):
        print(f"{hour:4d}  {truth[hour]:.2f}        {scale[hour]:.2f}")

    mixture = lx.Mixture(jnp.array([0.7, 0.3]), Rayleigh(jnp.array([1.0, 4.0])))
    print("in a mixture: log p(2) =", mixture.log_prob(2.0))
    return float(result.history.loss[-1])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=300)
    main(parser.parse_args().steps)
