"""The model's files change while it is served, or while it is read."""
import os
import shutil
import subprocess
import threading

import pytest

from faults.conftest import wait_until

WEIGHTS = "model.safetensors"


@pytest.fixture
def model(request, tmp_path):
    """A copy of the model, to be broken."""
    return shutil.copytree(request.config.getoption("--model-dir"), tmp_path / "demo")


def overwrite(model):
    with open(model / WEIGHTS, "r+b") as file:
        file.write(os.urandom(os.path.getsize(model / WEIGHTS)))


def truncate(model):
    os.truncate(model / WEIGHTS, 100)


def replace(model):
    (model / "new").write_bytes(os.urandom(1 << 20))
    (model / "new").rename(model / WEIGHTS)


def delete(model):
    for path in model.iterdir():
        path.unlink()


@pytest.mark.parametrize("change", [overwrite, truncate, replace, delete, shutil.rmtree])
def test_what_was_loaded_is_served_on(start, model, change):
    server = start("--slots=4", model=model)
    with server.survives():
        stream = server.begin()
        change(model)
        assert server.ask().code == 0
        stream.close()


@pytest.mark.parametrize("change, message", [
    (overwrite, "header length"), (truncate, "header length"),
    (delete, "config.json"), (shutil.rmtree, "does not exist")],
    ids=["overwrite", "truncate", "delete", "rmtree"])
def test_a_start_from_broken_files_says_which(start, model, change, message):
    change(model)
    server = start.process("--listen=127.0.0.1:0", "--metrics-listen=", model=model)
    log = server.communicate(timeout=60)[1]
    assert server.returncode == 1, log
    assert " failed message=" in log and message in log and str(model) in log


def test_files_that_change_while_they_are_read_end_the_start_with_an_error(start, model):
    """Wherever the change falls: the server starts from the whole file, or says what is wrong. A
    file that was mapped would end the process with SIGBUS."""
    codes = []
    for attempt in range(12):
        shutil.copy(model / WEIGHTS, model / "whole")
        server = start.process("--listen=127.0.0.1:0", "--metrics-listen=", model=model)
        serving = False
        for line in server.stderr:
            if " loading " in line and "device:" in line:
                threading.Timer(0.004 * attempt, truncate, [model]).start()
            if " serving " in line:
                serving = True
                server.terminate()
            if " failed " in line:
                assert WEIGHTS in line
        codes.append(server.wait(timeout=60))
        assert codes[-1] == (0 if serving else 1), codes
        assert wait_until(lambda: os.path.getsize(model / WEIGHTS) == 100)
        (model / "whole").rename(model / WEIGHTS)
    assert 1 in codes, "no change fell into the reading"
