"""Train the default text model: `python -m models.demo.code_language.recipe`.

Fetches the projects (apt-get, npm), learns a tokenizer from the training half, warms the token embeddings up
as a bag of tokens, trains, measures on the held-out half and writes `weights/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from models.checkpoints import native
from models.demo.card import Card, Interval
from models.demo.code_language.corpus import Corpus, Source, collect
from models.demo.code_language.evaluation import card, localise, planted, predict, right
from models.demo.code_language.projects import LANGUAGES, PROJECTS
from models.demo.code_language.snippets import Sampler
from models.demo.code_language.tokenizer import train_tokenizer
from models.demo.code_language.training import BagOfTokens, Example, batches, collate, cut, examples
from models.demo.fitting import fit
from models.text import TextConfig, TextTransformer

NAME = "code-language"
WEIGHTS = Path(__file__).parent / "weights"
CACHE = Path(".cache") / NAME
CONFIG = TextConfig(
    vocabulary=4096,
    labels=len(LANGUAGES),
    width=96,
    layers=4,
    heads=4,
    feedforward=192,
    positions=512,
    head="linear",
)
SEED = 1
# Characters of each language that the tokenizer learns from.
READ = 1_500_000
WARM_STEPS, WARM_TOKENS, WARM_RATE = 300, 16_000, 5e-3
STEPS, TOKENS, RATE, SMOOTHING = 3_000, 5_000, 1.5e-3, 0.05
# Held-out snippets of each language, and snippets planted in prose.
SNIPPETS, PLACES = 250, 1_024


def main() -> None:
    """Fetch, train, measure, save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cache", type=Path, default=CACHE, help="where archives and corpus are kept")
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="the folder to write")
    arguments = parser.parse_args()
    with Progress() as progress:
        task = progress.add_task(f"{NAME}, corpus", total=2 * len(PROJECTS))
        corpus = collect(arguments.cache, PROJECTS, lambda steps: progress.advance(task, steps))
    tokenizer = learn_tokenizer(corpus.half("train").sources)
    model = train(corpus.half("train"), tokenizer)
    save(arguments.out, model, tokenizer, measure(model, tokenizer, corpus.half("held-out")))


def learn_tokenizer(sources: list[Source]) -> Tokenizer:
    """The tokenizer, from as much text of each language."""
    texts: list[str] = []
    left = dict.fromkeys(LANGUAGES, READ)
    for index in np.random.default_rng(SEED).permutation(len(sources)):
        source = sources[index]
        if left[source.language] > 0:
            texts.append(source.text)
            left[source.language] -= len(source.text)
    with Console().status(f"{NAME}, tokenizer"):
        return train_tokenizer(texts, vocabulary=CONFIG.vocabulary)


def train(corpus: Corpus, tokenizer: Tokenizer) -> TextTransformer:
    """Train a model on this corpus.

    The positions start at zero and the tokens from what a bag of them tells: a minute that saves many.
    """
    torch.manual_seed(SEED)
    model = TextTransformer(CONFIG)
    nn.init.normal_(model.embeddings.token.weight, std=0.02)
    nn.init.zeros_(model.embeddings.position.weight)
    bag = BagOfTokens(model)
    drawn = examples(Sampler(corpus.sources), corpus.prose, tokenizer, positions=CONFIG.positions, seed=SEED)

    def warm() -> Tensor:
        batch = next(warm_batches)
        return cross_entropy(bag([example.ids for example in batch]), _labels(batch))

    warm_batches = batches(drawn, tokens=WARM_TOKENS, seed=SEED)
    fit(bag, warm, title=f"{NAME}, bag of tokens", steps=WARM_STEPS, rate=WARM_RATE, decay=0.0)

    def loss() -> Tensor:
        batch = next(train_batches)
        with torch.autocast("cpu", torch.bfloat16):
            outputs, _ = model(*collate([example.ids for example in batch]))
        return cross_entropy(outputs["logits"].float(), _labels(batch), label_smoothing=SMOOTHING)

    train_batches = batches(drawn, tokens=TOKENS, seed=SEED)
    fit(model, loss, title=f"{NAME}, transformer", steps=STEPS, rate=RATE)
    return model


def measure(model: TextTransformer, tokenizer: Tokenizer, corpus: Corpus) -> Card:
    """The card, on the held-out half."""
    sampler = Sampler(corpus.sources)
    snippets = sampler.balanced(SNIPPETS, np.random.default_rng(SEED))
    rows = tokenizer.encode_batch([snippet.text for snippet in snippets])
    with Console().status(f"{NAME}, card"):
        hits = right(LANGUAGES, snippets, predict(model, [cut(row.ids, CONFIG.positions) for row in rows]))
        places = planted(
            sampler, corpus.prose, tokenizer, count=PLACES, positions=CONFIG.positions, seed=SEED
        )
        maps = localise(model, places, seed=SEED)
        predicted = predict(model, [encoding.ids for _, encoding in places])
    planted_hits = right(LANGUAGES, [snippet for snippet, _ in places], predicted)
    return card(LANGUAGES, snippets, hits, maps, planted_hits)


def save(folder: Path, model: TextTransformer, tokenizer: Tokenizer, measured: Card) -> None:
    """Write the checkpoint, and show its card."""
    native.save(
        folder,
        model,
        name=NAME,
        version="1",
        description=f"Which of {len(LANGUAGES)} programming languages a snippet is in.",
        labels=LANGUAGES,
        preprocessing={"kind": "text", "max_tokens": CONFIG.positions, "pad_id": 0},
        card=measured.as_dict(),
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    Console().print(_table(measured))


def _labels(batch: list[Example]) -> Tensor:
    return torch.tensor([example.label for example in batch])


def _table(measured: Card) -> Table:
    table = Table("figure", "value", "95 % interval", title=f"{NAME}, held out")

    def row(name: str, figure: Interval) -> None:
        table.add_row(name, f"{figure.value:.3f}", f"{figure.low:.3f} to {figure.high:.3f}")

    row(f"accuracy of {measured.examples}", measured.accuracy)
    for found in measured.maps:
        name = " ".join(filter(None, (found.map, found.layer)))
        row(f"{name}, pointing", found.pointing)
        row(f"{name}, energy", found.energy)
    for label, share in sorted(measured.per_label.items(), key=lambda item: item[1]):
        table.add_row(label, f"{share:.3f}", "")
    return table


if __name__ == "__main__":
    main()
