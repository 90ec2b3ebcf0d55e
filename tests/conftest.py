"""Options of every Python test."""
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytest_addoption(parser):
    parser.addoption("--build", default=str(ROOT / "build"), help="build folder to test")
    parser.addoption("--server-binary", help="server to test; default: the build folder's")
    parser.addoption("--model-dir", default=str(ROOT / "models" / "demo"),
                     help="model for the server to serve")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: for the plain build alone, as tests/CMakeLists.txt has some, too")
