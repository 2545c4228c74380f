from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from datamodules import Vocabulary, WordReversal
from lightning_modules import GRUSeq2Seq
from lightning_modules.gru_seq2seq import compare

VOCABULARY = Vocabulary("abcdefgh")
SIZES = {"vocab_size": len(VOCABULARY), "max_length": 5, "characters": VOCABULARY.characters}


def model(**arguments: Any) -> GRUSeq2Seq:
    torch.manual_seed(0)
    return GRUSeq2Seq(**{"hidden_size": 8, **SIZES, **arguments}).eval()


def ids(*words: str, length: int = 5) -> Tensor:
    return VOCABULARY.pad([VOCABULARY.encode(word) for word in words], length)


@pytest.mark.parametrize("cell", ["gru", "gru_cho", "lstm", "rnn"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_encoding_is_independent_of_padding(cell: str, num_layers: int) -> None:
    module = model(cell=cell, num_layers=num_layers)
    together = module(ids("abcde", "fa", "h"))
    assert together.shape == (3, 6) and together.dtype == torch.int64
    for row, word in enumerate(("abcde", "fa", "h")):
        assert torch.equal(module(ids(word, length=len(word)))[0], together[row])


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_both_ways_of_encoding_agree(cell: str) -> None:
    module = model(cell=cell, num_layers=2)
    source = ids("abcde", "fa", "h")
    packed, stepped = module.encode(source), module._encode_step_by_step(source, torch.tensor([5, 2, 1]))
    pairs = zip(packed, stepped, strict=True) if cell == "lstm" else [(packed, stepped)]
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_against_the_equations_by_hand() -> None:
    """Encoder and decoder of a plain RNN: h = tanh(W x + b + U h + c), written as loops."""
    module = model(cell="rnn", hidden_size=3)

    def step(rnn: nn.RNNBase, character: int, h: Tensor) -> Tensor:
        w, u, b, c = (getattr(rnn, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        return torch.tanh(w[:, character] + b + u @ h + c)

    h = torch.zeros(3)
    for character in VOCABULARY.encode("fab"):
        h = step(module.encoder, character, h)
    written, character = [], module.start_id
    for _ in range(6):
        h = step(module.decoder, character, h)
        character = int((module.output.weight @ h + module.output.bias).argmax())
        written.append(character)
        if character == module.end_id:
            break
    assert module(ids("fab"))[0, : len(written)].tolist() == written


def test_greedy_decoding_stops_at_the_end() -> None:
    module = model()
    with torch.no_grad():
        module.output.bias[module.end_id] = 1e3
    assert module(ids("abc")).tolist() == [[VOCABULARY.END] + [VOCABULARY.PAD] * 5]


def test_padding_counts_neither_in_the_loss_nor_in_the_metrics() -> None:
    module = model()
    source, target = ids("ba"), VOCABULARY.pad([VOCABULARY.encode("ab", end=True)], 6)
    longer = (ids("ba", length=9), VOCABULARY.pad([VOCABULARY.encode("ab", end=True)], 11))
    loss, characters = module._loss((source, target))
    more_padded, same_characters = module._loss(longer)
    assert characters == same_characters == 3
    assert torch.allclose(loss, more_padded)


def test_exact_match_is_every_character_and_the_end() -> None:
    target = torch.tensor([[3, 4, 2, 0], [3, 2, 0, 0], [3, 4, 2, 0], [3, 4, 5, 2]])
    written = torch.tensor([[3, 4, 2, 7], [3, 2, 0, 0], [3, 4, 4, 2], [3, 4, 2, 0]])
    right, exact = compare(written, target, pad_id=0)
    assert exact.tolist() == [True, True, False, False], "characters after the end are ignored"
    assert right.sum(dim=1).tolist() == [3, 2, 2, 2]
    assert compare(written[:, :2], target, pad_id=0)[1].tolist() == [False, True, False, False]


@pytest.mark.filterwarnings("ignore::UserWarning:contextlib")  # from torch's own cells
@pytest.mark.parametrize("cell", ["gru", "gru_cho", "lstm", "rnn"])
@pytest.mark.parametrize("num_layers", [1, 2])
def test_export_with_any_batch_size_and_length(cell: str, num_layers: int) -> None:
    module = model(cell=cell, num_layers=num_layers, hidden_size=16, max_length=3)
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 6  # else its output does not depend on its input
    assert len(module(ids("abc", "fa", "h", "b", "gh", "c", "a", length=3)).unique(dim=0)) >= 4
    shapes = {"source": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}}
    exported = export(module, (ids("abc", "fa", length=3),), dynamic_shapes=shapes).module()
    for words in (["h"], ["b", "f", "g", "a"], ["ab", "c"], ["abc", "fa", "h"], ["gh", "c", "a", "b", "de"]):
        source = ids(*words, length=max(map(len, words)))
        assert torch.equal(exported(source), module(source))
    with pytest.raises(AssertionError, match="<= 3"):
        exported(ids("abcd", length=4))


def test_longer_words_than_those_trained_on_count_apart() -> None:
    module = model(trained_length=2, log_lengths=True)
    words = ["a", "ab", "cd", "abc", "bcde", "edcb"]
    source, target = (
        ids(*(word[::-1] for word in words)),
        VOCABULARY.pad([VOCABULARY.encode(w, end=True) for w in words], 6),
    )
    right = target.clone()
    right[2, 0] = right[4, 0] = VOCABULARY.END  # "cd" and "bcde" are wrong
    module.forward = lambda source: right  # type: ignore[method-assign]
    module.add_evaluation = lambda sums: found.append(sums)  # type: ignore[method-assign]
    found: list[Tensor] = []
    module.validation_step((source, target), 0)
    metrics = {name: float(value) for name, value in module.means("val", module.summed(*found)).items()}

    of_trained = module._loss((source[:3], target[:3]))
    assert metrics.pop("loss") == pytest.approx(float(of_trained[0] / of_trained[1]), rel=1e-5)
    assert metrics == {
        "token_accuracy": pytest.approx(7 / 8),
        "exact_match": pytest.approx(2 / 3),
        "exact_match_beyond": pytest.approx(2 / 3),
        "exact_match_length_1": 1.0,
        "exact_match_length_2": 0.5,
        "exact_match_length_3": 1.0,
        "exact_match_length_4": 0.5,
    }


def test_it_learns_to_reverse(tmp_path: Path) -> None:
    words = (a + b + c for a in "abcde" for b in "fghi" for c in "jklm")  # no word is another's reversal
    (tmp_path / "words.txt").write_text("\n".join(words))
    data = WordReversal(20, validation_size=5, test_size=20, words_file=str(tmp_path / "words.txt"), max_length=4)
    data.setup()
    pl.seed_everything(0, verbose=False)
    module = GRUSeq2Seq(hidden_size=48, learning_rate=1e-2, schedule="constant", **data.sizes)
    trainer = pl.Trainer(
        max_epochs=80,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        check_val_every_n_epoch=80,
        log_every_n_steps=2,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=data)
    assert {"train/loss", "val/loss", "val/token_accuracy", "val/exact_match"} <= set(trainer.callback_metrics)
    (results,) = trainer.test(module, dataloaders=data.train_dataloader(), verbose=False)
    assert results["test/exact_match"] == 1.0
    source, _ = next(iter(data.train_dataloader()))
    assert data.vocabulary.decode(module.eval()(source)[0].tolist()) == data.vocabulary.decode(source[0].tolist())[::-1]

    pictures = module.pictures(data.val_dataloader())
    assert sum(pictures["exact_match_by_length"]["total"]) == 5
    assert len(pictures["decoded_words"]["source"]) == 5
    assert all(
        s == t[::-1]
        for s, t in zip(pictures["decoded_words"]["source"], pictures["decoded_words"]["target"], strict=True)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"hidden_size": 0}, "hidden_size must be"),
        ({"num_layers": 0}, "num_layers must be"),
        ({"trained_length": 6}, "trained_length must be between 1 and max_length=5, but got trained_length=6"),
        ({"cell": "gur"}, "cell must be one of gru, gru_cho, lstm, rnn"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"learning_rate": -1.0}, "learning_rate must be"),
        ({"optimizer": "adm"}, "optimizer must be"),
    ],
)
def test_an_invalid_argument_gives_one_line(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        model(**arguments)
    assert "\n" not in str(caught.value)


def test_the_letters_of_a_short_word_multiply_to_its_probability() -> None:
    """After the end there is padding, which is not part of the output."""
    module = model()
    with torch.no_grad():
        module.output.weight.zero_()
        module.output.bias.zero_()
        module.output.bias[module.end_id] = 1.0  # so it ends each word at once
    (answer,) = module.answers(ids("abc"))
    assert answer["answer"] == "" and [letter["letter"] for letter in answer["letters"]] == [""]
    expected = torch.tensor([1.0] + [0.0] * (len(VOCABULARY) - 1)).softmax(dim=0)[0].item()
    assert answer["probability"] == pytest.approx(expected)
    assert answer["letters"][0]["probability"] == pytest.approx(expected)
