"""Loads the model in this folder with torch and transformers alone: `python load.py "A text."`, or `load()`."""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file

FOLDER = Path(__file__).parent
LINEARS = {"attention": 4, "mlp": 2}  # of a block that config.json says to skip


class Zeros(torch.nn.Module):
    """Stands where a linear was: zeros (..., width) come out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden.new_zeros(*hidden.shape[:-1], self.width)


def load(folder: Path = FOLDER) -> Any:
    """The model, ready to predict: every linear as wide as its weights, and zeros where there are none."""
    if int(transformers.__version__.partition(".")[0]) < 5:
        raise ImportError(f"This folder needs transformers 5 or later, found {transformers.__version__}.")
    config = transformers.AutoConfig.from_pretrained(folder)
    config.per_layer_config = None  # the encoders of transformers are as wide everywhere
    model, weights = getattr(transformers, config.architectures[0])(config), load_file(folder / "model.safetensors")
    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    gone = [name for name in linears if f"{name}.weight" not in weights]
    layers = json.loads((folder / "config.json").read_text())["per_layer_config"].values()
    if len(gone) != sum(LINEARS[block] for layer in layers for block in layer.get("skip", ())):
        raise ValueError(f"{folder}: model.safetensors lacks {gone}, which config.json does not say.")
    for name, module in linears.items():
        rows, columns = weights.get(f"{name}.weight", module.weight).shape
        sliced = Zeros(rows) if name in gone else torch.nn.Linear(columns, rows, bias=module.bias is not None)
        model.set_submodule(name, sliced)
    model.load_state_dict(weights)
    return model.eval()


if __name__ == "__main__":
    tokenizer, model = transformers.AutoTokenizer.from_pretrained(FOLDER), load()
    tokens = tokenizer(*sys.argv[1:], truncation=True, return_tensors="pt")
    print(dict(zip(model.config.id2label.values(), model(**tokens).logits[0].tolist(), strict=True)))
