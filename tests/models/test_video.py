"""X-CLIP against the one of transformers, on random weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
import transformers
from torch import Tensor, nn

from models.activation import QuickGELU
from models.video import XCLIP, TowerConfig, VideoClassifier, XCLIPConfig

CLOSE = {"rtol": 0.0, "atol": 1e-5}
CONFIG = XCLIPConfig(
    image=24,
    patch=8,
    frames=5,
    embed=32,
    vision=TowerConfig(width=48, layers=3, heads=3),
    temporal=TowerConfig(width=32, layers=2, heads=2),
    prompt=TowerConfig(width=32, layers=2, heads=4),
    text=TowerConfig(width=24, layers=2, heads=2),
    vocabulary=60,
    context=9,
)
END = CONFIG.vocabulary - 1
LABELS = torch.tensor(
    [[1, 7, 30, END, 0, 0, 0, 0, 0], [1, 12, END, 0, 0, 0, 0, 0, 0], [1, 3, 4, 5, 6, 7, 8, 9, END]]
)

BLOCK = [
    (r"layer_norm1\.", "norm1."),
    (r"layer_norm2\.", "norm2."),
    (r"self_attn\.", "attention."),
    (r"message_attn\.", "message_attention."),
    (r"message_ln\.", "message_norm."),
    (r"\.([qkv])_proj\.", lambda found: {"q": ".query.", "k": ".key.", "v": ".value."}[found[1]]),
    (r"out_proj\.", "out."),
    (r"mlp\.fc1\.", "mlp.0."),
    (r"mlp\.fc2\.", "mlp.2."),
]
NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (r"vision_model\.embeddings\.class_embedding", "vision.class_token"),
    (r"vision_model\.embeddings\.patch_embedding\.", "vision.patches."),
    (r"vision_model\.embeddings\.position_embedding\.weight", "vision.positions"),
    (r"vision_model\.pre_layernorm\.", "vision.norm_pre."),
    (r"vision_model\.post_layernorm\.", "vision.norm_post."),
    (r"visual_projection\.", "vision.projection."),
    (r"vision_model\.encoder\.layers\.(\d+)\.(layer_norm|self_attn|mlp)", r"vision.blocks.\1.frame.\2"),
    (r"vision_model\.encoder\.layers\.", "vision.blocks."),
    (r"mit\.position_embedding", "temporal.positions"),
    (r"mit\.encoder\.layers\.", "temporal.blocks."),
    (r"text_model\.embeddings\.token_embedding\.", "text.tokens."),
    (r"text_model\.embeddings\.position_embedding\.weight", "text.positions"),
    (r"text_model\.encoder\.layers\.", "text.blocks."),
    (r"text_model\.final_layer_norm\.", "text.norm."),
    (r"text_projection\.", "text.projection."),
    (r"prompts_visual_layernorm\.", "prompts.visual_norm."),
    (r"prompts_visual_projection", "prompts.visual_projection.weight"),
    (r"prompts_generator\.layernorm\.", "prompts.norm."),
    (r"prompts_generator\.alpha", "prompts.alpha"),
    (r"prompts_generator\.decoder\.", "prompts.blocks."),
    (r"cross_attn\.proj\.", "attention.out."),
    (r"cross_attn\.", "attention."),
    (r"(prompts\.blocks\.\d+)\.norm3\.", r"\1.norm2."),
    (r"(prompts\.blocks\.\d+)\.mlp\.3\.", r"\1.mlp.2."),
    *BLOCK,
]


def renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state of transformers under our names; the prompts' projection is stored transposed."""
    out: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key
        for old, new in NAMES:
            name = re.sub(old, new, name)
        out[name] = tensor.T.contiguous() if key == "prompts_visual_projection" else tensor
    return out


