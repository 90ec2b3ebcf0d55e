"""tools/try_image, on a tree of the programs that were built and of what they load from this machine."""
import json
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONFIG = {
    "User": "65532:65532",
    "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
    "Entrypoint": ["/usr/local/bin/sluice-server"],
    "Cmd": ["--model=/models/demo", "--listen=0.0.0.0:50051", "--metrics-listen=0.0.0.0:9464"],
    "Healthcheck": {"Test": ["CMD", "sluice", "health"]},
    "StopSignal": "SIGTERM",
}


def copy_into(tree, source, target):
    target = tree / str(target).lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o755)


def add_program(tree, source, target):
    copy_into(tree, source, target)
    lines = subprocess.run(["ldd", source], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(?:=> |^\t)(/\S+)", lines, re.MULTILINE):
        copy_into(tree, library, library)


@pytest.fixture
def tree(tmp_path, request):
    build = pathlib.Path(request.config.getoption("--build"))
    root = tmp_path / "tree"
    for folder in ("proc", "sys", "dev", "tmp", "var/tmp"):
        (root / folder).mkdir(parents=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    for name in ("env", "setpriv", "touch"):
        add_program(root, shutil.which(name), f"/usr/bin/{name}")
    add_program(root, build / "server/sluice-server", "/usr/local/bin/sluice-server")
    add_program(root, build / "client/sluice", "/usr/local/bin/sluice")
    shutil.copytree(ROOT / "models/demo", root / "models/demo")
    yield root
    shutil.rmtree(root)


def try_image(tree, **changes):
    config = tree.parent / "config.json"
    config.write_text(json.dumps({**CONFIG, **changes}))
    return subprocess.run([ROOT / "tools/try_image", tree, config], capture_output=True, text=True,
                          check=False)


@pytest.mark.long
def test_the_server_works_read_only_without_capabilities_as_process_1_and_drains(tree):
    result = try_image(tree)
    assert result.returncode == 0, result.stdout + result.stderr
    for line in ("the server is process 1 there", "it has no capability",
                 "nothing can be written, by root neither", "the health check says SERVING",
                 "the call got its 4000 tokens"):
        assert f"try_image: {line}\n" in result.stdout
    assert re.search(r"\n\d+ passed, 0 failed\n$", result.stdout)


@pytest.mark.long
def test_a_server_that_does_not_start_is_an_error_with_its_log(tree):
    result = try_image(tree, Cmd=["--model=/models/none"])
    assert result.returncode == 1
    assert "/models/none" in result.stderr


@pytest.mark.parametrize("changes, message", [
    ({"User": "0:0"}, "User must be two numbers other than 0"),
    ({"User": ""}, "User must be two numbers other than 0"),
    ({"Entrypoint": ["/bin/sh", "-c", "sluice-server"]}, "it must not need a shell"),
    ({"Healthcheck": {"Test": ["CMD-SHELL", "sluice health"]}}, "it must not need a shell"),
    ({"StopSignal": "SIGKILL"}, "ends at SIGTERM: SIGKILL"),
])
def test_settings_that_are_not_safe_are_named(tmp_path, changes, message):
    (tmp_path / "tree").mkdir()
    result = try_image(tmp_path / "tree", **changes)
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize("path, mode, message", [
    ("usr/bin/x86_64-linux-gnu-g++-12", 0o755, "no compiler"),
    ("usr/local/bin/python3.11", 0o755, "no compiler"),
    ("var/lib/apt/lists/packages", 0o644, "no package lists"),
    ("usr/bin/su", 0o4755, "set-user"),
    ("usr/local/share/settings", 0o666, "may write"),
    ("models/demo/config.json", 0o600, "models that its user may read"),
])
def test_files_that_do_not_belong_are_named(tmp_path, path, mode, message):
    file = tmp_path / "tree" / path
    file.parent.mkdir(parents=True)
    file.touch()
    file.chmod(mode)
    result = try_image(tmp_path / "tree")
    assert result.returncode == 1
    assert message in result.stderr and file.name in result.stderr
