import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.common import redaction
from studies.common.redaction import redacted, remember, without_secrets

WORD = st.text("abcdefgXYZ0123456789-_.~%+", min_size=8, max_size=30).filter(lambda word: not word.startswith("--"))
HIDDEN = [
    "postgresql+psycopg://me:{}@host:5432/db",
    "http://:{}@host/",
    "https://host/file?a=1&sig={}&b=2",
    "https://host/?user=me&password={}",
    "harness train a --data.password {} --seed 3",
    "harness train a --data.db-api_key={}",
    "harness study a --notify https://hooks.example.com/services/{} --trials 3",
    "harness study a --notify={}",
    'password = "{}"',
    "{{'api_key': '{}'}}",
    "+export WANDB_API_KEY={}",
    "authorization: Bearer {}",
]
SHOWN = [
    "http://localhost:5000/#/experiments/1 and me@example.com",
    "http://localhost:5000/@vite/client",
    "sqlite:////tmp/mlruns/optuna.db",
    "postgresql://me@host/db",
    "--model.pad_token 3 --model.end_token=4 --data.batch_size 64",
    "token = vocabulary['<end>']",
    "password = getpass()",
    "self.secret_key = None",
    "val/loss 0.1234 in 3 epochs; run 0123456789abcdef0123456789abcdef",
    "desk-lamp sk-short hf_hub",
]


@given(WORD, st.sampled_from(HIDDEN), st.text(), st.text())
def test_what_stands_where_a_secret_stands_is_hidden(word: str, place: str, before: str, after: str) -> None:
    text = f"{before}\n{place.format(word)}\n{after}"
    shown = redacted(text)
    assert place.format(word) not in shown and "***" in shown
    assert shown.count("\n") == text.count("\n"), "a diff keeps its lines"
    assert redacted(shown) == shown


@pytest.mark.parametrize("text", SHOWN)
def test_other_texts_stay(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "token",
    [
        "AKIA" + "A1" * 8,
        "ghp_" + "a1" * 18,
        "github_pat_" + "a1" * 20,
        "glpat-" + "a1" * 10,
        "hf_" + "aB" * 17,
        "sk-ant-" + "a1" * 20,
        "xoxb-" + "12" * 8,
        "AIza" + "a" * 35,
        "npm_" + "a1" * 18,
        "pypi-AgE" + "a1" * 30,
        "dapi" + "a1" * 16,
    ],
)
def test_tokens_of_services(token: str) -> None:
    assert redacted(f"x = f('{token}')") == "x = f('***')"


def test_private_keys_keep_their_lines() -> None:
    key = (
        "+-----BEGIN OPENSSH PRIVATE KEY-----\n+b3BlbnNzaC1rZXktdjEAAAAA\n+AAAAB3NzaC1yc2EAAAADAQAB\n+-----END OPENSSH"
    )
    assert redacted(key) == "+-----BEGIN OPENSSH PRIVATE KEY-----\n+***\n+***\n+-----END OPENSSH"


def test_what_this_process_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "correct horse")
    monkeypatch.setenv("SOME_TOKEN", "no")  # too short
    monkeypatch.setattr(redaction, "_told", set())
    redaction._known.cache_clear()
    remember("battery")
    assert redacted("correct horse, battery, batteryx: no") == "***, ***, batteryx: no"
    monkeypatch.undo()
    redaction._known.cache_clear()


@pytest.mark.parametrize("part", ["a", "a.", "a://", "--a-", "password=", "A_", "://a:", "?a=", "sk-", "-----BEGIN "])
def test_the_time_grows_no_faster_than_the_text(part: str) -> None:
    """Quadratic patterns would take minutes for these texts."""
    text = part * 50_000
    assert redacted(text) or not text


def test_arguments() -> None:
    arguments = ["study", "a", "--storage", "mysql://u:p@h/d", "--data.password", "x y", "--seed", "3", "--password"]
    expected = ["study", "a", "--storage", "mysql://***@h/d", "--data.password", "***", "--seed", "3", "--password"]
    assert without_secrets(arguments) == expected