def stir(model: nn.Module) -> None:
    """Weights far from their initial values, so that no part can be left out unnoticed."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or "_ln" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif name.endswith("alpha"):
                parameter.uniform_(0.3, 1.0)
            elif name == "logit_scale":
                parameter.fill_(2.0)
            else:
                parameter.normal_(0, 0.25)
    model.eval()


@dataclass(frozen=True)
class Parity:
    """Both models with the same weights, one run of each, and what transformers computed on the way."""

    theirs: transformers.XCLIPModel
    ours: XCLIP
    frames: Tensor
    expected: transformers.models.x_clip.modeling_x_clip.XCLIPOutput
    attentions: dict[str, Tensor]  # by module: what transformers' own softmax gave
    prompts: dict[str, Tensor]  # queries and keys of the prompts' cross-attention
    outputs: dict[str, Tensor]
    taps: dict[str, Tensor]


@pytest.fixture(scope="module")
def parity() -> Parity:
    torch.manual_seed(0)
    theirs = transformers.XCLIPModel(
        transformers.XCLIPConfig(
            text_config={
                "vocab_size": CONFIG.vocabulary,
                "hidden_size": CONFIG.text.width,
                "intermediate_size": 4 * CONFIG.text.width,
                "num_hidden_layers": CONFIG.text.layers,
                "num_attention_heads": CONFIG.text.heads,
                "max_position_embeddings": CONFIG.context,
            },
            vision_config={
                "hidden_size": CONFIG.vision.width,
                "intermediate_size": 4 * CONFIG.vision.width,
                "num_hidden_layers": CONFIG.vision.layers,
                "num_attention_heads": CONFIG.vision.heads,
                "mit_hidden_size": CONFIG.temporal.width,
                "mit_intermediate_size": 4 * CONFIG.temporal.width,
                "mit_num_hidden_layers": CONFIG.temporal.layers,
                "mit_num_attention_heads": CONFIG.temporal.heads,
                "image_size": CONFIG.image,
                "patch_size": CONFIG.patch,
                "num_frames": CONFIG.frames,
            },
            projection_dim=CONFIG.embed,
            prompt_layers=CONFIG.prompt.layers,
            prompt_num_attention_heads=CONFIG.prompt.heads,
            attn_implementation="eager",
        )
    )
    stir(theirs)
    ours = XCLIP(CONFIG)
    ours.load_state_dict(renamed(theirs.state_dict()), strict=True)
    ours.eval()

    attentions: dict[str, Tensor] = {}
    prompts: dict[str, Tensor] = {}
    for name, module in theirs.named_modules():
        if name.endswith((".self_attn", ".message_attn")):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: attentions.update({name: output[1]})
            )
        if name.endswith(("cross_attn.q_proj", "cross_attn.k_proj")):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: prompts.update({name: output})
            )
    frames = torch.randn(2, CONFIG.frames, 3, CONFIG.image, CONFIG.image)
    with torch.no_grad():
        expected = theirs(input_ids=LABELS, pixel_values=frames, output_attentions=True)
        outputs, taps = ours(frames, ours.text(LABELS))
    return Parity(theirs, ours, frames, expected, attentions, prompts, outputs, taps)


def maps(parity: Parity, name: str) -> tuple[Tensor, ...]:
    program = VideoClassifier(parity.ours, LABELS.new_zeros(3, CONFIG.embed)).programs()[name]
    with torch.no_grad():
        out: tuple[Tensor, ...] = program(*(parity.taps[tap] for tap in program.inputs))
    return out


def test_logits_are_those_of_transformers(parity: Parity) -> None:
    expected = parity.expected.logits_per_video
    assert expected.std() > 0.05
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(parity.outputs["logits"], expected, rtol=0, atol=1e-5 * scale)


def test_text_features_are_those_of_transformers(parity: Parity) -> None:
    with torch.no_grad():
        expected = parity.theirs.get_text_features(LABELS).pooler_output
        found = parity.ours.text(LABELS)
    torch.testing.assert_close(found, expected, **CLOSE)
    assert expected.std() > 0.1


def test_video_features_are_those_of_transformers(parity: Parity) -> None:
    with torch.no_grad():
        pixels = parity.frames.flatten(0, 1)
        vision = parity.theirs.vision_model(pixel_values=pixels)
        classes, tokens, _ = parity.ours.vision(parity.frames)
        video, _ = parity.ours.temporal(classes)
        expected = parity.theirs.get_video_features(parity.frames).pooler_output
    torch.testing.assert_close(tokens.flatten(0, 1), vision.last_hidden_state, **CLOSE)
    torch.testing.assert_close(
        classes.flatten(0, 1), parity.theirs.visual_projection(vision.pooler_output), **CLOSE
    )
    torch.testing.assert_close(video, expected, **CLOSE)


def test_class_rows_are_the_attentions_of_transformers_without_class_and_message(parity: Parity) -> None:
    expected = parity.expected.vision_model_output.attentions
    found = maps(parity, "cls")
    assert len(found) == len(expected) == CONFIG.vision.layers
    rows, columns = CONFIG.grid
    for ours, theirs in zip(found, expected, strict=True):
        assert theirs.shape == (2 * CONFIG.frames, CONFIG.vision.heads, 11, 11)  # class, 9 patches, message
        for sample in range(2):
            for frame in range(CONFIG.frames):
                row = theirs[sample * CONFIG.frames + frame, :, 0, 1:-1].unflatten(-1, (rows, columns))
                torch.testing.assert_close(ours[sample, :, frame], row, **CLOSE)
        assert theirs[:, :, 0, 1:-1].std() > 0.01


def test_message_matrices_are_what_transformers_drops(parity: Parity) -> None:
    found = maps(parity, "message")
    for index, ours in enumerate(found):
        theirs = parity.attentions[f"vision_model.encoder.layers.{index}.message_attn"]
        assert ours.shape == (2, CONFIG.vision.heads, CONFIG.frames, CONFIG.frames)
        torch.testing.assert_close(ours, theirs, **CLOSE)
        if index == 0:  # every frame's class token starts alike, so the first messages say nothing
            torch.testing.assert_close(ours, torch.full_like(ours, 1 / CONFIG.frames), **CLOSE)
        else:
            assert theirs.std() > 0.01


def test_temporal_matrices_and_frame_importance_are_those_of_transformers(parity: Parity) -> None:
    theirs = [parity.attentions[f"mit.encoder.layers.{index}.self_attn"] for index in (0, 1)]
    for ours, matrix in zip(maps(parity, "temporal"), theirs, strict=True):
        torch.testing.assert_close(ours, matrix, **CLOSE)
    (importance,) = maps(parity, "importance")
    for sample in range(2):
        for frame in range(CONFIG.frames):
            column = theirs[-1][sample, :, :, frame]
            torch.testing.assert_close(importance[sample, frame], column.mean(), **CLOSE)


def test_label_patches_are_the_cross_attention_of_transformers(parity: Parity) -> None:
    heads, width = CONFIG.prompt.heads, CONFIG.embed // CONFIG.prompt.heads
    for index, ours in enumerate(maps(parity, "label_patches")):
        query = parity.prompts[f"prompts_generator.decoder.{index}.cross_attn.q_proj"]
        key = parity.prompts[f"prompts_generator.decoder.{index}.cross_attn.k_proj"]
        assert ours.shape == (2, heads, len(LABELS), *CONFIG.grid)
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            products = query[..., part] @ key[..., part].mT / width**0.5
            torch.testing.assert_close(ours[:, head].flatten(2), products.softmax(-1), **CLOSE)


def test_a_token_after_the_end_does_not_change_an_embedding(parity: Parity) -> None:
    changed = LABELS.clone()
    changed[0, 4:] = torch.tensor([5, 17, 2, 40, 9])
    before = LABELS.clone()
    before[0, 2] = 31
    with torch.no_grad():
        found = parity.ours.text(LABELS)
        torch.testing.assert_close(parity.ours.text(changed), found, rtol=0, atol=1e-6)
        torch.testing.assert_close(parity.ours.text(LABELS[:1, :5]), found[:1], rtol=0, atol=1e-6)
        assert (parity.ours.text(before) - found)[0].abs().max() > 0.01


def test_frames_hear_each_other_through_the_message_alone(parity: Parity) -> None:
    other = parity.frames.clone()
    other[:, 3] = torch.randn_like(other[:, 3])
    with torch.no_grad():
        taps = parity.ours(other, parity.ours.text(LABELS))[1]
    untouched = [0, 1, 2, 4]
    first, second, third = (
        (taps[f"vision.{i}.key"] - parity.taps[f"vision.{i}.key"])[:, untouched].abs().amax((0, 1, 3))
        for i in range(3)
    )  # by token: how much changed in the frames that were left as they were
    assert first.max() < 1e-5  # class tokens start alike: there is nothing to say yet
    assert second[:-1].max() < 1e-5  # class token and patches have not heard of it
    assert second[-1] > 1e-3  # their message has
    assert third.min() > 1e-3


def test_a_clip_does_not_depend_on_its_batch(parity: Parity) -> None:
    with torch.no_grad():
        labels = parity.ours.text(LABELS)
        alone = [parity.ours(clip[None], labels) for clip in parity.frames]
    logits = torch.cat([outputs["logits"] for outputs, _ in alone])
    torch.testing.assert_close(logits, parity.outputs["logits"], **CLOSE)
    for name, tap in parity.taps.items():
        torch.testing.assert_close(torch.cat([taps[name] for _, taps in alone]), tap, rtol=1e-5, atol=3e-5)


def test_a_classifier_is_the_model_with_its_labels_fixed(parity: Parity) -> None:
    with torch.no_grad():
        classifier = VideoClassifier(parity.ours, parity.ours.text(LABELS)).eval()
        outputs, taps = classifier(parity.frames)
    torch.testing.assert_close(outputs["logits"], parity.outputs["logits"], rtol=0, atol=0)
    assert set(taps) == set(parity.taps)
    kinds = ("query", "key", "value", "mixed")
    parts = [*classifier.layers, *(f"{layer}.message" for layer in classifier.layers)]
    parts += [f"{part}.{index}" for part in ("temporal", "prompt") for index in (0, 1)]
    assert set(taps) == {f"{part}.{kind}" for part in parts for kind in kinds}


def test_quick_gelu_is_the_one_of_clip() -> None:
    x = torch.linspace(-6, 6, 101)
    expected = transformers.activations.ACT2FN["quick_gelu"](x)
    torch.testing.assert_close(QuickGELU()(x), expected, rtol=0, atol=1e-6)


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="24 is not divisible by patch size 7"):
        replace(CONFIG, patch=7)
    for tower in ("temporal", "prompt"):
        with pytest.raises(ValueError, match=f"{tower} width 24 is not the embedding width 32"):
            replace(CONFIG, **{tower: TowerConfig(width=24, layers=1, heads=2)})
