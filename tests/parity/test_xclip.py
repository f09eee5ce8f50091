"""X-CLIP from the bytes of a clip to logits and maps, against transformers, from both kinds of checkpoint."""

from __future__ import annotations

import copy
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer, VideoMAEImageProcessorPil, XCLIPConfig, XCLIPModel
from yacs.config import CfgNode

from service.job import Job, Outcome, Payload, Wanted
from service.predictor import Predictor

NAMES = ("jump", "catching the ball", "a", "playing the trombone", "the cat's nap")
FRAMES = 8
CLIPS = {"mp4": (23, 90, 70), "gif": (FRAMES, 60, 64), "webm": (3, 64, 120)}  # frames, height, width
MAPS = frozenset({"cls", "message"})
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
# Widths of embedding, text and vision tower; layers of text and vision; image, patch, vocabulary.
SIZES = {
    "small": (128, 64, 128, 2, 2, 32, 8, 520),
    "base": (512, 512, 768, 12, 12, 224, 32, 49408),
    "large": (768, 768, 1024, 2, 2, 224, 14, 49408),  # two layers of the vision tower's 24, the text's 12
}
LAYOUTS = {("transformers", "real"): "base", ("original", "real"): "large"}


def config(name: str) -> XCLIPConfig:
    """Every head 64 wide, as the paper has them."""
    embed, text, vision, text_layers, layers, image, patch, vocabulary = SIZES[name]
    return XCLIPConfig(
        projection_dim=embed,
        prompt_num_attention_heads=embed // 64,
        text_config={
            "vocab_size": vocabulary,
            "hidden_size": text,
            "intermediate_size": 4 * text,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text // 64,
        },
        vision_config={
            "hidden_size": vision,
            "intermediate_size": 4 * vision,
            "num_hidden_layers": layers,
            "num_attention_heads": vision // 64,
            "mit_hidden_size": embed,
            "mit_intermediate_size": 4 * embed,
            "mit_num_attention_heads": embed // 64,
            "image_size": image,
            "patch_size": patch,
            "num_frames": FRAMES,
        },
        attn_implementation="eager",
    )


def stirred(model: XCLIPModel) -> XCLIPModel:
    """Weights far from where training starts, yet such that no attention is all on one key."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "logit_scale":
                parameter.fill_(2.5)
            elif parameter.ndim > 1 and "embedding" not in name:
                parameter.normal_(0, 1.2 * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.4 * torch.randn_like(parameter))
    return model.eval()


BLOCK = [(r"layer_norm(1|2)", r"ln_\1"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("self_attn", "attn")]
ORIGINAL = [
    (r"^vision_model\.encoder\.layers", "visual.transformer.resblocks"),
    (r"^text_model\.encoder\.layers", "transformer.resblocks"),
    (r"^mit\.encoder\.layers", "mit.resblocks"),
    (r"^mit\.position_embedding", "mit.positional_embedding"),
    (r"^vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"^vision_model\.embeddings\.patch_embedding", "visual.conv1"),
    (r"^vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"^vision_model\.(pre|post)_layernorm", r"visual.ln_\1"),
    (r"^visual_projection\.weight", "visual.proj"),
    (r"^text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"^text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^text_model\.final_layer_norm", "ln_final"),
    (r"^text_projection\.weight", "text_projection"),
    (r"^prompts_visual_layernorm", "prompts_visual_ln"),
    (r"^prompts_visual_projection", "prompts_visual_proj"),
    (r"^prompts_generator\.layernorm", "prompts_generator.norm"),
]


def as_the_authors_have_it(model: XCLIPModel) -> dict[str, Tensor]:
    """The state of a model of transformers under the names of the original, its projections fused."""
    state: dict[str, Tensor] = {}
    fused: dict[str, dict[str, Tensor]] = {}
    for key, tensor in model.state_dict().items():
        name = key
        for old, new in [*ORIGINAL, *([] if key.startswith("prompts") else BLOCK)]:
            name = re.sub(old, new, name)
        third = re.fullmatch(r"(.*attn\.)([qkv])_proj\.(weight|bias)", name)
        if third is not None and "cross_attn" not in name:
            fused.setdefault(f"{third[1]}in_proj_{third[3]}", {})[third[2]] = tensor
        else:
            state[name] = tensor.T if name in ("visual.proj", "text_projection") else tensor
    return state | {name: torch.cat([parts[third] for third in "qkv"]) for name, parts in fused.items()}


def settings() -> CfgNode:
    """What the authors' training keeps beside the weights."""
    node = CfgNode(
        {"DATA": {"NUM_FRAMES": FRAMES, "LABEL_LIST": "labels.csv"}, "MODEL": {"ARCH": "ViT-B/32"}}
    )
    node.freeze()
    return node


