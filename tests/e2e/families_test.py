"""Every family of models behind the server: one random checkpoint and one server each."""
import json
import pathlib
import subprocess
import sys

import grpc
import pytest
from generation_test import collect, make_request, wait_until_idle

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
from random_checkpoint_sizes import SIZES  # noqa: E402

# Keys that make a published size small.
TRUNK = {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 304}
SMALL = {
    "hgrn2": {"expand_ratio": 32, "intermediate_size": 128},
    "mamba": {"time_step_rank": 4},
    "mamba2": {"num_heads": 2, "state_size": 32},
    "rwkv6": {"num_heads": 2, "intermediate_size": 128},
    "xlstm": {"num_heads": 2, "embedding_dim": 64, "num_blocks": 2},
}
SMALL_FLA = {"num_heads": 2, "intermediate_size": 128}


def write_checkpoint(directory, family, sluice):
    config = {**TRUNK, **SMALL.get(family, SMALL_FLA)}
    keys = [f"--set={key}={json.dumps(value)}" for key, value in config.items()]
    subprocess.run([sys.executable, ROOT / "tools/write_random_checkpoint.py", directory,
                    f"--model={family}", "--sluice", sluice, *keys], check=True)


@pytest.mark.parametrize("family, size", [(name, size) for name in SIZES for size in SIZES[name]])
def test_reads_every_published_size(request, tmp_path, family, size):
    (tmp_path / "config.json").write_text(json.dumps(SIZES[family][size]))
    build = pathlib.Path(request.config.getoption("--build"))
    said = subprocess.run([build / "client" / "sluice", "model", "--local", tmp_path,
                           "--device=cpu", "--json"], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    model = json.loads(said.stdout)
    assert model["model_type"] == family
    if size == "demo":
        assert 12e6 <= model["parameters"] < 14.5e6
        return
    expected = {"340M": 0.35e9, "1.3B": 1.4e9, "2.7B": 2.8e9, "7B": 7e9}[size]
    assert expected / 1.3 < model["parameters"] < expected * 1.3


def test_a_refused_configuration_leaves_nothing_behind(request, tmp_path):
    directory = tmp_path / "model"
    build = pathlib.Path(request.config.getoption("--build"))
    for _ in range(2):
        said = subprocess.run(
            [sys.executable, ROOT / "tools/write_random_checkpoint.py", directory, "--set=bad=1",
             "--sluice", build / "client" / "sluice"], capture_output=True, text=True, check=False)
        assert said.returncode == 1 and 'unknown key "bad"' in said.stderr
        assert not any(directory.iterdir())


@pytest.fixture(scope="module", params=sorted(SIZES))
def family_server(request, start_server, tmp_path_factory):
    """A server of a random model of the family; all of its slots are free again at the end."""
    directory = tmp_path_factory.mktemp(request.param) / "model"
    build = pathlib.Path(request.config.getoption("--build"))
    write_checkpoint(directory, request.param, build / "client" / "sluice")
    server = start_server(f"--model={directory}", "--slots=8")
    yield server
    wait_until_idle(server)
    server.channel.close()
    assert server.stop() == 0


@pytest.fixture
def family_generation(api, family_server):
    return api.generation_grpc.GenerationServiceStub(family_server.channel)


@pytest.fixture
def family_model(api, family_server):
    return api.model_grpc.ModelServiceStub(family_server.channel)


def test_generates_what_it_scores(api, family_generation, family_model):
    request = make_request(api, max_tokens=40, temperature=0)
    request.output.logprobs = True
    _, ids, logprobs, finished = collect(family_generation.Generate(request))
    assert finished.reason == api.generation.FINISH_REASON_LENGTH and len(ids) == 40
    prompt = family_model.Tokenize(api.model.TokenizeRequest(text=request.text)).token_ids
    score = api.model.ScoreRequest()
    score.token_ids.ids.extend([*prompt, *ids])
    scored = family_model.Score(score).logprobs[len(prompt):]
    for drawn, again in zip(logprobs, scored, strict=True):
        assert drawn.logprob == pytest.approx(again.logprob, abs=2e-2)


def test_gives_the_same_alone_and_among_others(api, family_generation):
    requests = [make_request(api, max_tokens=30, seed=seed, temperature=0) for seed in range(6)]
    for number, request in enumerate(requests):
        request.text = request.text + " " * number
    together = [family_generation.Generate(request) for request in requests]
    texts = [collect(stream)[0] for stream in together]
    assert texts == [collect(family_generation.Generate(request))[0] for request in requests]


def test_ends_at_a_stop_string(api, family_generation):
    request = make_request(api, max_tokens=60, temperature=1, seed=5)
    text = collect(family_generation.Generate(request))[0]
    stop = text[len(text) // 2:][:2]
    assert stop
    request.stopping.stop.append(stop)
    ended, _, _, finished = collect(family_generation.Generate(request))
    assert ended == text[:text.index(stop)]
    assert finished.stop == stop


def test_stops_when_it_is_cancelled(api, family_server, family_generation):
    stream = family_generation.Generate(make_request(api, max_tokens=60000))
    next(stream)
    stream.cancel()
    with pytest.raises(grpc.RpcError) as error:
        list(stream)
    assert error.value.code() == grpc.StatusCode.CANCELLED
    wait_until_idle(family_server)
