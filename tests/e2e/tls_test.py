"""TLS and mutual TLS with a running server, Python's client and ours."""
import os
import pathlib
import subprocess
import time

import grpc
import pytest


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates, each a pair of files NAME.crt and NAME.key in its folder."""

    def __init__(self, folder):
        self.folder = folder
        self.crt = folder / "authority.crt"
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
                "-subj", "/CN=authority", "-keyout", folder / "authority.key", "-out", self.crt)

    def issue(self, name, host="localhost"):
        crt, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        request = self.folder / f"{name}.csr"
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{host},IP:127.0.0.1\n")
        openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-CA", self.crt, "-CAkey", self.folder / "authority.key",
                "-CAcreateserial", "-days", 1, "-extfile", extensions, "-out", crt)
        return crt, key


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def client(authority):
    return authority.issue("client")


@pytest.fixture(scope="module")
def secured(start_server, authority):
    """A server that asks for certificates, and is known as sluice.test."""
    crt, key = authority.issue("server", host="sluice.test")
    return start_server(f"--tls-cert={crt}", f"--tls-key={key}", f"--tls-client-ca={authority.crt}",
                        "--reload-interval=100ms", "--admin-listen=127.0.0.1:0")


@pytest.fixture(scope="module")
def sluice(request):
    binary = pathlib.Path(request.config.getoption("--build")) / "client" / "sluice"

    def run(*arguments):
        return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)

    return run


def channel_to(server, authority, pair=None, name="sluice.test"):
    crt, key = (path.read_bytes() for path in pair) if pair else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.crt.read_bytes(), key, crt)
    return grpc.secure_channel(server.address, credentials, options=[
        ("grpc.ssl_target_name_override", name), ("grpc.use_local_subchannel_pool", 1)])


def get_model(api, channel):
    return api.model_grpc.ModelServiceStub(channel).GetModel(api.model.GetModelRequest(), timeout=30)


def test_those_with_a_certificate_are_served(api, authority, client, secured):
    with channel_to(secured, authority, client) as channel:
        assert get_model(api, channel).name
        request = api.generation.GenerateRequest(text="Call me")
        assert list(api.generation_grpc.GenerationServiceStub(channel).Generate(request))


def test_the_others_are_not(api, authority, secured, tmp_path):
    stranger = Authority(tmp_path).issue("client")
    for channel in (channel_to(secured, authority), channel_to(secured, authority, stranger),
                    grpc.insecure_channel(secured.address)):
        with channel, pytest.raises(grpc.RpcError) as error:
            get_model(api, channel)
        assert error.value.code() == grpc.StatusCode.UNAVAILABLE


def test_our_client_speaks_tls(authority, client, secured, sluice):
    crt, key = client
    tls = ["--server", secured.address, "--tls", "--tls-ca", authority.crt, "--tls-server-name", "sluice.test"]
    done = sluice("generate", *tls, "--tls-cert", crt, "--tls-key", key, "--max-tokens", "3", "Call me")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    done = sluice("health", *tls, "--tls-cert", crt, "--tls-key", key)
    assert (done.returncode, done.stdout) == (0, "SERVING\n")
    without = sluice("health", *tls)
    assert without.returncode == 1 and without.stderr.startswith("sluice: UNAVAILABLE: ")
    other_name = sluice("health", *tls[:-1], "sluice.elsewhere", "--tls-cert", crt, "--tls-key", key)
    assert other_name.returncode == 1 and other_name.stderr.startswith("sluice: UNAVAILABLE: ")
    plaintext = sluice("health", "--server", secured.address)
    assert plaintext.returncode == 1 and plaintext.stderr.startswith("sluice: UNAVAILABLE: ")


def test_our_client_names_files_that_are_wrong(authority, sluice, tmp_path):
    (tmp_path / "nonsense").write_text("nonsense")
    done = sluice("health", "--tls", "--tls-ca", tmp_path / "nonsense")
    assert done.returncode == 1 and f"--tls-ca: {tmp_path / 'nonsense'} holds no PEM" in done.stderr
    done = sluice("generate", "--tls", "--tls-cert", tmp_path / "none", "--tls-key", tmp_path / "none", "x")
    assert done.returncode == 1 and f"--tls-cert: there is no file {tmp_path / 'none'}" in done.stderr
    (tmp_path / "endless").write_bytes(bytes((1 << 20) + 1))
    done = sluice("health", "--tls", "--tls-ca", tmp_path / "endless")
    assert done.returncode == 1
    assert f"--tls-ca: {tmp_path / 'endless'} has 1048577 bytes; the limit is 1048576" in done.stderr
    assert sluice("health", "--tls-ca", authority.crt).returncode == 2
    assert sluice("health", "--tls", "--tls-cert", authority.crt).returncode == 2


def test_the_admin_service_asks_for_a_certificate_too(api, authority, client, secured):
    address = secured.value("admin_listening", "address")

    class Admin:
        pass

    Admin.address = address
    for channel, code in ((channel_to(Admin, authority, client), grpc.StatusCode.UNIMPLEMENTED),
                          (channel_to(Admin, authority), grpc.StatusCode.UNAVAILABLE)):
        with channel, pytest.raises(grpc.RpcError) as error:
            get_model(api, channel)  # which is not there
        assert error.value.code() == code


def test_a_new_certificate_is_shown_and_counted(api, authority, client, secured):
    with channel_to(secured, authority, client) as before:
        assert get_model(api, before).name
        crt, key = authority.issue("renewed", host="renewed.test")
        for source, name in ((key, "server.key"), (crt, "server.crt")):
            os.replace(source, authority.folder / name)
        for _ in range(300):
            if secured.metrics()['sluice_file_reloads_total{file="tls",result="ok"}'] >= 1:
                break
            time.sleep(0.1)
        with channel_to(secured, authority, client, name="renewed.test") as after:
            assert get_model(api, after).name
        assert get_model(api, before).name, "what is open goes on"
    assert " reloaded file=tls expires=" in secured.wait_for("reloaded")
    expiry = secured.metrics()["sluice_tls_certificate_expiry_timestamp_seconds"]
    assert time.time() < expiry < time.time() + 2 * 86400

    (authority.folder / "server.crt").write_text("nonsense")
    assert "--tls-cert=" in secured.wait_for("reload_failed")
    assert secured.metrics()['sluice_file_reloads_total{file="tls",result="failed"}'] >= 1
    with channel_to(secured, authority, client, name="renewed.test") as still:
        assert get_model(api, still).name


def test_a_bad_certificate_ends_the_start(request, authority):
    build = pathlib.Path(request.config.getoption("--build"))
    binary = request.config.getoption("--server-binary") or build / "server" / "sluice-server"
    crt, _ = authority.issue("one")
    _, key = authority.issue("other")
    done = subprocess.run([binary, f"--model={request.config.getoption('--model-dir')}", "--listen=127.0.0.1:0",
                           "--metrics-listen=", f"--tls-cert={crt}", f"--tls-key={key}"],
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert f"--tls-key={key}: not the key of the certificate in {crt}" in done.stderr
    assert " loading " not in done.stderr
