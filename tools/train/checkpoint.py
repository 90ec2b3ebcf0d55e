"""Hugging Face directories of the demo model: written here, readable by flash-linear-attention."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from gla import GlaConfig, GlaLanguageModel
from tokens import END_OF_TEXT_ID


def config_json(config: GlaConfig) -> dict:
    """config.json with every key of flash-linear-attention's GLAConfig that matters."""
    return {
        "architectures": ["GLAForCausalLM"],
        "model_type": "gla",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_heads": config.num_heads,
        "num_kv_heads": None,
        "expand_k": config.expand_k,
        "expand_v": config.expand_v,
        "hidden_ratio": None,
        "intermediate_size": config.intermediate_size,
        "feature_map": None,
        "attn_mode": "chunk",
        "attn": None,
        "use_short_conv": False,
        "conv_size": 4,
        "use_output_gate": True,
        "clamp_min": None,
        "hidden_act": "swish",
        "elementwise_affine": True,
        "norm_eps": config.norm_eps,
        "use_gk": True,
        "use_gv": False,
        "fuse_norm": True,
        "fuse_swiglu": True,
        "fuse_cross_entropy": True,
        "initializer_range": 0.02,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": True,
        "use_cache": True,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "pad_token_id": None,
        "torch_dtype": "bfloat16",
    }


def bf16_state(model: GlaLanguageModel) -> dict[str, Tensor]:
    """The parameters rounded to bf16, on the CPU; the head is tied and not stored."""
    state = model.state_dict()
    return {k: v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in state.items()}


def save_directory(model: GlaLanguageModel, path: Path) -> None:
    """Writes config.json, generation_config.json and model.safetensors (bf16)."""
    path.mkdir(parents=True, exist_ok=True)
    generation = {
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": END_OF_TEXT_ID,
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.95,
        "max_new_tokens": 256,
    }
    for name, content in (
        ("config.json", config_json(model.config)),
        ("generation_config.json", generation),
    ):
        (path / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    save_file(bf16_state(model), path / "model.safetensors", metadata={"format": "pt"})
    (path / "model.safetensors").chmod(0o644)


def load_directory(path: Path, device: str) -> GlaLanguageModel:
    """Reads what save_directory wrote, upcast to float32, in evaluation mode."""
    content = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = GlaConfig(**{k: content[k] for k in GlaConfig.__dataclass_fields__})
    model = GlaLanguageModel(config)
    model.load_state_dict({k: v.float() for k, v in load_file(path / "model.safetensors").items()})
    return model.to(device).eval()
