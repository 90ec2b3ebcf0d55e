"""What the soak asks for: distinct requests, and in which order and how they are sent."""
import random

# Of twenty requests in a row; the rest is read to its end as fast as it comes.
KINDS = {"cancel": 6, "slow": 1, "invalid": 1, "plain": 12}
VOCABULARY = 4096  # of the demo model
LONGEST_PROMPT, LONGEST_OUTPUT, LONGEST_CANCEL = 400, 300, 24
WORDS = """It was a fine evening in June and the garden of the old house lay quiet under the elms when she came down
the steps with a letter in her hand which nobody had asked for yet everyone would want to read before supper since
news from town was rare that summer and rarer still was any that concerned them all so nearly""".split()
STOPS = [".", ",", " the", "\n", "and", " said", "?", "e w", "You", "Mr."]


def draw_length(draw, median, sigma, most):
    return max(1, min(most, round(draw.lognormvariate(0, sigma) * median)))


def draw_words(draw, count):
    return " ".join(draw.choice(WORDS) for _ in range(count))


def draw_prompt(draw, prefixes):
    length = draw_length(draw, 16, 0.9, LONGEST_PROMPT)
    if draw.random() < 0.1:
        return {"tokenIds": {"ids": [draw.randrange(VOCABULARY) for _ in range(length)]}}
    words = draw_words(draw, length)
    return {"text": f"{draw.choice(prefixes)} {words}" if draw.random() < 0.4 else words}


def draw_sampling(draw):
    """Every setting alone and with others; what is left out has the server's default."""
    sampling = {"seed": str(draw.getrandbits(64))}
    settings = [("temperature", 0.8, lambda: draw.choice([0, round(draw.uniform(0.3, 1.5), 2)])),
                ("topK", 0.3, lambda: draw.randint(2, 200)),
                ("topP", 0.3, lambda: round(draw.uniform(0.5, 0.99), 2)),
                ("minP", 0.15, lambda: round(draw.uniform(0.01, 0.2), 2)),
                ("repetitionPenalty", 0.15, lambda: round(draw.uniform(1, 1.4), 2)),
                ("presencePenalty", 0.1, lambda: round(draw.uniform(-1, 1), 2)),
                ("frequencyPenalty", 0.1, lambda: round(draw.uniform(-1, 1), 2)),
                ("logitBias", 0.05, lambda: {str(draw.randrange(VOCABULARY)): 4.5 for _ in range(3)})]
    sampling.update((name, value()) for name, share, value in settings if draw.random() < share)
    return sampling


def draw_plan(draw, prefixes):
    """A GenerateRequest as protobuf's JSON."""
    stopping = {"maxTokens": draw_length(draw, 16, 1.0, LONGEST_OUTPUT)}
    if draw.random() < 0.2:
        stopping["stop"] = draw.sample(STOPS, draw.randint(1, 3))
    if draw.random() < 0.5:
        stopping["ignoreEos"] = True
    output = {}
    if draw.random() < 0.2:
        output = {"logprobs": True, "topLogprobs": draw.choice([0, 0, 5, 20])}
    if draw.random() < 0.05:
        output["echo"] = True
    return {**draw_prompt(draw, prefixes), "sampling": draw_sampling(draw), "stopping": stopping, "output": output}


def draw_plans(seed, count):
    """Distinct requests, each with its own sampling seed; two fifths of the texts share one of eight beginnings."""
    draw = random.Random(f"plans {seed}")
    prefixes = [draw_words(draw, draw.randint(40, 160)) for _ in range(8)]
    return [draw_plan(draw, prefixes) for _ in range(count)]


def draw_kinds(draw, count):
    row = [kind for kind, share in KINDS.items() for _ in range(share)]
    kinds = []
    while len(kinds) < count:
        draw.shuffle(row)
        kinds += row
    return kinds[:count]


def draw_request(draw, kind, lengths):
    plan = draw.randrange(len(lengths))
    after = draw.randint(0, max(0, min(LONGEST_CANCEL, lengths[plan] - 1))) if kind == "cancel" else 0
    return f"{plan} {kind} {after}"


def draw_requests(seed, count, lengths):
    """The requests of the load, each a line: INDEX PLAN KIND CANCEL_AFTER. `lengths`: how many tokens the answer to
    each plan has, of which a client that cancels takes fewer."""
    draw = random.Random(f"requests {seed}")
    return [f"{index} {draw_request(draw, kind, lengths)}" for index, kind in enumerate(draw_kinds(draw, count))]


def alone(plans):
    """Each plan once, to be sent one at a time."""
    return [f"{plan} {plan} plain 0" for plan in range(plans)]
