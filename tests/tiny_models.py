"""Tiny random classifiers of every supported family. Knows sizes; knows nothing of what a test does with them."""

from typing import Any

import torch
from transformers import (
    AlbertConfig,
    AlbertForSequenceClassification,
    ASTConfig,
    ASTForAudioClassification,
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DeiTConfig,
    DeiTForImageClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    PreTrainedModel,
    RobertaConfig,
    RobertaForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from evaluators.conforming import conform

TEXT_FAMILIES = ("bert", "distilbert", "roberta", "electra", "albert", "modernbert", "gpt2", "deberta-v2", "deberta-v3")
DEBERTA = ("deberta-v2", "deberta-v3")  # whose attention cannot be replaced
IMAGE_FAMILIES = ("vit", "deit")
AUDIO_FAMILIES = ("ast", "wav2vec2")
FAMILIES = TEXT_FAMILIES + IMAGE_FAMILIES + AUDIO_FAMILIES
CONFORMED = (
    "albert",
    "modernbert",
    "gpt2",
    "deberta-v2",
    "deberta-v3",
)  # rewritten where they are loaded (evaluators/conforming.py)

LAYERS, HEADS, HIDDEN, FFN, VOCAB, POSITIONS, CLASSES = 3, 4, 32, 48, 120, 40, 3
_SIZES: dict[str, Any] = {
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "hidden_size": HIDDEN,
    "intermediate_size": FFN,
    "num_labels": CLASSES,
}
_WORDS: dict[str, Any] = {"vocab_size": VOCAB, "max_position_embeddings": POSITIONS}
_IMAGE: dict[str, Any] = {"image_size": 16, "patch_size": 4, "num_channels": 1}
_SPECTROGRAM: dict[str, Any] = {
    "max_length": 24,
    "num_mel_bins": 16,
    "patch_size": 8,
    "frequency_stride": 8,
    "time_stride": 8,
}
_SOUND: dict[str, Any] = {
    "conv_dim": (8, 8),
    "conv_kernel": (4, 4),
    "conv_stride": (4, 4),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
_DISTILBERT: dict[str, Any] = {
    "n_layers": LAYERS,
    "n_heads": HEADS,
    "dim": HIDDEN,
    "hidden_dim": FFN,
    "num_labels": CLASSES,
}


def _untrained(family: str) -> PreTrainedModel:
    match family:
        case "bert":
            return BertForSequenceClassification(BertConfig(**_SIZES, **_WORDS))
        case "distilbert":
            return DistilBertForSequenceClassification(DistilBertConfig(**_DISTILBERT, **_WORDS))
        case "roberta":
            return RobertaForSequenceClassification(RobertaConfig(**_SIZES, **_WORDS))
        case "electra":
            return ElectraForSequenceClassification(ElectraConfig(**_SIZES, **_WORDS, embedding_size=16))
        case "albert":
            groups = {"num_hidden_groups": 2, "embedding_size": 16}  # the first two layers share their weights
            return AlbertForSequenceClassification(AlbertConfig(**_SIZES, **_WORDS, **groups))
        case "deberta-v2" | "deberta-v3":
            # Of v3 all checkpoints share projections of tokens and distances; the second has buckets of distances, too.
            v3 = {
                "share_att_key": True,
                "position_buckets": 4,
                "norm_rel_ebd": "layer_norm",
                "position_biased_input": False,
            }
            relative = {"relative_attention": True, "pos_att_type": "p2c|c2p", **(v3 if family == "deberta-v3" else {})}
            config = DebertaV2Config(**_SIZES, **_WORDS, **relative, pooler_hidden_size=HIDDEN)
            return DebertaV2ForSequenceClassification(config)
        case "gpt2":
            return GPT2ForSequenceClassification(GPT2Config(**_SIZES, **_WORDS, n_inner=FFN, pad_token_id=0))
        case "modernbert":
            # The second layer sees two tokens to each side.
            window = {"local_attention": 4, "global_attn_every_n_layers": 2, "classifier_pooling": "mean"}
            special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
            return ModernBertForSequenceClassification(ModernBertConfig(**_SIZES, **_WORDS, **window, **special))
        case "vit":
            return ViTForImageClassification(ViTConfig(**_SIZES, **_IMAGE))
        case "deit":
            return DeiTForImageClassification(DeiTConfig(**_SIZES, **_IMAGE))
        case "ast":
            return ASTForAudioClassification(ASTConfig(**_SIZES, **_SPECTROGRAM))
        case "wav2vec2":
            return Wav2Vec2ForSequenceClassification(Wav2Vec2Config(**_SIZES, **_SOUND))
    raise ValueError(f"No tiny {family!r}; known are {', '.join(FAMILIES)}.")


def tiny(family: str, seed: int = 0, *, conformed: bool = True) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """A random classifier in evaluation mode, and inputs for it.

    Args:
        family: one of FAMILIES.
        seed: of weights and inputs.
        conformed: as the project loads it, or as its family publishes it.

    Returns:
        The model, every parameter redrawn so that biases and norms matter too; a batch of 5 whose rows are
        padded to unequal lengths where the family takes text.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _untrained(family).train(False)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        if conformed:
            conform(model)
        if family in IMAGE_FAMILIES:
            return model, {"pixel_values": torch.randn(5, 1, 16, 16)}
        if family == "ast":
            return model, {"input_values": torch.randn(5, 24, 16)}
        if family in AUDIO_FAMILIES:
            return model, {"input_values": torch.randn(5, 160)}
        lengths = torch.tensor([9, 3, 7, 5, 8])
        mask = (torch.arange(9) < lengths[:, None]).long()  # (5, 9)
        return model, {"input_ids": torch.randint(5, VOCAB, (5, 9)) * mask, "attention_mask": mask}
