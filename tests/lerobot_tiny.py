"""Policies of LeRobot small enough to train in seconds, none of them downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from learning.makers import SPACES

if TYPE_CHECKING:
    from pathlib import Path

    from fleet_runtime.experience.spaces import Spaces

EYES = SPACES.model_copy(update={"images": {"front": (16, 16, 3)}})
INSTRUCTIONS = ("go to the left", "go to the right")
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "<image>", "<fake_token_around_image>", "<global-img>"]
WORDS = ["go", "to", "the", "left", "right", "\n"]

ACT: dict[str, Any] = {
    "chunk_size": 8,
    "n_action_steps": 4,
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 64,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
    "dropout": 0.0,
    "kl_weight": 0.1,
}
DIFFUSION: dict[str, Any] = {
    "horizon": 8,
    "n_action_steps": 4,
    "down_dims": [16, 32],
    "n_groups": 4,
    "num_train_timesteps": 10,
    "diffusion_step_embed_dim": 16,
}
SMOLVLA: dict[str, Any] = {
    "chunk_size": 8,
    "n_action_steps": 4,
    "max_state_dim": 4,
    "max_action_dim": 4,
    "resize_imgs_with_padding": [16, 16],
    "num_vlm_layers": 2,
    "num_steps": 3,
}
HEADS = {
    "act": ["model.action_head"],
    "diffusion": ["diffusion.unet.final_conv"],
    "smolvla": ["model.action_out_proj"],
}


def policy(kind: str, backbone: Path) -> tuple[Spaces, dict[str, Any]]:
    """What it sees, and `spec.policy.parameters`."""
    config = {"act": ACT, "diffusion": DIFFUSION, "smolvla": SMOLVLA}[kind]
    if kind == "smolvla":
        config = config | {"vlm_model_name": str(backbone)}
    spaces = EYES if kind == "smolvla" else SPACES
    return spaces, {"type": kind, "config": config, "heads": HEADS[kind]}


def save_backbone(folder: Path) -> None:
    """A SmolVLM of two layers, with a tokenizer of a dozen words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        SmolVLMConfig,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    names = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    tokens = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={
            "image_token": "<image>",
            "fake_image_token": "<fake_token_around_image>",
            "global_image_token": "<global-img>",
        },
    )
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(), tokenizer, SmolVLMVideoProcessor(), chat_template=None
    )
    processor.save_pretrained(folder)
    text = {
        "model_type": "llama",
        "vocab_size": len(names),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 4,
    }
    SmolVLMConfig(
        text_config=text, vision_config=vision, scale_factor=2, image_token_id=4, pad_token_id=0
    ).save_pretrained(folder)
