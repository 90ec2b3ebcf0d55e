"""ModelService as a Python client sees it."""
import json
import pathlib

import grpc
import pytest
from tokenizers import Tokenizer

TEXTS = ["", "Elizabeth", " two  spaces\n\nand lines ", "na\u00efve caf\u00e9 \u4f60\u597d \U0001f600",
         "<|endoftext|>", "a" * 5000]


@pytest.fixture(scope="module")
def model_dir(request):
    return pathlib.Path(request.config.getoption("--model-dir"))


def test_describes_what_is_in_the_directory(api, model, model_dir):
    described = model.GetModel(api.model.GetModelRequest())
    config = json.loads((model_dir / "config.json").read_text())
    assert described.name == model_dir.name
    assert described.model_type == config["model_type"]
    assert described.hidden_size == config["hidden_size"]
    assert described.num_layers == config["num_hidden_layers"]
    assert described.vocab_size == config["vocab_size"]
    assert described.num_heads == config["num_heads"]
    assert described.head_key_dim == config["hidden_size"] * config["expand_k"] / config["num_heads"]
    assert described.head_value_dim == config["hidden_size"] * config["expand_v"] / config["num_heads"]
    assert described.state_bytes > 0 and described.parameters > 0
    assert list(described.eos_token_ids) == [config["eos_token_id"]]
    assert described.limits.state_slots == 16
    assert described.limits.max_top_logprobs == 20
    assert described.device and described.server_version


@pytest.mark.parametrize("text", TEXTS)
def test_tokenizes_as_the_tokenizers_package_does(api, model, model_dir, text):
    reference = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    for plain in (False, True):
        request = api.model.TokenizeRequest(text=text, no_special_tokens=plain)
        expected = reference.encode(text, add_special_tokens=not plain).ids
        assert list(model.Tokenize(request).token_ids) == expected
    ids = reference.encode(text).ids
    for keep in (False, True):
        request = api.model.DetokenizeRequest(token_ids=ids, keep_special_tokens=keep)
        assert model.Detokenize(request).text == reference.decode(ids, skip_special_tokens=not keep)


def test_detokenize_refuses_ids_outside_the_vocabulary(api, model):
    with pytest.raises(grpc.RpcError) as error:
        model.Detokenize(api.model.DetokenizeRequest(token_ids=[1, 1 << 31]))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "token_ids[1]" in error.value.details()


def test_tokenize_refuses_what_is_too_long(api, model):
    limit = model.GetModel(api.model.GetModelRequest()).limits.max_text_bytes
    with pytest.raises(grpc.RpcError) as error:
        model.Tokenize(api.model.TokenizeRequest(text="x" * (limit + 1)))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert str(limit) in error.value.details()


@pytest.mark.parametrize("method", ["Tokenize", "Score"])
def test_a_text_that_is_not_utf8_is_named(server, method):
    with pytest.raises(grpc.RpcError) as error:
        server.channel.unary_unary(f"/sluice.v1.ModelService/{method}")(b"\x0a\x02\xc3\x28")
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "text: not valid UTF-8"


def test_scores_every_token_but_the_first(api, model, generation):
    text = "It is a truth universally acknowledged"
    score = model.Score(api.model.ScoreRequest(text=text, top_logprobs=3))
    ids = list(model.Tokenize(api.model.TokenizeRequest(text=text)).token_ids)
    assert list(score.token_ids) == ids
    assert not score.logprobs[0].HasField("logprob") and not score.logprobs[0].top
    for entry in score.logprobs[1:]:
        assert entry.logprob <= 0 and len(entry.top) == 3
    assert score.usage.prompt_tokens == len(ids) and score.usage.output_tokens == 0

    # An echoed prompt has the same ones.
    request = api.generation.GenerateRequest(text=text)
    request.stopping.max_tokens = 1
    request.output.echo = True
    request.output.logprobs = True
    echoed = [entry for message in generation.Generate(request) for entry in message.logprobs]
    for scored, generated in zip(score.logprobs[1:], echoed[1:]):
        assert scored.logprob == pytest.approx(generated.logprob, abs=1e-4)


def test_scores_ids_as_text(api, model):
    text = "Mr. Darcy walked"
    request = api.model.ScoreRequest()
    request.token_ids.ids.extend(model.Tokenize(api.model.TokenizeRequest(text=text)).token_ids)
    by_ids = model.Score(request)
    by_text = model.Score(api.model.ScoreRequest(text=text))
    assert by_ids.token_ids == by_text.token_ids
    assert by_ids.logprobs == by_text.logprobs


def test_score_refuses_nothing_to_score(api, model):
    with pytest.raises(grpc.RpcError) as error:
        model.Score(api.model.ScoreRequest())
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
