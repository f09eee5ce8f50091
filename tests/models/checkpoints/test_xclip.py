"""X-CLIP of transformers and of its authors: the same numbers, every key in its place, or a refusal."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, processors
from torch import Tensor
from transformers import AutoTokenizer, VideoMAEImageProcessorPil, XCLIPConfig, XCLIPModel

from models.checkpoints import video_classifier, xclip, xclip_original
from models.checkpoints.checkpoint import Checkpoint, CheckpointError, Choices
from models.checkpoints.config import Config
from models.checkpoints.read import read
from models.video import XCLIP, TowerConfig

EMBED = 128
SIZES: dict[str, Any] = {
    "projection_dim": EMBED,
    "prompt_layers": 3,
    "prompt_num_attention_heads": 2,
    "text_config": {
        "vocab_size": 520,
        "hidden_size": 48,
        "intermediate_size": 192,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 20,
    },
    "vision_config": {
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "mit_hidden_size": EMBED,
        "mit_intermediate_size": 4 * EMBED,
        "mit_num_hidden_layers": 2,
        "mit_num_attention_heads": 2,
        "image_size": 24,
        "patch_size": 8,
        "num_frames": 5,
    },
}
# Of many lengths, and more than are encoded in one run.
NAMES = ["jump", "The cat's nap", *(f"{'x' * (index % 9)}thing {index}" for index in range(40))]
WEIGHTS = "model.safetensors"


def changed(sizes: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Sizes with some changed, in their parts too."""
    inner = {
        key: changed(sizes.get(key, {}), value) for key, value in changes.items() if isinstance(value, dict)
    }
    return sizes | changes | inner


