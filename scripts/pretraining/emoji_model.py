"""The small text-to-image model: a Stable Diffusion pipeline in which every part is a few sizes smaller."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

PIXELS = 32
TOKENS = 16  # of a caption
_START, _END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True, slots=True)
class ImageShape:
    """Sizes of the three networks."""

    autoencoder: tuple[int, ...] = (16, 32)  # channels at 32 and 16 pixels
    latents: int = 4
    unet: tuple[int, ...] = (32, 64, 128)  # channels at 16, 8 and 4
    text_width: int = 64
    text_layers: int = 2


@dataclass(frozen=True, slots=True)
class ImageModel:
    """The networks that are trained, apart from their pipeline."""

    autoencoder: AutoencoderKL
    unet: UNet2DConditionModel
    text_encoder: CLIPTextModel

    def parts(self) -> dict[str, torch.nn.Module]:
        return {"vae": self.autoencoder, "unet": self.unet, "text_encoder": self.text_encoder}


def build_image_model(vocabulary: int, shape: ImageShape, *, seed: int) -> ImageModel:
    """The networks with weights drawn from `seed`."""
    torch.manual_seed(seed)
    return ImageModel(_autoencoder(shape), _unet(shape), _text_encoder(vocabulary, shape))


def _autoencoder(shape: ImageShape) -> AutoencoderKL:
    levels = len(shape.autoencoder)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=shape.autoencoder,
        layers_per_block=1,
        latent_channels=shape.latents,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=PIXELS,
    )


def _unet(shape: ImageShape) -> UNet2DConditionModel:
    levels = len(shape.unet)
    return UNet2DConditionModel(
        sample_size=PIXELS >> (len(shape.autoencoder) - 1),
        in_channels=shape.latents,
        out_channels=shape.latents,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * (levels - 1)),
        up_block_types=(*("CrossAttnUpBlock2D",) * (levels - 1), "UpBlock2D"),
        block_out_channels=shape.unet,
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=shape.text_width,
        attention_head_dim=4,  # heads: the name is an old mistake of the library's
    )


def _text_encoder(vocabulary: int, shape: ImageShape) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=shape.text_width,
        intermediate_size=2 * shape.text_width,
        projection_dim=shape.text_width,
        num_hidden_layers=shape.text_layers,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return CLIPTextModel(config)


def train_caption_tokenizer(captions: Iterable[str], *, vocabulary: int) -> PreTrainedTokenizerFast:
    """A CLIP-style tokenizer: lower case, byte-level BPE, `<|endoftext|>` as the end and the padding."""
    tokenizer = Tokenizer(models.BPE(unk_token=_END, end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[_START, _END],
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, 0), (_END, 1)]
    )
    marks = {"bos_token": _START, "eos_token": _END, "pad_token": _END, "unk_token": _END}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=TOKENS, **marks)


def noise_schedule() -> DDIMScheduler:
    """Stable Diffusion's betas; the network predicts velocity, which learns faster from few images."""
    return DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        num_train_timesteps=1000,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )


def pipeline_of(model: ImageModel, tokenizer: PreTrainedTokenizerFast) -> StableDiffusionPipeline:
    """The networks as a pipeline that diffusers loads by itself."""
    pipeline = StableDiffusionPipeline(
        vae=model.autoencoder,
        text_encoder=model.text_encoder,
        tokenizer=tokenizer,
        unet=model.unet,
        scheduler=noise_schedule(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def export_pipeline(model: ImageModel, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the pipeline with half-precision weights."""
    for part in model.parts().values():
        part.half()
    pipeline_of(model, tokenizer).save_pretrained(folder)
