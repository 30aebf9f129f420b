"""What an exported folder holds for those without this project: plain onnxruntime and transformers."""

FILE = "example.py"

_HEAD = """\
import json, pathlib, sys
import numpy, onnxruntime, transformers

folder = pathlib.Path(__file__).parent
design = json.loads((folder / "design.json").read_text())
tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(folder / design["filename"], options, providers=["CPUExecutionProvider"])
"""
_TEXTS = 'sys.argv[1:] or ["A warm, funny and wise film.", "Two hours of boredom."]'
_READ = {
    False: f"for text in {_TEXTS}:\n    tokens = tokenizer(text, ",
    True: f"texts = {_TEXTS}\nfor pair in zip(texts[::2], texts[1::2]):\n    tokens = tokenizer(*pair, ",
}
_RUN = """\
truncation=True, max_length=design["max_length"], return_tensors="np")
    logits = session.run(["logits"], {entry.name: tokens[entry.name] for entry in session.get_inputs()})[0][0]
"""
_SAY = {
    "classification": """\
    scores = numpy.exp(logits - logits.max())
    scores /= scores.sum()
    print(design["classes"][scores.argmax()], f"{scores.max():.4f}")
""",
    "multi-label": """\
    print("|".join(name for name, log_odds in zip(design["classes"], logits) if log_odds > 0))
""",
    "regression": """\
    print(f"{logits[0]:.4f}")
""",
    "embeddings": """\
    print(logits.tolist())
""",
    "token-classification": """\
    of_word = tokens.word_ids(0)
    for place, word in enumerate(of_word):
        if word is not None and word not in of_word[:place]:
            print(text.split()[word], design["classes"][logits[place].argmax()])
""",
}


def example(problem: str, *, pairs: bool) -> str:
    """A script that answers texts, or pairs of them, from its own folder.

    Args:
        problem: its name.
        pairs: whether two texts belong together.
    """
    read = _READ[pairs]
    if problem == "token-classification":
        read = read.replace("tokenizer(text, ", "tokenizer(text.split(), is_split_into_words=True, ")
    return _HEAD + read + _RUN + _SAY[problem]
