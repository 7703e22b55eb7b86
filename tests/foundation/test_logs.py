"""Log lines: their time, whose they are, and files that do not grow without bound."""

import logging
import re
import stat

import pytest

from apps.cli.launcher import Tail
from braincl_med.foundation import logs
from braincl_med.foundation.logs import begin_anew_if_long, former_log, keep_in_file, log_path, show_on_stderr
from server.errors import SENTENCES, sentence_of

LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\[.*\] )?line \d+( %s)?")


@pytest.fixture
def log():
    """The project's logger without a handler, as a new process has it."""
    logger = logging.getLogger("braincl")
    before = logger.handlers[:], logger.propagate, logger.level
    logger.handlers.clear()
    logger.propagate = True  # what does not propagate is given a handler of pytest's own
    logger.setLevel(logging.INFO)
    yield logger
    for handler in logger.handlers:
        handler.close()
    logger.handlers[:], logger.propagate = before[0], before[1]
    logger.setLevel(before[2])


def test_lines_have_a_time_and_the_hospitals_name(log, capsys):
    show_on_stderr()
    log.info("line 1")
    show_on_stderr("St. Mary's 100%s")
    log.info("line 2")
    show_on_stderr("site-1")
    log.info("line 3")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    assert all(LINE.fullmatch(line) for line in said)
    assert [line[21:] for line in said] == ["line 1", "[St. Mary's 100%s] line 2", "[site-1] line 3"]


def test_a_log_is_begun_anew_before_it_grows_long_and_all_stay_private(log, tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "LARGEST", 1000)
    keep_in_file(tmp_path, "tiny")
    for number in range(500):
        log.info("line %d", number)
    files = sorted(path.name for path in (tmp_path / "logs").iterdir())
    assert files == ["tiny.log", "tiny.log.1", "tiny.log.2", "tiny.log.3"]
    for path in (tmp_path / "logs").iterdir():
        assert path.stat().st_size <= 1000
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert log_path(tmp_path, "tiny").read_text().endswith("line 499\n")


def test_whoever_follows_a_log_misses_nothing_when_it_is_begun_anew(log, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(logs, "LARGEST", 1000)
    keep_in_file(tmp_path, "tiny")
    tail = Tail(log_path(tmp_path, "tiny"))
    for number in range(200):
        log.info("line %d", number)
        if number % 7 == 0:
            tail.print_new()
    tail.print_new()
    assert [line[21:] for line in capsys.readouterr().out.splitlines()] == [f"line {n}" for n in range(200)]


def test_a_log_that_others_write_is_put_aside(tmp_path, monkeypatch):
    path = tmp_path / "tiny.flower.log"
    begin_anew_if_long(path)
    path.write_bytes(b"x" * 10)
    begin_anew_if_long(path)
    assert path.stat().st_size == 10
    monkeypatch.setattr(logs, "LARGEST", 9)
    begin_anew_if_long(path)
    assert not path.exists()
    assert former_log(path).read_bytes() == b"x" * 10


def test_every_error_of_flower_has_a_sentence():
    from flwr.common.constant import ErrorCode

    numbers = {value for name, value in vars(ErrorCode).items() if name.isupper()}
    assert numbers == SENTENCES.keys()
    assert sentence_of(5) == "its SuperNode is away: it has given the SuperLink no sign of life (Flower error 5)"
    assert "does not know (Flower error 99)" in sentence_of(99)