@dataclass(frozen=True)
class Reference:
    """What transformers computes for one clip: logits [K], attentions by layer, what enters the messages."""

    logits: Tensor
    attentions: tuple[Tensor, ...]
    messages: tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """One checkpoint, served, beside the model it was made of; `exact` is that in float64."""

    theirs: XCLIPModel
    exact: XCLIPModel
    processor: VideoMAEImageProcessorPil
    predictor: Predictor
    clips: dict[str, bytes]
    outcomes: dict[str, Outcome]
    expected: dict[str, Reference]
    truth: dict[str, Reference]


@pytest.fixture(scope="module", params=["transformers", "original"])
def case(
    request: pytest.FixtureRequest,
    size: str,
    tmp_path_factory: pytest.TempPathFactory,
    clip_tokenizer: Path,
    export: Callable[..., Predictor],
) -> Case:
    """A checkpoint of transformers brings its tokenizer and preprocessing, one of the authors neither."""
    folder = tmp_path_factory.mktemp("checkpoint")
    theirs = stirred(XCLIPModel(config(LAYOUTS.get((request.param, size), "small"))))
    side = theirs.config.vision_config.image_size
    names = folder / "names.txt"
    names.write_text("\n".join(NAMES))
    if request.param == "transformers":
        shape = {"size": {"shortest_edge": side + 5}, "crop_size": {"height": side, "width": side}}
        processor = VideoMAEImageProcessorPil(**shape)
        theirs.save_pretrained(folder / "model")
        processor.save_pretrained(folder / "model")
        AutoTokenizer.from_pretrained(clip_tokenizer).save_pretrained(folder / "model")
        predictor = export(folder / "model", labels=str(names))
    else:
        processor = VideoMAEImageProcessorPil(
            size={"shortest_edge": int(256 / 224 * side)},
            crop_size={"height": side, "width": side},
            image_mean=MEAN,
            image_std=STD,
        )
        state = as_the_authors_have_it(theirs)
        torch.save({"model": state, "config": settings(), "epoch": 29}, folder / "k400_8.pth")
        predictor = export(folder / "k400_8.pth", labels=str(names), tokenizer=clip_tokenizer)
    ids = AutoTokenizer.from_pretrained(clip_tokenizer)(list(NAMES), padding=True, return_tensors="pt")
    clips = {suffix: clip(suffix, *sizes) for suffix, sizes in CLIPS.items()}
    exact = copy.deepcopy(theirs).double()
    pixels = {name: pixel_values(processor, data) for name, data in clips.items()}
    return Case(
        theirs=theirs,
        exact=exact,
        processor=processor,
        predictor=predictor,
        clips=clips,
        outcomes={name: served(predictor, data)[0] for name, data in clips.items()},
        expected={name: reference(theirs, ids, values) for name, values in pixels.items()},
        truth={name: reference(exact, ids, values.double()) for name, values in pixels.items()},
    )


