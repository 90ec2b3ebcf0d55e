"""What can be known of the images without building them."""
import pathlib
import re
import shutil
import subprocess
import sys

import pytest
from dockerfile import parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
IMAGES = ["cpu", "cuda"]


@pytest.fixture(scope="module")
def dockerfile():
    return parse((ROOT / "Dockerfile").read_text())


def context_copies(dockerfile):
    """The paths that are copied from the build context, by stage."""
    return {stage.name: [source for copy in stage.all("COPY") if "--from" not in copy.text
                         for source in copy.words()[:-1]]
            for stage in dockerfile.stages.values()}


def test_hadolint_has_no_complaint():
    hadolint = pathlib.Path(sys.executable).parent / "hadolint"
    result = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")


def test_every_base_is_an_argument_with_an_exact_tag(dockerfile):
    assert {stage.base for stage in dockerfile.stages.values()} == \
        {f"${{{name}}}" for name in dockerfile.arguments}
    for image in dockerfile.arguments.values():
        assert re.fullmatch(r"[a-z/]+:\d[\w.-]*", image)


def test_the_cuda_bases_are_of_one_release_and_it_is_that_of_tools_install(dockerfile):
    pattern = r"nvidia/cuda:((\d+\.\d+)\.\d+)-(devel|base)-(.*)"
    build, run = (re.fullmatch(pattern, dockerfile.arguments[name])
                  for name in ("CUDA_BUILD_IMAGE", "CUDA_IMAGE"))
    assert build.group(1, 4) == run.group(1, 4)
    assert (build.group(3), run.group(3)) == ("devel", "base")
    compiler = re.search(r"nvidia-cuda-nvcc==(\d+\.\d+)", (ROOT / "tools/install").read_text())
    assert build.group(2) == compiler.group(1)


def test_what_is_copied_exists_and_is_let_into_the_context(dockerfile):
    lines = (ROOT / ".dockerignore").read_text().split("\n")
    assert "*" in lines
    admitted = [line[1:] for line in lines if line.startswith("!")]
    for sources in context_copies(dockerfile).values():
        for source in sources:
            assert (ROOT / source).exists()
            assert any(source == path or source.startswith(path + "/") for path in admitted), source


def test_what_is_copied_suffices_to_configure(dockerfile, tmp_path):
    copies = context_copies(dockerfile)
    assert copies["build-cpu"] == copies["build-cuda"]
    source = tmp_path / "src"
    for path in copies["build-cpu"]:
        if (ROOT / path).is_dir():
            shutil.copytree(ROOT / path, source / path, dirs_exist_ok=True)
        else:
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
    options = [word for word in dockerfile.stages["build-cpu"].last("RUN").words() if word.startswith("-D")]
    options = [option.replace("${SLUICE_COMMIT}", "0123456789ab") for option in options]
    subprocess.run(["cmake", "-S", source, "-B", tmp_path / "build", "-G", "Ninja", "-DSLUICE_CUDA=OFF",
                    *options], check=True, capture_output=True)
    ninja = (tmp_path / "build/build.ninja").read_text()
    assert r'SLUICE_COMMIT=\"0123456789ab\"' in ninja
    assert "build programs" in ninja and "gtest" not in ninja


def test_the_images_differ_by_what_a_gpu_needs_alone(dockerfile):
    cpu, cuda = ([(instruction.name, instruction.text.replace("build-cuda", "build-cpu"))
                  for instruction in dockerfile.stages[name].instructions] for name in IMAGES)
    only_cuda = [instruction for instruction in cuda if instruction not in cpu]
    assert [instruction for instruction in cuda if instruction in cpu] == cpu
    assert only_cuda == [("ENV", "NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility")]


@pytest.mark.parametrize("image", IMAGES)
def test_runs_as_a_numbered_user_from_the_last_step_that_changes_files_on(dockerfile, image):
    names = [instruction.name for instruction in dockerfile.stages[image].instructions]
    assert re.fullmatch(r"[1-9]\d{4,}:[1-9]\d{4,}", dockerfile.stages[image].last("USER").text)
    assert not {"RUN", "COPY", "ADD"} & set(names[names.index("USER"):])


@pytest.mark.parametrize("image", IMAGES)
def test_nothing_that_is_started_needs_a_shell(dockerfile, image):
    stage = dockerfile.stages[image]
    assert stage.last("ENTRYPOINT").exec_form() == ["/usr/local/bin/sluice-server"]
    assert stage.last("CMD").exec_form()
    assert stage.last("HEALTHCHECK").exec_form()[:2] == ["sluice", "health"]
    assert stage.last("STOPSIGNAL").text == "SIGTERM"


@pytest.mark.parametrize("image", IMAGES)
def test_the_default_arguments_are_flags_of_the_server_and_serve_what_is_exposed(
        dockerfile, image, request):
    stage = dockerfile.stages[image]
    flags = dict(word[2:].split("=", 1) for word in stage.last("CMD").exec_form())
    build = pathlib.Path(request.config.getoption("--build"))
    known = subprocess.run([build / "server/sluice-server", "--help"], capture_output=True, text=True,
                           check=True).stdout
    defaults = dict(re.findall(r"^  --([\w-]+)(?: \((.*)\))?$", known, re.MULTILINE))
    assert set(flags) <= set(defaults)
    ports = [flags[name].rsplit(":", 1)[1] for name in ("listen", "metrics-listen")]
    assert stage.last("EXPOSE").text.split() == ports
    # `sluice health` asks the default port.
    assert defaults["listen"].rsplit(":", 1)[1] == ports[0]
    demo = dockerfile.stages["demo"].all("COPY")[0].words()
    assert flags["model"] == demo[1] and (ROOT / demo[0] / "config.json").exists()


@pytest.mark.parametrize("image", IMAGES)
def test_the_version_is_that_of_the_project(dockerfile, image):
    version = re.search(r"project\(sluice VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text()).group(1)
    label = f'org.opencontainers.image.version="{version}"'
    assert label in dockerfile.stages[image].last("LABEL").text