def save(folder: Path, **changes: Any) -> XCLIPModel:
    """A model of transformers, written into the folder, with weights far from where training starts."""
    torch.manual_seed(0)
    model = XCLIPModel(XCLIPConfig(**changed(SIZES, changes), attn_implementation="eager"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                parameter.fill_(2.0)
            elif parameter.ndim > 1 and "embedding" not in name:
                parameter.normal_(0, 1.2 * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.4 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    return model


@pytest.fixture
def names(tmp_path: Path) -> str:
    path = tmp_path / "names.txt"
    path.write_text("\n".join(NAMES))
    return str(path)


@pytest.fixture
def choices(names: str, clip_tokenizer: Path) -> Choices:
    return Choices(labels=names, tokenizer=clip_tokenizer)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint of transformers alone."""
    save(tmp_path / "My X-CLIP")
    return tmp_path / "My X-CLIP"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), changes)))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


def assert_same_numbers(found: Checkpoint, theirs: XCLIPModel, tokenizer: Path) -> None:
    """Logits and text embeddings of transformers, its names padded to the longest with the end token."""
    vision = theirs.config.vision_config
    frames = torch.randn(2, vision.num_frames, 3, vision.image_size, vision.image_size)
    texts = AutoTokenizer.from_pretrained(tokenizer)(NAMES, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**texts, pixel_values=frames).logits_per_video
        embeddings = theirs.get_text_features(**texts).pooler_output
        logits = found.model(frames)[0]["logits"]
    torch.testing.assert_close(found.model.labels, embeddings, rtol=0, atol=1e-5)
    assert embeddings.std() > 0.1
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-4)
    assert expected.std() > 0.05


def test_a_checkpoint_of_transformers_gives_the_same_numbers(
    tmp_path: Path, choices: Choices, clip_tokenizer: Path
) -> None:
    theirs = save(tmp_path / "My X-CLIP")
    found = read(str(tmp_path / "My X-CLIP"), choices)
    assert (found.family, found.labels, found.activation) == ("video", tuple(NAMES), "softmax")
    assert (found.name, found.tokenizer) == ("my-x-clip", None)
    assert found.architecture == "X-CLIP, 5 frames of 24 pixels, patches of 8, 3 layers, 64 wide, 4 heads"
    assert found.model.config.text == TowerConfig(width=48, layers=2, heads=3)
    assert not found.model.training
    assert_same_numbers(found, theirs, clip_tokenizer)


def test_the_text_tower_has_done_its_work_and_is_gone(folder: Path, choices: Choices) -> None:
    found = read(str(folder), choices)
    theirs = XCLIPModel.from_pretrained(folder)
    served = sum(
        parameter.numel()
        for name, parameter in theirs.named_parameters()
        if not name.startswith(("text_model.", "text_projection."))
    )
    assert sum(parameter.numel() for parameter in found.model.parameters()) == served
    assert not any(isinstance(module, XCLIP) for module in found.model.modules())
    assert not any(parameter.requires_grad for parameter in found.model.parameters())


def test_an_embedding_depends_neither_on_the_other_labels_nor_on_their_number(
    folder: Path, choices: Choices, clip_tokenizer: Path, tmp_path: Path
) -> None:
    together, again = (read(str(folder), choices).model.labels for _ in range(2))
    assert torch.equal(together, again)
    alone = tmp_path / "alone.txt"
    alone.write_text(NAMES[9])
    (single,) = read(str(folder), Choices(labels=str(alone), tokenizer=clip_tokenizer)).model.labels
    torch.testing.assert_close(single, together[9], rtol=0, atol=1e-5)


def test_a_thousand_labels_are_encoded_a_few_at_a_time(
    folder: Path, clip_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "many.txt"
    path.write_text("\n".join(f"label {index}" for index in range(1000)))
    runs: list[int] = []
    build = XCLIP.__init__

    def watched(model: XCLIP, *args: Any) -> None:
        build(model, *args)
        model.text.register_forward_pre_hook(lambda _, inputs: runs.append(len(inputs[0])))

    monkeypatch.setattr(XCLIP, "__init__", watched)
    found = read(str(folder), Choices(labels=str(path), tokenizer=clip_tokenizer))
    assert found.model.labels.shape == (1000, EMBED)
    assert sum(runs) == 1000
    assert max(runs) <= 64


def test_positions_that_older_versions_saved_are_ignored(folder: Path, choices: Choices) -> None:
    before = read(str(folder), choices).model.labels
    buffers = {
        f"{tower}_model.embeddings.position_ids": torch.arange(10)[None] for tower in ("text", "vision")
    }
    change_weights(folder, lambda state: state.update(buffers))
    assert torch.equal(read(str(folder), choices).model.labels, before)


@pytest.mark.parametrize("parts", [{}, {"text_config": {}, "vision_config": {}}, {"text_config": None}])
def test_what_a_config_leaves_out_is_the_default_of_transformers(parts: dict[str, Any]) -> None:
    theirs = XCLIPConfig()
    text, vision = theirs.text_config, theirs.vision_config
    found = xclip.read_sizes(Config({"model_type": "xclip", **parts}), None)
    assert (found.image, found.patch, found.frames) == (224, 32, 8)
    assert (found.embed, found.vocabulary) == (theirs.projection_dim, text.vocab_size)
    assert found.context == text.max_position_embeddings
    for tower, width, layers, heads in (
        (found.vision, vision.hidden_size, vision.num_hidden_layers, vision.num_attention_heads),
        (
            found.temporal,
            vision.mit_hidden_size,
            vision.mit_num_hidden_layers,
            vision.mit_num_attention_heads,
        ),
        (found.prompt, theirs.projection_dim, theirs.prompt_layers, theirs.prompt_num_attention_heads),
        (found.text, text.hidden_size, text.num_hidden_layers, text.num_attention_heads),
    ):
        assert tower == TowerConfig(width=width, layers=layers, heads=heads)


def test_a_config_of_an_older_version_keeps_its_parts_under_their_older_names() -> None:
    older = {"vision_config": {"num_frames": 4}, "vision_config_dict": {"num_frames": 16}}
    assert XCLIPConfig(**copy.deepcopy(older)).vision_config.num_frames == 16
    assert xclip.read_sizes(Config(older), None).frames == 16
    assert xclip.read_sizes(Config(older | {"vision_config_dict": None}), None).frames == 4


LARGE = {"prompt_num_attention_heads": 8, "vision_config": {"mit_num_attention_heads": 8}}


def test_heads_that_are_not_the_papers_have_to_be_chosen(
    tmp_path: Path, choices: Choices, clip_tokenizer: Path
) -> None:
    theirs = save(tmp_path / "large", **LARGE)
    with pytest.raises(CheckpointError, match=r"mit_num_attention_heads is 8.* 128 / 64 = 2 .*--heads"):
        read(str(tmp_path / "large"), choices)
    found = read(str(tmp_path / "large"), replace(choices, heads="config"))
    assert (found.model.config.temporal.heads, found.model.config.prompt.heads) == (8, 8)
    assert_same_numbers(found, theirs, clip_tokenizer)


def test_the_papers_heads_can_be_chosen(tmp_path: Path, choices: Choices, clip_tokenizer: Path) -> None:
    save(tmp_path / "large", **LARGE)
    paper = XCLIPConfig(**SIZES, attn_implementation="eager")
    theirs = XCLIPModel.from_pretrained(tmp_path / "large", config=paper)
    found = read(str(tmp_path / "large"), replace(choices, heads="paper"))
    assert (found.model.config.temporal.heads, found.model.config.prompt.heads) == (2, 2)
    assert_same_numbers(found, theirs, clip_tokenizer)


def test_one_count_of_heads_that_is_not_the_papers_is_enough_to_ask() -> None:
    for change in ({"prompt_num_attention_heads": 4}, {"vision_config": {"mit_num_attention_heads": 4}}):
        with pytest.raises(CheckpointError, match="--heads"):
            xclip.read_sizes(Config(changed(SIZES, change)), None)
    for choice in (None, "config", "paper"):
        assert xclip.read_sizes(Config(SIZES), choice).prompt.heads == 2


def test_a_width_that_the_paper_does_not_know_has_the_configs_heads() -> None:
    narrow = changed(
        SIZES,
        {
            "projection_dim": 96,
            "prompt_num_attention_heads": 4,
            "vision_config": {"mit_hidden_size": 96, "mit_intermediate_size": 384},
        },
    )
    assert xclip.read_sizes(Config(narrow), None).prompt.heads == 4
    with pytest.raises(CheckpointError, match="heads: the paper's are 64 wide, which 96 is no multiple of"):
        xclip.read_sizes(Config(narrow), "paper")
    with pytest.raises(CheckpointError, match="heads: 'both' is neither config nor paper"):
        xclip.read_sizes(Config(narrow), "both")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": {"hidden_act": "gelu"}}, "text_config: hidden_act is 'gelu'"),
        ({"vision_config": {"hidden_act": "gelu"}}, "vision_config: hidden_act is 'gelu'"),
        ({"prompt_hidden_act": ["gelu"]}, "prompt_hidden_act is"),
        ({"vision_config": {"layer_norm_eps": 1e-6}}, "vision_config: layer_norm_eps is 1e-06"),
        (
            {"text_config": {"intermediate_size": 64}},
            "text_config: intermediate_size 64 is not 4 x the width 48",
        ),
        ({"vision_config": {"mit_intermediate_size": 1}}, "vision_config: mit_intermediate_size 1 is not"),
        ({"vision_config": {"mit_hidden_size": 64}}, "mit_hidden_size 64 is not projection_dim 128"),
        ({"vision_config": {"num_channels": 4}}, "num_channels is 4"),
        ({"vision_config": {"image_size": 25}}, "image_size 25 is not divisible by patch_size 8"),
        ({"vision_config": {"image_size": [24, 24]}}, r"image_size is \[24, 24\]"),
        ({"vision_config": {"image_size": 2**30}}, "image_size is 1073741824"),
        ({"vision_config": {"patch_size": 0}}, "patch_size is 0"),
        ({"vision_config": {"num_frames": "8"}}, "num_frames is '8'"),
        ({"vision_config": {"num_attention_heads": 5}}, "num_attention_heads 5 does not divide the width 64"),
        ({"vision_config": {"mit_num_attention_heads": 3}}, "mit_num_attention_heads 3 does not divide"),
        ({"vision_config": {"mit_num_hidden_layers": 0}}, "mit_num_hidden_layers is 0"),
        ({"vision_config": "small"}, "vision_config is no object"),
        ({"text_config": {"vocab_size": -3}}, "text_config: vocab_size is -3"),
        ({"text_config": {"num_hidden_layers": None}}, "text_config: num_hidden_layers is None"),
        ({"prompt_layers": 1.5}, "prompt_layers is 1.5"),
        ({"projection_dim": 2**40}, "projection_dim is"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
    ],
)
def test_a_config_that_does_not_fit_is_refused_by_field(change: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        xclip.read_sizes(Config(changed(SIZES, change)), None)


def test_sizes_that_no_computer_holds_are_refused_as_keys_of_another_shape(
    folder: Path, choices: Choices
) -> None:
    change_config(
        folder,
        vision_config={
            "hidden_size": 2**22,
            "intermediate_size": 2**24,
            "image_size": 2**14,
            "patch_size": 2**14,
            "num_frames": 2**24,
        },
    )
    with pytest.raises(CheckpointError, match=r"keys of another shape: mit\.position_embedding"):
        read(str(folder), choices)


def test_every_key_has_a_place(folder: Path, choices: Choices) -> None:
    change_weights(folder, lambda state: state.update(stranger=torch.zeros(1)))
    with pytest.raises(CheckpointError, match=r"^unused keys: stranger$"):
        read(str(folder), choices)
    gone = "prompts_generator.decoder.1.cross_attn.q_proj.weight"
    change_weights(folder, lambda state: (state.pop("stranger"), state.pop(gone)))
    with pytest.raises(CheckpointError, match=r"^missing: prompts.blocks.1.attention.query.weight$"):
        read(str(folder), choices)
    change_weights(folder, lambda state: state.update({gone: torch.zeros(3)}))
    with pytest.raises(CheckpointError, match=rf"^keys of another shape: {gone} \[3\]"):
        read(str(folder), choices)


def test_a_matrix_to_be_turned_may_have_any_shape_without_a_stack(folder: Path, choices: Choices) -> None:
    for shape in ((), (5,), (2, 3, 4)):
        odd = torch.zeros(shape)
        change_weights(folder, lambda state, odd=odd: state.update(prompts_visual_projection=odd))
        with pytest.raises(CheckpointError, match=r"another shape: prompts_visual_projection \["):
            read(str(folder), choices)


def test_frames_go_through_the_checkpoints_own_preprocessing(folder: Path, choices: Choices) -> None:
    imagenet = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    paper = {"kind": "video", "frames": 5, "resize_to": 27, "height": 24, "width": 24, **imagenet}
    assert read(str(folder), choices).preprocessing == paper | {"interpolation": "bilinear"}
    own = VideoMAEImageProcessorPil(
        size={"shortest_edge": 30}, crop_size={"height": 24, "width": 24}, resample=3, image_mean=[0.1] * 3
    )
    own.save_pretrained(folder)
    found = read(str(folder), choices).preprocessing
    assert (found["resize_to"], found["interpolation"]) == (30, "bicubic")
    assert (found["mean"], found["std"], found["frames"]) == ([0.1] * 3, [0.5] * 3, 5)


@pytest.mark.parametrize(("image", "shorter"), [(224, 256), (336, 384)])
def test_the_papers_sizes_of_pictures(image: int, shorter: int) -> None:
    found = video_classifier.paper_pictures(image)
    assert (found["resize_to"], found["height"], found["width"]) == (shorter, image, image)


def test_labels_and_a_tokenizer_have_to_be_given(
    folder: Path, choices: Choices, clip_tokenizer: Path
) -> None:
    with pytest.raises(CheckpointError, match="--labels"):
        read(str(folder), replace(choices, labels=None))
    with pytest.raises(CheckpointError, match="--tokenizer"):
        read(str(folder), replace(choices, tokenizer=None))
    given = read(str(folder), choices).model.labels
    (folder / "tokenizer.json").write_bytes((clip_tokenizer / "tokenizer.json").read_bytes())
    assert torch.equal(read(str(folder), replace(choices, tokenizer=None)).model.labels, given)


def test_a_look_at_a_model_needs_neither_labels_nor_a_tokenizer(folder: Path, choices: Choices) -> None:
    bare = replace(choices, labels=None, tokenizer=None, unnamed=True)
    found = read(str(folder), bare)
    assert found.labels == ("LABEL_0",)
    assert found.architecture == read(str(folder), choices).architecture


def test_a_name_is_encoded_whole_or_refused(folder: Path, tmp_path: Path, clip_tokenizer: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("a b c d e f g h i j k l m n o p q r")  # 20 tokens, all there are positions for
    assert read(str(folder), Choices(labels=str(path), tokenizer=clip_tokenizer)).labels
    path.write_text("jump\na b c d e f g h i j k l m n o p q r s")
    with pytest.raises(CheckpointError, match=r"^labels: 'a b .* r s' has 21 tokens, the model takes 20$"):
        read(str(folder), Choices(labels=str(path), tokenizer=clip_tokenizer))


def test_a_name_that_ends_early_is_refused(
    folder: Path, tmp_path: Path, choices: Choices, clip_tokenizer: Path
) -> None:
    document = json.loads((clip_tokenizer / "tokenizer.json").read_text())
    del document["model"]["vocab"][
        "b</w>"
    ]  # in "a thumb"; CLIP writes the end token for what it does not know
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    tokenizer = replace(choices, tokenizer=tmp_path)
    assert read(str(folder), tokenizer)
    path = tmp_path / "early.txt"
    path.write_text("jump\na thumb up")
    with pytest.raises(CheckpointError, match=r"^labels: 'a thumb up' holds the end token"):
        read(str(folder), replace(tokenizer, labels=str(path)))


def late_token(tokenizer: Tokenizer) -> None:
    tokenizer.add_tokens(["later"])


def no_specials(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.ByteLevel()


def end_first(tokenizer: Tokenizer) -> None:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|startoftext|>",
        special_tokens=[("<|endoftext|>", 515), ("<|startoftext|>", 514)],
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (late_token, "its end token has the id 515.* the highest, 516"),
        (end_first, "its end token has the id 514"),
        (no_specials, "no start and end token"),
    ],
)
def test_a_tokenizer_whose_end_cannot_be_found_is_refused(
    folder: Path,
    tmp_path: Path,
    choices: Choices,
    clip_tokenizer: Path,
    change: Callable[[Tokenizer], None],
    message: str,
) -> None:
    tokenizer = Tokenizer.from_file(str(clip_tokenizer / "tokenizer.json"))
    change(tokenizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(CheckpointError, match=message):
        read(str(folder), replace(choices, tokenizer=tmp_path))


# The authors' layout; its numbers are compared in tests/parity.


def block(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of one CLIP block."""
    return {
        f"{prefix}.attn.in_proj_weight": (3 * width, width),
        f"{prefix}.attn.in_proj_bias": (3 * width,),
        f"{prefix}.attn.out_proj.weight": (width, width),
        f"{prefix}.attn.out_proj.bias": (width,),
        f"{prefix}.mlp.c_fc.weight": (4 * width, width),
        f"{prefix}.mlp.c_fc.bias": (4 * width,),
        f"{prefix}.mlp.c_proj.weight": (width, 4 * width),
        f"{prefix}.mlp.c_proj.bias": (width,),
        **{f"{prefix}.ln_{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")},
    }


def original(*, width: int = 128, embed: int = 64, text: int = 192) -> dict[str, Tensor]:
    """A state in the authors' layout: 9 patches of 8 pixels, 4 frames, 2 / 1 / 2 / 1 layers."""
    shapes: dict[str, tuple[int, ...]] = {
        "logit_scale": (),
        "positional_embedding": (20, text),
        "text_projection": (text, embed),
        "token_embedding.weight": (520, text),
        "ln_final.weight": (text,),
        "ln_final.bias": (text,),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (10, width),
        "visual.conv1.weight": (width, 3, 8, 8),
        "visual.proj": (width, embed),
        "mit.positional_embedding": (1, 4, embed),
        "prompts_visual_proj": (width, embed),
        "prompts_generator.alpha": (embed,),
        **block("transformer.resblocks.0", text),
        **block("mit.resblocks.0", embed),
    }
    norms = {"visual.ln_pre": width, "visual.ln_post": width, "prompts_visual_ln": width}
    norms["prompts_generator.norm"] = embed
    for index in range(2):
        frame, prompt = f"visual.transformer.resblocks.{index}", f"prompts_generator.decoder.{index}"
        shapes |= block(frame, width)
        message = {key: shape for key, shape in block(frame, width).items() if ".attn." in key}
        shapes |= {key.replace(".attn.", ".message_attn."): shape for key, shape in message.items()}
        shapes |= {f"{frame}.message_fc.weight": (width, width), f"{frame}.message_fc.bias": (width,)}
        norms |= {f"{frame}.message_ln": width, f"{prompt}.norm1": embed, f"{prompt}.norm3": embed}
        shapes |= {f"{prompt}.cross_attn.{name}_proj.weight": (embed, embed) for name in "qkv"}
        shapes |= {
            f"{prompt}.cross_attn.proj.weight": (embed, embed),
            f"{prompt}.cross_attn.proj.bias": (embed,),
        }
        shapes |= {f"{prompt}.mlp.0.weight": (4 * embed, embed), f"{prompt}.mlp.0.bias": (4 * embed,)}
        shapes |= {f"{prompt}.mlp.3.weight": (embed, 4 * embed), f"{prompt}.mlp.3.bias": (embed,)}
    shapes |= {f"{norm}.{kind}": (size,) for norm, size in norms.items() for kind in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def saved(path: Path, state: dict[str, Tensor]) -> str:
    torch.save({"model": state, "epoch": 29, "max_accuracy": 80.4}, path)
    return str(path)


def test_the_sizes_of_an_original_checkpoint_are_in_its_shapes(tmp_path: Path, choices: Choices) -> None:
    found = read(saved(tmp_path / "k400_32_8.pth", original()), choices)
    sizes = found.model.config
    assert (sizes.image, sizes.patch, sizes.frames, sizes.embed) == (24, 8, 4, 64)
    assert (sizes.vocabulary, sizes.context) == (520, 20)
    assert sizes.vision == TowerConfig(width=128, layers=2, heads=2)
    assert sizes.text == TowerConfig(width=192, layers=1, heads=3)
    assert sizes.temporal == TowerConfig(width=64, layers=1, heads=1)
    assert sizes.prompt == TowerConfig(width=64, layers=2, heads=1)
    assert (found.name, found.preprocessing["resize_to"], found.preprocessing["frames"]) == (
        "k400_32_8",
        27,
        4,
    )
    assert found.model.labels.shape == (len(NAMES), 64)


def test_an_original_checkpoint_brings_no_tokenizer_and_no_config(tmp_path: Path, choices: Choices) -> None:
    source = saved(tmp_path / "best.pth", original())
    with pytest.raises(CheckpointError, match="give one with --tokenizer"):
        read(source, replace(choices, tokenizer=None))
    with pytest.raises(CheckpointError, match="an original X-CLIP has no config: its heads are the paper's"):
        read(source, replace(choices, heads="config"))
    assert read(source, replace(choices, heads="paper")).model.config.prompt.heads == 1


def test_a_neighbour_s_tokenizer_is_not_an_original_file_s_but_its_folder_s(
    tmp_path: Path, choices: Choices, clip_tokenizer: Path
) -> None:
    folder = tmp_path / "k400"
    folder.mkdir()
    path = saved(folder / "best.pth", original())
    (folder / "tokenizer.json").write_bytes((clip_tokenizer / "tokenizer.json").read_bytes())
    without = replace(choices, tokenizer=None)
    with pytest.raises(CheckpointError, match="give one with --tokenizer"):
        read(path, without)
    found, chosen = read(str(folder), without), read(path, choices)
    assert found.name == "k400"
    assert torch.equal(found.model.labels, chosen.model.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visual.conv2.weight": torch.zeros(1)}, r"^unused keys: visual.conv2.weight$"),
        ({"visual.conv1.weight": None}, "missing: visual.conv1.weight"),
        ({"text_projection": None}, "missing: text_projection"),
        ({"prompts_visual_ln.bias": None}, r"^missing: prompts.visual_norm.bias$"),
        ({"mit.positional_embedding": torch.zeros(4, 64)}, r"\[4, 64\] does not have 3 axes"),
        (
            {"mit.positional_embedding": torch.zeros(1, 0, 64)},
            r"\[1, 0, 64\] does not have 3 axes, none of them empty",
        ),
        ({"visual.positional_embedding": torch.zeros(9, 128)}, "9 positions are no square of patches"),
        ({"visual.positional_embedding": torch.zeros(1, 128)}, "1 positions are no square of patches"),
        ({"visual.conv1.weight": torch.zeros(128, 3, 8, 9)}, "keys of another shape: visual.conv1.weight"),
        ({"visual.conv1.weight": torch.zeros(100, 3, 8, 8)}, "the width 100 is no multiple of 64"),
        ({"text_projection": torch.zeros(192, 60)}, "text_projection: the width 60 is no multiple of 64"),
        ({"visual.proj": torch.zeros(64, 128)}, r"keys of another shape: visual.proj \[64, 128\]"),
        (
            {"mit.resblocks.0.attn.in_proj_bias": torch.zeros(100)},
            r"another shape: mit.resblocks.0.attn.in_proj_bias \[100\]",
        ),
        (
            {"mit.resblocks.0.attn.in_proj_weight": torch.tensor(1.0)},
            r"another shape: mit.resblocks.0.attn.in_proj_weight \[\]",
        ),
    ],
)
def test_an_original_checkpoint_that_does_not_fit_is_refused_by_key(
    tmp_path: Path, choices: Choices, change: dict[str, Tensor | None], message: str
) -> None:
    state = {key: tensor for key, tensor in (original() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        read(saved(tmp_path / "odd.pth", state), replace(choices, architecture="xclip-original"))


def test_an_original_checkpoint_without_a_towers_blocks_is_refused(tmp_path: Path, choices: Choices) -> None:
    for blocks in (xclip_original.VISION, xclip_original.TEMPORAL):
        state = {key: tensor for key, tensor in original().items() if not key.startswith(blocks)}
        with pytest.raises(CheckpointError, match=f"missing: {blocks}.0"):
            read(saved(tmp_path / "odd.pth", state), choices)