def clip(suffix: str, count: int, height: int, width: int) -> bytes:
    """A bright square that wanders over colours which change with place and time."""
    y, x = np.mgrid[:height, :width]
    frames = []
    for time in range(count):
        colours = [np.sin(x / 9 + time), np.cos(y / 7 - time), np.sin((x + y) / 11 + 2 * time)]
        frame = np.stack([(100 + 80 * colour).astype(np.uint8) for colour in colours], -1)
        frame[10:30, 3 * time % (width - 20) :][:, :20] = 255
        frames.append(frame)
    file = io.BytesIO()
    if suffix == "gif":
        first, *rest = (Image.fromarray(frame) for frame in frames)
        first.save(file, "gif", save_all=True, append_images=rest, duration=100)
        return file.getvalue()
    with av.open(file, "w", format=suffix) as container:
        stream: Any = container.add_stream({"mp4": "libx264", "webm": "libvpx-vp9"}[suffix], rate=10)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def decoded(data: bytes) -> list[NDArray[np.uint8]]:
    """Every frame of a clip as RGB [H, W, 3]."""
    with av.open(io.BytesIO(data)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def sampled(data: bytes) -> list[NDArray[np.uint8]]:
    """Frame floor((i + 0.5) N / T) of N for i in 0..T-1."""
    frames = decoded(data)
    return [frames[int((index + 0.5) * len(frames) / FRAMES)] for index in range(FRAMES)]


def pixel_values(processor: VideoMAEImageProcessorPil, data: bytes) -> Tensor:
    """[1, T, 3, S, S] as transformers makes them."""
    values: Tensor = processor([sampled(data)], return_tensors="pt").pixel_values
    return values


def served(predictor: Predictor, *clips: bytes) -> list[Outcome]:
    """What one batch of these clips gives."""
    wanted = Wanted(maps=MAPS)
    return predictor.run([Job(item=predictor.decode(Payload(data=data)), wanted=wanted) for data in clips])


def reference(model: XCLIPModel, ids: dict[str, Tensor], values: Tensor) -> Reference:
    """One run of transformers in eager mode."""
    messages: list[Tensor] = []
    hooks = [
        layer.message_attn.register_forward_hook(lambda _, inputs, __: messages.append(inputs[0]))
        for layer in model.vision_model.encoder.layers
    ]
    with torch.no_grad():
        outputs = model(**ids, pixel_values=values, output_attentions=True)
    for hook in hooks:
        hook.remove()
    return Reference(
        logits=outputs.logits_per_video[0],
        attentions=outputs.vision_model_output.attentions,
        messages=tuple(messages),
    )


def class_rows(found: Reference) -> list[Tensor]:
    """The class token's attention to the patches of its frame, per layer [H, T, P]."""
    return [layer[:, :, 0, 1:-1].transpose(0, 1) for layer in found.attentions]


def message_matrices(model: XCLIPModel, found: Reference) -> list[Tensor]:
    """Attention among the frames' messages, per layer [H, T, T], from queries and keys."""
    matrices = []
    for layer, x in zip(model.vision_model.encoder.layers, found.messages, strict=True):
        attention = layer.message_attn
        with torch.no_grad():
            query, key = attention.q_proj(x[0]), attention.k_proj(x[0])  # [T, D]
        split = (FRAMES, attention.num_heads, -1)
        products = torch.einsum("thd,shd->hts", query.view(split), key.view(split))
        matrices.append((products / attention.head_dim**0.5).softmax(-1))
    return matrices


def assert_near(found: Any, truth: Tensor, torch_fp32: Tensor, *, atol: float) -> None:
    """Within `atol` of float64, or within twice what torch fp32 is away from it."""
    away = float((torch.as_tensor(found).double().reshape(truth.shape) - truth).abs().max())
    allowed = max(atol, 2 * float((torch_fp32.double() - truth).abs().max()))
    assert away <= allowed


@pytest.mark.parametrize("kind", CLIPS)
def test_the_frames_are_those_in_the_middle_of_equal_parts(case: Case, kind: str) -> None:
    item = case.predictor.decode(Payload(data=case.clips[kind]))
    np.testing.assert_array_equal(item.original, np.stack(sampled(case.clips[kind])))


@pytest.mark.parametrize("kind", CLIPS)
def test_pixels_are_those_of_the_image_processor(case: Case, kind: str) -> None:
    item = case.predictor.decode(Payload(data=case.clips[kind]))
    expected = pixel_values(case.processor, case.clips[kind])[0].numpy()
    std = np.array(case.processor.image_std)[:, None, None]
    assert item.tensors["frames"].shape == expected.shape
    assert np.abs((item.tensors["frames"] - expected) * std).max() <= 1 / 255


@pytest.mark.parametrize("kind", CLIPS)
def test_logits_are_those_of_transformers(case: Case, kind: str) -> None:
    logits, expected = case.outcomes[kind].logits, case.expected[kind].logits
    assert_near(logits, case.truth[kind].logits, expected, atol=1e-4)
    assert expected.std() > 0.05
    assert case.predictor.manifest.labels == NAMES
    assert logits.argmax() == expected.argmax()


@pytest.mark.parametrize("kind", CLIPS)
def test_class_rows_are_the_attentions_of_transformers(case: Case, kind: str) -> None:
    layers = case.outcomes[kind].maps["cls"].layers
    rows = zip(layers, class_rows(case.expected[kind]), class_rows(case.truth[kind]), strict=True)
    for found, theirs, truth in rows:
        assert_near(found, truth, theirs, atol=1e-5)
        assert truth.std() > 1e-3


@pytest.mark.parametrize("kind", CLIPS)
def test_message_matrices_are_what_transformers_drops(case: Case, kind: str) -> None:
    layers = case.outcomes[kind].maps["message"].layers
    theirs = message_matrices(case.theirs, case.expected[kind])
    truth = message_matrices(case.exact, case.truth[kind])
    for found, torch_fp32, exact in zip(layers, theirs, truth, strict=True):
        assert_near(found, exact, torch_fp32, atol=1e-5)
    assert truth[-1].std() > 1e-3  # the first say nothing: every frame's class token starts alike


def test_a_batch_gives_what_its_clips_give_alone(case: Case) -> None:
    for kind, found in zip(CLIPS, served(case.predictor, *case.clips.values()), strict=True):
        alone, truth = case.outcomes[kind], case.truth[kind]
        assert_near(
            found.logits, torch.from_numpy(alone.logits).double(), case.expected[kind].logits, atol=1e-4
        )
        assert_near(found.logits, truth.logits, case.expected[kind].logits, atol=1e-4)
        for name, spec in found.maps.items():
            for together, single in zip(spec.layers, alone.maps[name].layers, strict=True):
                np.testing.assert_allclose(together, single, rtol=0, atol=1e-5)


def test_the_text_tower_is_not_served(case: Case) -> None:
    names = [name for name, _ in case.theirs.named_parameters() if not name.startswith("text_")]
    counted = sum(case.theirs.get_parameter(name).numel() for name in names)
    assert case.predictor.manifest.parameters == counted
