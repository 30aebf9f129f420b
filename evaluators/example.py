"""What an exported folder holds for those without this project: plain onnxruntime and transformers."""

from collections.abc import Mapping

from spaces.medium import IMAGE, SOUND, TEXT, Medium

FILE = "example.py"

_HEAD = """\
import json, pathlib, sys
import numpy, onnxruntime, transformers{libraries}

folder = pathlib.Path(__file__).parent
design = json.loads((folder / "design.json").read_text())
{reader} = transformers.{processor}.from_pretrained(folder)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(folder / design["filename"], options, providers=["CPUExecutionProvider"])
"""
_TEXTS = 'sys.argv[1:] or ["A warm, funny and wise film.", "Two hours of boredom."]'
_READ = {
    False: f"for text in {_TEXTS}:\n    tokens = tokenizer(text, ",
    True: f"texts = {_TEXTS}\nfor pair in zip(texts[::2], texts[1::2]):\n    tokens = tokenizer(*pair, ",
}
_CUT = """\
truncation=True, max_length=design["max_length"], return_tensors="np")
"""
# By medium of files, further libraries, and how a file is read.
_FILES: Mapping[str, tuple[str, str]] = {
    IMAGE.name: (
        "\nfrom PIL import Image, ImageOps",
        """\
mode = "L" if len(processor.image_mean or ()) == 1 else "RGB"
for path in sys.argv[1:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert(mode)
    inputs = processor(image, return_tensors="np")
""",
    ),
    SOUND.name: (
        "\nimport math, soundfile\nfrom scipy.signal import resample_poly",
        """\
wanted = processor.sampling_rate
for path in sys.argv[1:]:
    waves, rate = soundfile.read(path, dtype="float32", always_2d=True)
    common = math.gcd(rate, wanted)
    wave = resample_poly(waves.mean(axis=1), wanted // common, rate // common).astype("float32")
    inputs = processor(wave, sampling_rate=wanted, return_tensors="np")
""",
    ),
}
_RUN = """\
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


def example(problem: str, *, pairs: bool, medium: Medium = TEXT) -> str:
    """A script that answers texts, pairs of them, or files, from its own folder.

    Args:
        problem: its name.
        pairs: whether two texts belong together.
        medium: of the rows.
    """
    if medium.of_files:
        libraries, read = _FILES[medium.name]
        head = _HEAD.format(libraries=libraries, reader="processor", processor=medium.processor)
        return head + read + _RUN.replace("tokens", "inputs") + _SAY[problem]
    read = _READ[pairs]
    if problem == "token-classification":
        read = read.replace("tokenizer(text, ", "tokenizer(text.split(), is_split_into_words=True, ")
    head = _HEAD.format(libraries="", reader="tokenizer", processor=medium.processor)
    return head + read + _CUT + _RUN + _SAY[problem]
