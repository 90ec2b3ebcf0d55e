"""What the writers of goldens share that needs PyTorch.

Models of flash-linear-attention and of transformers, with TF32 off. Import before anything that
imports Triton.
"""

import os

os.environ["TRITON_F32_DEFAULT"] = "ieee"  # Read when Triton is imported.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # Compiling a few activations takes a minute.

import datetime
import importlib
import importlib.metadata

import numpy as np
import torch

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def prepare(device: str, tune: bool = False) -> None:
    """Full precision, and the first configuration of each Triton kernel unless tune.

    Tuning flash-linear-attention takes minutes a model and changes only speed and rounding.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    if tune:
        return
    from triton.runtime.autotuner import Autotuner

    prune = Autotuner.prune_configs
    Autotuner.prune_configs = lambda self, kwargs: prune(self, kwargs)[:1]
    if device == "cpu":  # There is nothing to time one configuration with.
        Autotuner._bench = lambda self, *args, **kwargs: [0.0, 0.0, 0.0]


def build(module: str, model: str, config: str, keys: dict, tensors: dict[str, np.ndarray]):
    """module.model over module.config(**keys) in float32; every tensor given must be used.

    Parameters that tensors lack must share their storage with one that it has.
    """
    names = importlib.import_module(module)
    kind = getattr(names, model)
    for base in kind.__mro__:  # Every parameter is given: the initialisers are not needed.
        if "_init_weights" in vars(base):
            base._init_weights = lambda self, module: None
    made = kind(getattr(names, config)(**keys)).float()
    state = {name: torch.from_numpy(np.ascontiguousarray(t)).float() for name, t in tensors.items()}
    missing, unexpected = made.load_state_dict(state, strict=False)
    if "lm_head.weight" in missing:
        made.lm_head.weight = made.base_model.embeddings.weight
    given = {
        made.state_dict(keep_vars=True)[name].data_ptr() for name in state if name not in unexpected
    }
    orphans = [n for n, p in made.named_parameters() if n in missing and p.data_ptr() not in given]
    if unexpected or orphans:
        raise ValueError(f"no tensor for {orphans}, no parameter for {unexpected}")
    return made.eval()


@torch.no_grad()
def logprobs(model, ids: list[int], device: str) -> np.ndarray:
    """Log-probabilities [T, vocab] of the token after each of ids, float64."""
    inputs = torch.tensor([ids], device=device)
    logits = model(input_ids=inputs, use_cache=False).logits[0]
    return logits.cpu().double().log_softmax(-1).numpy()


def what_ran(reference: str, packages: tuple[str, ...], device: str) -> dict:
    """Versions and device."""
    versions = {name: importlib.metadata.version(name) for name in (*packages, "torch")}
    cpu = "CPU, Triton's interpreter" if "triton" in packages else "CPU"
    return {
        "reference": f"{reference}, float32, TF32 off",
        **versions,
        "device": torch.cuda.get_device_name() if device == "cuda" else cpu,
        "date": datetime.date.today().isoformat(),
    }
