"""Recurrent encoder-decoder (Cho et al. 2014, arXiv:1406.1078; Sutskever et al. 2014, arXiv:1409.3215).

Shapes: B batch, S source length, T target length, V vocabulary, H hidden, L layers.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.interval_metrics import IntervalMetrics
from lightning_modules.optimizers import ARGUMENTS, Optimizer, Schedule, checked, configure
from lightning_modules.recurrent import CELLS, gradient_by_distance, hidden_size_for, open_gates, parameters_of

Cell = Literal["gru", "gru_cho", "lstm", "rnn"]
State = Tensor | tuple[Tensor, Tensor]  # (L, B, H), or a pair of them for the LSTM

PICTURED_WORDS = 24


class GRUSeq2Seq(IntervalMetrics):
    """Reads a sequence into a context vector, the encoder's last state, and decodes another from it.

    Characters are one-hot vectors. In training the decoder is fed the true characters (teacher forcing); all reported
    accuracies are from greedy decoding, in which it is fed its own output until it emits the end.
    Logs train/loss and, in validation and test, loss (nats per character, teacher-forced), token_accuracy (share of
    correct characters, including ends) and exact_match (share of entirely correct words). Padding is ignored.
    Words longer than trained_length only count in exact_match_beyond, which is exact_match over these words.

    Args:
        hidden_size: units of each layer of encoder and decoder, >= 1.
        num_layers: stacked layers of each, >= 1.
        cell: gru, lstm, rnn (tanh), or gru_cho, the originally published gated unit; see
            `lightning_modules.recurrent.ChoGRU`.
        num_parameters: maximum number of parameters, instead of hidden_size, to compare cells; or None.
        dropout: share of units set to 0 between stacked layers in training, at least 0 and less than 1.
        log_lengths: also log exact_match for each length of word, as exact_match_length_3 etc.
        optimizer: sgd, momentum (SGD with Nesterov momentum 0.9), adam, adamw or rmsprop.
        learning_rate: > 0, the highest value the schedule reaches.
        weight_decay: >= 0, on weight matrices only.
        schedule: course of the learning rate over all training steps.
        vocab_size: number of ids, from the data.
        pad_id: id that fills a sequence's end, from the data.
        start_id: id that the decoder is fed first, from the data.
        end_id: id that ends a word, from the data.
        max_length: characters of the longest word, >= 1, from the data.
        trained_length: characters of the longest word in training, 1 to max_length, from the data; None: max_length.
        characters: the characters of the ids after the special ones, from the data; for pictures.

    Raises:
        ValueError: an argument is outside its range.
    """

    keeps_no_state = True  # so trials may share a process: all state is in instances
    packable_hyperparameters = (*ARGUMENTS, "dropout")
    pure_loss = True
    flush_denormals = True

    def __init__(
        self,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: Cell = "gru",
        num_parameters: int | None = None,
        dropout: float = 0.0,
        log_lengths: bool = False,
        optimizer: Optimizer = "adamw",
        learning_rate: float = 4e-3,
        weight_decay: float = 0.01,
        schedule: Schedule = "linear",
        vocab_size: int = 29,
        pad_id: int = 0,
        start_id: int = 1,
        end_id: int = 2,
        max_length: int = 12,
        trained_length: int | None = None,
        characters: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        for name, value in {"hidden_size": hidden_size, "num_layers": num_layers, "max_length": max_length}.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, but got {name}={value}")
        if cell not in CELLS:
            raise ValueError(f"cell must be one of {', '.join(get_args(Cell))}, but got {cell=}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and less than 1, but got {dropout=}")
        if trained_length is not None and not 1 <= trained_length <= max_length:
            raise ValueError(f"trained_length must be between 1 and {max_length=}, but got {trained_length=}")
        self.optimization = checked(optimizer, learning_rate, weight_decay, schedule)
        self.save_hyperparameters(logger=False)
        self.vocab_size, self.pad_id, self.start_id, self.end_id = vocab_size, pad_id, start_id, end_id
        self.max_length, self.trained_length = max_length, trained_length or max_length
        self.log_lengths = log_lengths
        if num_parameters is not None:
            hidden_size = hidden_size_for(  # counts encoder, decoder and output layer
                num_parameters,
                lambda size: 2 * parameters_of(cell, vocab_size, size, num_layers) + vocab_size * (size + 1),
            )
        options = {"num_layers": num_layers, "batch_first": True, "dropout": dropout if num_layers > 1 else 0.0}
        self.encoder = CELLS[cell](vocab_size, hidden_size, **options)
        self.decoder = CELLS[cell](vocab_size, hidden_size, **options)
        self.output = nn.Linear(hidden_size, vocab_size)

    def configure_optimizers(self) -> dict[str, Any]:
        return configure(self, **self.optimization)

    def forward(self, source: Tensor) -> Tensor:
        """Greedily decoded ids, int64 (B, max_length + 1), of sources, int64 (B, S); padding after the end."""
        state = self.encode(source)
        character = torch.full_like(source[:, :1], self.start_id)  # (B, 1)
        ended = torch.zeros_like(character, dtype=torch.bool)
        written = []
        for _ in range(self.max_length + 1):
            outputs, state = self.decoder(self._one_hot(character), state)
            character = self.output(outputs).argmax(dim=2)
            character = character.masked_fill(ended, self.pad_id)
            ended = ended | (character == self.end_id)
            written.append(character)
        return torch.cat(written, dim=1)

    def encode(self, source: Tensor) -> State:
        """The context: the encoder's state (L, B, H) after the last character of each source (B, S).

        Sources are padded at the end; padding does not affect the state.
        """
        lengths = (source != self.pad_id).sum(dim=1).clamp(min=1)  # (B,)
        # Packing sorts by length, which cannot be exported, and only works for PyTorch's own cells.
        if torch.compiler.is_exporting() or not isinstance(self.encoder, nn.RNNBase):
            return self._encode_step_by_step(source, lengths)
        packed = nn.utils.rnn.pack_padded_sequence(
            self._one_hot(source), lengths.cpu(), batch_first=True, enforce_sorted=False
        )
        return self.encoder(packed)[1]

    def _encode_step_by_step(self, source: Tensor, lengths: Tensor) -> State:
        """The same state, at higher cost: a row that has ended keeps its state."""
        if torch.compiler.is_exporting():  # steps are unrolled in the export: a fixed number for any source length
            torch._check(source.shape[1] <= self.max_length)
            padding = torch.full_like(source[:, :1], self.pad_id).expand(-1, self.max_length)
            source = torch.cat([source, padding], dim=1)[:, : self.max_length]
        inputs = self._one_hot(source)  # (B, S, V)
        _, state = self.encoder(inputs[:, :1])
        for t in range(1, source.shape[1]):
            _, new = self.encoder(inputs[:, t : t + 1], state)
            goes_on = (t < lengths)[None, :, None]  # (1, B, 1)
            if isinstance(state, tuple):
                state = tuple(torch.where(goes_on, n, s) for n, s in zip(new, state, strict=True))
            else:
                state = torch.where(goes_on, new, state)
        return state

    def decode(self, state: State, target: Tensor) -> Tensor:
        """Teacher-forced logits (B, T, V): at t, the decoder has been fed the start and target[:, :t]."""
        start = torch.full_like(target[:, :1], self.start_id)
        outputs, _ = self.decoder(self._one_hot(torch.cat([start, target[:, :-1]], dim=1)), state)
        return self.output(outputs)

    def _one_hot(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids, self.vocab_size).to(self.output.weight.dtype)

    def _loss(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of the target's characters, and their number, both without padding."""
        source, target = batch
        logits = self.decode(self.encode(source), target)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=self.pad_id, reduction="sum")
        return loss, (target != self.pad_id).sum()

    def loss_and_outputs(self, batch: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, ...]]:
        loss, characters = self._loss(batch)
        return loss / characters, (torch.stack([loss.detach().float(), characters.float()])[None],)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        source, target = batch
        lengths = (target != self.pad_id).sum(dim=1) - 1  # the end is not a character
        right, exact = compare(self(source), target, self.pad_id)
        trained = lengths <= self.trained_length
        if self.trained_length < self.max_length:
            batch, right = (source[trained], target[trained]), right[trained]
        loss, characters = self._loss(batch)
        beyond = ~trained
        counts = [characters, right.sum(), (exact & trained).sum(), trained.sum(), (exact & beyond).sum(), beyond.sum()]
        sums = torch.cat([loss.detach().float()[None], torch.stack(counts).float()])
        if self.log_lengths:
            of_length = F.one_hot(lengths, self.max_length + 1).float()  # (B, lengths)
            sums = torch.cat([sums, of_length.T @ exact.float(), of_length.sum(dim=0)])
        self.add_evaluation(sums[None])

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def summed(self, *outputs: Tensor) -> Tensor:
        (sums,) = outputs  # a row per batch, already summed, since words differ in length
        return sums.sum(dim=0)

    def means(self, split: str, sums: Tensor) -> dict[str, Tensor]:
        loss, characters = sums[:2]
        if split == "train":
            return {"loss": loss / characters}
        right, exact, words, exact_beyond, words_beyond = sums[2:7]
        metrics = {"loss": loss / characters, "token_accuracy": right / characters, "exact_match": exact / words}
        if self.trained_length < self.max_length:
            metrics["exact_match_beyond"] = exact_beyond / words_beyond
        if self.log_lengths:
            shares = zip(*sums[7:].unflatten(0, (2, -1)), strict=True)
            metrics |= {f"exact_match_length_{n}": exact / words for n, (exact, words) in enumerate(shares) if words}
        return metrics

    @torch.no_grad()
    def answers(self, inputs: Tensor) -> list[dict[str, Any]]:
        """The model's output for each source (B, S).

        Returns:
            For each: `answer`, a word; `probability` of that word; and `letters`, each `letter` with its conditional
            `probability`. The last is "", the end, if the model emitted one; so the letters form the word, and their
            probabilities multiply to its probability.
        """
        training = self.training
        self.eval()
        inputs = inputs.to(self.device)
        written = self(inputs)  # (B, T)
        # Feeding the decoder its own characters yields their probabilities.
        likely = self.decode(self.encode(inputs), written).log_softmax(dim=2)
        likely = likely.gather(2, written[..., None]).squeeze(2).masked_fill(written == self.pad_id, 0.0)
        self.train(training)
        answers = []
        for ids, shares, share in zip(written.cpu(), likely.exp().tolist(), likely.sum(dim=1).exp(), strict=True):
            ended = (ids == self.end_id).nonzero()
            length = int(ended[0]) + 1 if len(ended) else len(ids)
            letters = [
                {"letter": self._spell(ids[t : t + 1]), "probability": probability}
                for t, probability in enumerate(shares[:length])
            ]
            answers.append({"answer": self._spell(ids), "probability": float(share), "letters": letters})
        return answers

    @torch.no_grad()
    def pictures(self, dataloader: Iterable[tuple[Tensor, Tensor]]) -> dict[str, dict[str, Any]]:
        """Pictures of the model's spelling.

        Args:
            dataloader: yields source (B, S) and target (B, T) ids.

        Returns:
            decoded_words: up to 24 words as source, target and prediction, half of them wrong if there are enough.
            exact_match_by_length: words and correct words per length.
            gradient_by_distance: the gradient's norm back in time through the trained encoder, and through
                untrained cells with open gates.
        """
        training = self.training
        self.eval()
        right_words, wrong_words = [], []
        total: dict[int, int] = {}
        correct: dict[int, int] = {}
        for source, target in dataloader:
            written = self(source.to(self.device)).cpu()
            _, exact = compare(written, target.cpu(), self.pad_id)
            lengths = (target != self.pad_id).sum(dim=1).tolist()
            for row, (length, is_right) in enumerate(zip(lengths, exact.tolist(), strict=True)):
                total[length - 1] = total.get(length - 1, 0) + 1  # the end is not a character
                correct[length - 1] = correct.get(length - 1, 0) + int(is_right)
                kind = right_words if is_right else wrong_words
                if len(kind) < PICTURED_WORDS:
                    kind.append(tuple(self._spell(ids[row]) for ids in (source, target, written)))
        self.train(training)
        wrong_shown = wrong_words[: max(PICTURED_WORDS // 2, PICTURED_WORDS - len(right_words))]
        shown = [*right_words[: PICTURED_WORDS - len(wrong_shown)], *wrong_shown]
        sources, targets, predictions = (list(column) for column in zip(*shown, strict=True))
        lengths = sorted(total)
        return {
            "decoded_words": {"source": sources, "target": targets, "predicted": predictions},
            "exact_match_by_length": {
                "length": lengths,
                "correct": [correct[length] for length in lengths],
                "total": [total[length] for length in lengths],
                "trained_length": self.trained_length,
            },
            "gradient_by_distance": {"norms": self._gradients_in_time()},
        }

    def _gradients_in_time(self) -> dict[str, list[float]]:
        cell = self.hparams["cell"]
        norms = {f"{cell}, trained": gradient_by_distance(self.encoder, self.vocab_size)}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for name in ("rnn", "lstm", "gru"):
                fresh = open_gates(CELLS[name](self.vocab_size, 64, batch_first=True))  # type: ignore[arg-type]
                norms[f"{name}, untrained" + ", open" * (name != "rnn")] = gradient_by_distance(fresh, self.vocab_size)
        return norms

    def _spell(self, ids: Tensor) -> str:
        """The characters of ids up to the first end; an id without a character is a question mark."""
        special = {self.pad_id, self.start_id, self.end_id}
        characters = self.hparams["characters"] or []
        word = []
        for index in ids.tolist():
            if index == self.end_id:
                break
            if index not in special:
                position = index - len(special)
                word.append(characters[position] if 0 <= position < len(characters) else "?")
        return "".join(word)


def compare(written: Tensor, target: Tensor, pad_id: int) -> tuple[Tensor, Tensor]:
    """Which characters and whole words are correct.

    Args:
        written: decoded ids (B, any length), padding after the end.
        target: true ids (B, T), the end and then padding.
        pad_id: the padding's id, which is ignored.

    Returns:
        right, bool (B, T), False at padding; exact, bool (B,): all characters and the end are correct.
    """
    length = target.shape[1]
    written = F.pad(written[:, :length], (0, max(0, length - written.shape[1])), value=pad_id)
    is_character = target != pad_id
    right = (written == target) & is_character
    return right, (right | ~is_character).all(dim=1)
