"""GenerationService as a Python client sees it."""
import asyncio
import math
import random
import time

import grpc
import pytest

PROMPT = "It is a truth universally acknowledged, that"


def make_request(api, text=PROMPT, max_tokens=20, **sampling):
    request = api.generation.GenerateRequest(text=text)
    request.stopping.max_tokens = max_tokens
    request.stopping.ignore_eos = True
    for name, value in sampling.items():
        setattr(request.sampling, name, value)
    return request


def collect(stream):
    """(text, ids, logprobs, the last message's `finished`)."""
    text, ids, logprobs, finished = "", [], [], None
    for message in stream:
        assert finished is None, "a message after the last"
        text += message.text
        ids += message.token_ids
        logprobs += message.logprobs
        if message.HasField("finished"):
            finished = message.finished
    return text, ids, logprobs, finished


def refused(stream):
    """(code, details) of a call that must fail before it gives anything."""
    with pytest.raises(grpc.RpcError) as error:
        next(stream)
    return error.value.code(), error.value.details()


def wait_until_idle(server):
    for _ in range(600):
        if server.metrics()['sluice_state_slots{state="used"}'] == 0:
            return
        time.sleep(0.05)
    raise AssertionError(f"slots leaked: {server.metrics()}")


def test_streams_text_and_says_how_it_ended(api, generation, model):
    request = make_request(api, max_tokens=30, seed=1)
    request.request_id = "python-1"
    text, ids, logprobs, finished = collect(generation.Generate(request))
    assert len(ids) == 30 and not logprobs
    decoded = model.Detokenize(api.model.DetokenizeRequest(token_ids=ids)).text
    assert text == decoded
    assert finished.reason == api.generation.FINISH_REASON_LENGTH
    assert finished.WhichOneof("stopped_by") is None
    assert finished.usage.output_tokens == 30
    assert finished.usage.prompt_tokens > 0
    assert finished.seed == 1
    assert finished.request_id == "python-1"
    timings = finished.timings
    assert timings.queue_seconds >= 0 and timings.prefill_seconds > 0 and timings.decode_seconds > 0
    assert timings.time_to_first_token_seconds == pytest.approx(
        timings.queue_seconds + timings.prefill_seconds, abs=0.01)


def test_tokens_come_one_by_one(api, generation):
    messages = list(generation.Generate(make_request(api, max_tokens=200)))
    assert len(messages) > 20, "increments are streamed while tokens are generated"


def test_a_seed_repeats_the_output_and_the_default_does_not(api, generation):
    first = collect(generation.Generate(make_request(api, seed=5, temperature=1.0)))
    assert collect(generation.Generate(make_request(api, seed=5, temperature=1.0)))[1] == first[1]
    free = [collect(generation.Generate(make_request(api, temperature=1.0))) for _ in range(2)]
    assert free[0][3].seed != free[1][3].seed
    again = collect(generation.Generate(
        make_request(api, seed=free[0][3].seed, temperature=1.0)))
    assert again[1] == free[0][1], "the seed that was used repeats the output"


def test_logprobs_of_greedy_tokens_are_the_highest(api, generation):
    request = make_request(api, temperature=0)
    request.output.logprobs = True
    request.output.top_logprobs = 5
    _, ids, logprobs, _ = collect(generation.Generate(request))
    assert len(logprobs) == len(ids) == 20
    for token, entry in zip(ids, logprobs):
        assert len(entry.top) == 5
        assert entry.top[0].token_id == token
        assert entry.logprob == pytest.approx(entry.top[0].logprob, abs=1e-5)
        values = [top.logprob for top in entry.top]
        assert values == sorted(values, reverse=True)
        assert values[0] <= 0 and sum(math.exp(value) for value in values) <= 1.001


