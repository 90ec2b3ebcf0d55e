"""tools/runtime_packages, from which the images' packages are taken."""
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def runtime_packages(prefix):
    return subprocess.run([ROOT / "tools/runtime_packages", prefix], capture_output=True, text=True,
                          check=False)


def compile_library(folder, name, *dependencies):
    """lib<name>.so, linked with others by their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    library = folder / f"lib{name}.so"
    subprocess.run(["g++", "-shared", "-fPIC", "-Wl,--no-as-needed", f"-Wl,-soname,{library.name}", "-xc++",
                    "/dev/null", "-xnone", "-o", library, *dependencies], check=True)
    return library


def compile_program(prefix, *libraries, rpath):
    (prefix / "bin").mkdir(parents=True)
    source = prefix.parent / "main.cc"
    source.write_text("int main() {}\n")
    subprocess.run(["g++", "-Wl,--no-as-needed", f"-Wl,-rpath,{rpath}", source, *libraries, "-o",
                    prefix / "bin/program"], check=True)


@pytest.fixture(scope="module")
def installed(request, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    subprocess.run(["cmake", "--install", request.config.getoption("--build"), "--prefix", prefix],
                   check=True, capture_output=True)
    yield prefix
    shutil.rmtree(prefix)  # with CUDA's libraries it is large


def libraries_of(prefix):
    """What the loader takes for the programs, but what lies in prefix/lib."""
    lines = subprocess.run(["ldd", *(prefix / "bin").iterdir()], capture_output=True, text=True, check=True,
                           env={"LD_LIBRARY_PATH": str(prefix / "lib"), "PATH": "/usr/bin:/bin"}).stdout
    assert "not found" not in lines
    paths = {pathlib.Path(path).resolve() for path in re.findall(r"=> (/\S+)", lines)}
    return {path for path in paths if not path.is_relative_to(prefix)}


def with_dependencies(packages):
    """The packages and all that they depend on."""
    found, next_ones = set(), set(packages)
    while next_ones:
        found |= next_ones
        depends = subprocess.run(["dpkg-query", "-W", "-f=${Pre-Depends},${Depends}\n", *next_ones],
                                 capture_output=True, text=True, check=False).stdout
        next_ones = set(re.findall(r"(?:^|[,|])\s*([a-z0-9][a-z0-9.+-]+)", depends, re.MULTILINE)) - found
    return found


def test_the_programs_that_users_are_given_are_installed(installed):
    assert {"sluice", "sluice-loadgen", "sluice-server"} == {path.name for path in (installed / "bin").iterdir()}


def test_the_packages_hold_every_library_that_the_programs_load(installed):
    result = runtime_packages(installed)
    assert result.returncode == 0, result.stderr
    packages = result.stdout.split()
    assert packages == sorted(set(packages))
    assert not [name for name in packages if name.endswith("-dev")]
    files = subprocess.run(["dpkg-query", "-L", *with_dependencies(packages)], capture_output=True,
                           text=True, check=False).stdout.splitlines()
    held = {pathlib.Path(line).resolve() for line in files if ".so" in line}
    assert libraries_of(installed) <= held


def test_a_library_beside_the_programs_needs_no_package_but_what_it_needs_does(tmp_path):
    prefix = tmp_path / "prefix"
    other = compile_library(prefix / "lib", "beside", "-lz")
    compile_program(prefix, other, rpath="/nowhere")
    result = runtime_packages(prefix)
    assert result.returncode == 0, result.stderr
    assert {"libc6", "zlib1g"} <= set(result.stdout.split())


def test_a_library_that_is_missing_is_named(tmp_path):
    library = compile_library(tmp_path / "elsewhere", "gone")
    compile_program(tmp_path / "prefix", library, rpath="/nowhere")
    library.unlink()
    result = runtime_packages(tmp_path / "prefix")
    assert result.returncode == 1
    assert "bin/program needs what is not here: libgone.so" in result.stderr


def test_a_library_of_no_package_is_named(tmp_path):
    library = compile_library(tmp_path / "elsewhere", "ours")
    compile_program(tmp_path / "prefix", library, rpath=library.parent)
    result = runtime_packages(tmp_path / "prefix")
    assert result.returncode == 1
    assert f"{library} is of no package" in result.stderr


def test_a_folder_without_programs_is_refused(tmp_path):
    result = runtime_packages(tmp_path)
    assert result.returncode == 1
    assert f"there is no folder {tmp_path}/bin" in result.stderr
