"""The commands of `scripts/pretrain-images`: draw the emoji, train the small text-to-image model, export it, draw the demo's image sets."""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerFast

from gradients.files.whole import write_text
from scripts.pretraining.emoji import (
    BASE_STYLE,
    OTHER_STYLE,
    draw,
    draw_all,
    png_bytes,
    read_categories,
    read_icons,
    spread_choice,
)
from scripts.pretraining.emoji_card import image_model_card
from scripts.pretraining.emoji_model import (
    PIXELS,
    ImageShape,
    build_image_model,
    export_pipeline,
    train_caption_tokenizer,
)
from scripts.pretraining.emoji_training import (
    Captioned,
    ImageRecipe,
    ImageRun,
    caption_tokens,
    captioned,
    load_image_model,
    save_image_model,
    train_autoencoder,
    train_denoiser,
)
from scripts.pretraining.portrait import portraits
from scripts.pretraining.rows import write_rows
from scripts.pretraining.sources import fetch_one

ROOT = Path(__file__).parents[2]
MODEL = "models/nano-image"
_HELD_OUT_ONE_IN = 20
_ROWS = 48  # of an image set
_STYLE_CATEGORIES = ("Animals & Nature", "Food & Drink")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    command: str
    work: Path
    assets: Path
    autoencoder_minutes: float
    denoising_minutes: float
    batch: int
    vocabulary: int
    seed: int
    machine: str

    @property
    def recipe(self) -> ImageRecipe:
        return ImageRecipe(
            seed=self.seed,
            autoencoder_minutes=self.autoencoder_minutes,
            denoising_minutes=self.denoising_minutes,
            batch=self.batch,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command, or all of them in order."""
    options = Options(**vars(_parser().parse_args(arguments)))
    options.work.mkdir(parents=True, exist_ok=True)
    commands = {"draw": draw_base_images, "train": run_training, "export": export, "rows": write_image_rows}
    for name in commands if options.command == "all" else (options.command,):
        commands[name](options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/pretrain-images", description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("command", choices=["all", "draw", "train", "export", "rows"], nargs="?", default="all")
    add("--work", type=Path, default=Path("runs/pretrain-images"), help="packages, drawings and weights")
    add("--assets", type=Path, default=ROOT / "gradients/assets", help="where models/ and data/ are written")
    add("--autoencoder-minutes", type=float, default=4.0, help="CPU time of the first phase")
    add("--denoising-minutes", type=float, default=20.0, help="CPU time of the second phase")
    add("--batch", type=int, default=24, help="images in a step")
    add("--vocabulary", type=int, default=1024, help="entries of the tokenizer")
    add("--seed", type=int, default=0, help="of weights and order")
    add("--machine", default="a CPU, one thread", help="the class of machine, for the record")
    return parser


def draw_base_images(options: Options) -> None:
    """Draw every emoji of the base's style and train the tokenizer on the captions."""
    emoji = list(read_icons(fetch_one(BASE_STYLE, options.work).unpacked).values())
    captions = [one.caption for one in emoji]
    train_caption_tokenizer(captions, vocabulary=options.vocabulary).save_pretrained(options.work / "tokenizer")
    np.savez(options.work / "images.npz", images=draw_all((one.svg for one in emoji), pixels=PIXELS), captions=captions)
    print(f"drew {len(emoji):,} emoji", flush=True)


def run_training(options: Options) -> None:
    """Train both phases and save the weights after each."""
    tokenizer = _tokenizer(options)
    train, held_out = _data(options, tokenizer)
    model, run = build_image_model(len(tokenizer), ImageShape(), seed=options.seed), ImageRun()
    parameters = sum(parameter.numel() for part in model.parts().values() for parameter in part.parameters())
    print(f"training {parameters:,} parameters on {len(train.images):,} images", flush=True)
    train_autoencoder(model, train, held_out, recipe=options.recipe, run=run)
    save_image_model(options.work / "model.safetensors", model, run)
    train_denoiser(model, train, held_out, recipe=options.recipe, run=run, empty=caption_tokens([""], tokenizer))
    save_image_model(options.work / "model.safetensors", model, run)


def export(options: Options) -> None:
    """Write the pipeline's folder from the trained weights: networks, tokenizer, record, card."""
    tokenizer, folder = _tokenizer(options), options.assets / MODEL
    model = build_image_model(len(tokenizer), ImageShape(), seed=options.seed)
    run = load_image_model(options.work / "model.safetensors", model)
    export_pipeline(model, tokenizer, folder)
    train, held_out = _data(options, tokenizer)
    fetched = fetch_one(BASE_STYLE, options.work)
    record = {
        "machine": options.machine,
        "recipe": asdict(options.recipe),
        "shape": asdict(ImageShape()),
        "parameters": {part: sum(p.numel() for p in network.parameters()) for part, network in model.parts().items()},
        "images": len(train.images),
        "held_out_images": len(held_out.images),
        "package": {"name": BASE_STYLE.name, "file": fetched.file, "sha256": fetched.sha256, "licence": "Apache-2.0"},
        "losses": run.history,
    }
    write_text(folder / "training.json", json.dumps(record, indent=2) + "\n")
    write_text(folder / "README.md", image_model_card(record))


def write_image_rows(options: Options) -> None:
    """Draw the image sets of the demo: things in another style, and one person."""
    base = read_icons(fetch_one(BASE_STYLE, options.work).unpacked)
    other = fetch_one(OTHER_STYLE, options.work).unpacked
    icons, categories = read_icons(other), read_categories(other)
    keys = [key for key in icons if key in base and categories.get(key) in _STYLE_CATEGORIES]
    style = [_image_row(icons[key].svg, icons[key].caption) for key in spread_choice(keys, _ROWS)]
    person = [_image_row(portrait.svg, portrait.caption) for portrait in portraits(_ROWS, seed=options.seed)]
    write_rows(options.assets / "data/fluent-emoji/rows.jsonl", style)
    write_rows(options.assets / "data/ada-portraits/rows.jsonl", person)


def _image_row(svg: str, caption: str) -> dict[str, str]:
    return {"image": base64.b64encode(png_bytes(draw(svg, pixels=PIXELS))).decode(), "caption": caption}


def _data(options: Options, tokenizer: PreTrainedTokenizerFast) -> tuple[Captioned, Captioned]:
    drawn = np.load(options.work / "images.npz")
    whole = captioned(drawn["images"], drawn["captions"].tolist(), tokenizer)
    held = np.arange(len(whole.images)) % _HELD_OUT_ONE_IN == 0
    return Captioned(whole.images[~held], whole.tokens[~held]), Captioned(whole.images[held], whole.tokens[held])


def _tokenizer(options: Options) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(options.work / "tokenizer")