def test_echo_returns_the_prompt_first(api, generation, model):
    request = make_request(api, max_tokens=3, temperature=0)
    request.output.echo = True
    request.output.logprobs = True
    text, ids, logprobs, finished = collect(generation.Generate(request))
    prompt = list(model.Tokenize(api.model.TokenizeRequest(text=PROMPT)).token_ids)
    assert ids[:len(prompt)] == prompt and len(ids) == len(prompt) + 3
    assert text.startswith(PROMPT)
    assert len(logprobs) == len(ids)
    assert not logprobs[0].HasField("logprob")
    assert all(entry.HasField("logprob") for entry in logprobs[1:])
    assert finished.usage.output_tokens == 3


def test_token_ids_are_taken_as_they_are(api, generation, model):
    prompt = model.Tokenize(api.model.TokenizeRequest(text=PROMPT)).token_ids
    by_ids = api.generation.GenerateRequest()
    by_ids.token_ids.ids.extend(prompt)
    by_ids.stopping.max_tokens = 10
    by_ids.stopping.ignore_eos = True
    by_ids.sampling.temperature = 0
    expected = collect(generation.Generate(make_request(api, max_tokens=10, temperature=0)))
    assert collect(generation.Generate(by_ids))[:2] == expected[:2]


def test_a_stop_string_is_cut_out(api, generation):
    whole = collect(generation.Generate(make_request(api, max_tokens=60, temperature=0)))[0]
    stop = whole[len(whole) // 2:len(whole) // 2 + 5]
    request = make_request(api, max_tokens=60, temperature=0)
    request.stopping.stop.append(stop)
    text, _, _, finished = collect(generation.Generate(request))
    assert text == whole[:whole.index(stop)]
    assert finished.reason == api.generation.FINISH_REASON_STOP
    assert finished.stop == stop


def test_a_stop_token_ends_it(api, generation):
    ids = collect(generation.Generate(make_request(api, max_tokens=40, temperature=0)))[1]
    request = make_request(api, max_tokens=40, temperature=0)
    request.stopping.stop_token_ids.append(ids[10])
    _, stopped, _, finished = collect(generation.Generate(request))
    assert stopped == ids[:ids.index(ids[10]) + 1]
    assert finished.reason == api.generation.FINISH_REASON_STOP
    assert finished.token_id == ids[10]


def test_logit_bias_forces_a_token(api, generation):
    request = make_request(api, max_tokens=5, temperature=0)
    request.sampling.logit_bias[17] = 100
    assert collect(generation.Generate(request))[1] == [17] * 5


def set_many_stops(request):
    request.stopping.stop.extend(["x"] * 10_000)


def set_field(path, value):
    def change(request):
        *parents, name = path.split(".")
        for parent in parents:
            request = getattr(request, parent)
        setattr(request, name, value)
    return change


@pytest.mark.parametrize("field, change", [
    ("prompt", lambda request: request.ClearField("text")),
    ("text", set_field("text", "")),
    ("text", set_field("text", "x" * (1 << 21))),
    ("token_ids", lambda request: request.token_ids.ids.append(1 << 31)),
    ("sampling.temperature", set_field("sampling.temperature", -0.1)),
    ("sampling.temperature", set_field("sampling.temperature", math.nan)),
    ("sampling.temperature", set_field("sampling.temperature", math.inf)),
    ("sampling.top_p", set_field("sampling.top_p", 0.0)),
    ("sampling.top_k", set_field("sampling.top_k", (1 << 32) - 1)),
    ("sampling.min_p", set_field("sampling.min_p", 1.5)),
    ("sampling.repetition_penalty", set_field("sampling.repetition_penalty", 0.0)),
    ("sampling.presence_penalty", set_field("sampling.presence_penalty", -3.0)),
    ("sampling.frequency_penalty", set_field("sampling.frequency_penalty", 3.0)),
    ("sampling.logit_bias", lambda request: request.sampling.logit_bias.update({1 << 31: 1.0})),
    ("stopping.max_tokens", set_field("stopping.max_tokens", 0)),
    ("stopping.max_tokens", set_field("stopping.max_tokens", (1 << 32) - 1)),
    ("stopping.stop", set_many_stops),
    ("stopping.stop", lambda request: request.stopping.stop.append("")),
    ("stopping.stop_token_ids",
     lambda request: request.stopping.stop_token_ids.append(1 << 31)),
    ("top_logprobs", set_field("output.top_logprobs", 5)),
    ("request_id", set_field("request_id", "x" * 129)),
    ("request_id", set_field("request_id", "two\nlines")),
])
def test_bad_requests_are_refused_by_the_fields_name(api, generation, field, change):
    request = make_request(api)
    change(request)
    code, details = refused(generation.Generate(request))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert field in details


def test_a_text_that_is_not_utf8_is_named(server):
    call = server.channel.unary_stream("/sluice.v1.GenerationService/Generate")
    code, details = refused(call(b"\x0a\x03a\xff\xfe"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details == "text: not valid UTF-8"
    code, details = refused(call(b"\x0a\x7f"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "sluice.v1.GenerateRequest" in details


def test_compressed_requests_are_refused(api, generation):
    code, details = refused(generation.Generate(make_request(api, text="x" * 10_000),
                                                compression=grpc.Compression.Gzip))
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "gzip" in details


def test_a_cancelled_stream_frees_its_slot(api, generation, server):
    stream = generation.Generate(make_request(api, max_tokens=60_000))
    next(stream)
    assert server.metrics()['sluice_state_slots{state="used"}'] == 1
    stream.cancel()
    wait_until_idle(server)


def test_a_deadline_ends_the_stream(api, generation, server):
    started = time.monotonic()
    stream = generation.Generate(make_request(api, max_tokens=60_000), timeout=1.0)
    received = 0
    with pytest.raises(grpc.RpcError) as error:
        for message in stream:
            received += len(message.token_ids)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    assert 0.9 < time.monotonic() - started < 20
    assert received > 0
    wait_until_idle(server)


def test_a_hundred_streams_at_once(api, model, server):
    async def one(stub, index):
        request = make_request(api, text=f"Chapter {index}. ", max_tokens=25, seed=index)
        text, ids = "", []
        async for message in stub.Generate(request):
            text += message.text
            ids += message.token_ids
        assert len(ids) == 25
        return text, ids

    async def all_of_them():
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = api.generation_grpc.GenerationServiceStub(channel)
            return await asyncio.gather(*(one(stub, index) for index in range(100)))

    for text, ids in asyncio.run(all_of_them()):
        assert model.Detokenize(api.model.DetokenizeRequest(token_ids=ids)).text == text
    wait_until_idle(server)


def test_random_cancellations_leak_no_slot(api, server):
    draw = random.Random(7)

    async def one(stub):
        stream = stub.Generate(make_request(api, max_tokens=5_000))
        for _ in range(draw.randrange(3)):
            await stream.read()
        await asyncio.sleep(draw.random() * 0.1)
        stream.cancel()

    async def all_of_them():
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub = api.generation_grpc.GenerationServiceStub(channel)
            await asyncio.gather(*(one(stub) for _ in range(60)))

    asyncio.run(all_of_them())
    wait_until_idle(server)
    metrics = server.metrics()
    assert metrics["sluice_requests_running"] == 0
    assert metrics["sluice_requests_waiting"] == 0


def test_a_full_queue_refuses_at_once(api, start_server):
    small = start_server("--slots=1", "--max-waiting=1")
    stub = api.generation_grpc.GenerationServiceStub(small.channel)
    running = stub.Generate(make_request(api, max_tokens=60_000))
    next(running)
    waiting = stub.Generate(make_request(api, max_tokens=2))
    while small.metrics()["sluice_requests_waiting"] < 1:
        time.sleep(0.01)
    started = time.monotonic()
    code, details = refused(stub.Generate(make_request(api)))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "full" in details
    assert time.monotonic() - started < 5
    running.cancel()
    assert len(collect(waiting)[1]) == 2
    assert small.metrics()['sluice_errors_total{code="RESOURCE_EXHAUSTED"}'] == 1
    small.channel.close()
    assert small.stop() == 0
