"""Secrets of a config: known by key, variable, URL and form, and hidden in whatever is written or shown."""

import io
import json

import pytest
import yaml
from command import verl
from hypothesis import given
from hypothesis import strategies as st

from justrl_recipe import config, masking

ENV = "+ray_kwargs.ray_init.runtime_env.env_vars"
# An override, or a variable of the environment and the override that takes it; the part that no one may read.
FORMS = {
    "api key": (f"{ENV}.WANDB_API_KEY=planted-wandb-0123", "planted-wandb-0123"),
    "secret access key": (f"{ENV}.AWS_SECRET_ACCESS_KEY=planted/aws+secret", "planted/aws+secret"),
    "token": (f"{ENV}.HF_TOKEN=planted_token", "planted_token"),
    "number": (f"{ENV}.DB_PASSWORD=9182736455", "9182736455"),
    "with spaces": (f"{ENV}.SERVICE_SECRET='correct planted horses'", "planted horses"),
    "variable": (f"{ENV}.ANY={{oc.env:PLANTED_TOKEN}}".replace("={", "=${"), "from-the-environment"),
    "variable without a telling name": ("trainer.project_name=${oc.env:PLANTED}", "a-project-of-mine"),
    "user of a url": ("trainer.experiment_name='http://planted-user:planted-word@host/x'", "planted-word"),
    "parameter of a url": (f"{ENV}.PROXY='http://host/x?a=1&key=planted-param&b=2'", "planted-param"),
    "form of a token": (f"{ENV}.NOTE=hf_abcdefghijPLANTEDklmnop", "hf_abcdefghijPLANTEDklmnop"),
    "section": ("+reward.reward_kwargs.judge={url: host, api_key: planted-judge}", "planted-judge"),
    "bearer": (f"{ENV}.HEADER='Authorization: Bearer planted-bearer-1'", "planted-bearer-1"),
}
VARIABLES = {"PLANTED_TOKEN": "from-the-environment", "PLANTED": "a-project-of-mine"}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(masking, "_known", {})
    monkeypatch.setattr(masking, "_written", {})
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)


NAMES = """
    WANDB_API_KEY hf_token HF_TOKEN token password apiKey openaiApiKey db_pass AWS_SECRET_ACCESS_KEY client_secret
    DB_PASSWORD access_token authToken private_key GH_PAT credentials SSH_KEY passphrase Authorization
"""


@pytest.mark.parametrize("name", NAMES.split())
def test_is_called_like_a_secret(name):
    assert masking.is_secret_name(name)


def test_no_key_of_verl_is_called_like_a_secret():
    keys = {part for key in config.load_base().raw for part in key.split(".")}
    assert [key for key in sorted(keys) if masking.is_secret_name(key)] == []


@pytest.mark.parametrize("form", FORMS)
def test_a_config_is_written_masked_and_comes_back_whole(form):
    override, secret = FORMS[form]
    values = config.load(config.Request("justrl_tiny", overrides=(override,))).values
    shown, hidden = masking.masked_config(values)
    assert secret in json.dumps(values) and secret not in json.dumps(shown) and hidden
    back = [(tuple(path), value) for path, value in json.loads(json.dumps(hidden))]
    assert masking.replaced(yaml.safe_load(yaml.safe_dump(shown)), dict(back)) == values


@pytest.mark.parametrize("verb", [("run", "--dry-run"), ("validate", "--json"), ("plan", "--gpus", "8")])
def test_no_verb_shows_one(verb, tmp_path):
    overrides = [override for override, _ in FORMS.values()]
    done = verl(verb[0], "justrl_tiny", *verb[1:], *overrides, "trainer.total_epochs=-1", cwd=tmp_path)
    assert "Traceback" not in done.stderr and len(done.stdout + done.stderr) > 100
    assert [secret for _, secret in FORMS.values() if secret in done.stdout + done.stderr] == []


@pytest.mark.parametrize(
    "override",
    [
        f"{ENV}.WANDB_API_KEY=planted-0123{{",
        f"{ENV}.WANDB_API_KEY=planted-0123 extra=1",
        "trainer.no_such.api_key=planted-0123",
        "+trainer={api_key: planted-0123",
        "+trainer.url='http://me:planted-0123@host",
    ],
)
def test_no_error_shows_it(override, tmp_path):
    done = verl("run", "justrl_tiny", override, cwd=tmp_path)
    assert done.returncode == 2 and "planted-0123" not in done.stdout + done.stderr


def test_what_is_no_secret_stays_readable():
    values = config.load(config.Request("justrl_deepseek")).values
    assert masking.masked_config(values) == (values, [])
    for text in ("step 1/3 reward +0.5", "https://host/path?page=2&size=3", "token-mean", "user@host", "a://b/c@d"):
        assert masking.masked(text) == text


@given(st.text(min_size=8, max_size=30).filter(lambda text: len(text.split()) == 1), st.sampled_from([str, repr]))
def test_a_secret_is_hidden_in_any_text_as_it_is_printed(secret, printed):
    masking._known.clear()
    masking.learn({"api_key": secret}, {"api_key": secret})
    assert secret not in masking.masked(f"before {printed(secret)} after {json.dumps(secret)}")


def test_a_stream_hides_what_was_learned_after_it_was_made():
    below = io.StringIO()
    stream = masking.MaskedStream(below)
    masking.learn_overrides(("x.password=planted-later",))
    print("it is planted-later", file=stream)
    assert below.getvalue() == "it is ***\n"
    assert not stream.closed


def test_what_variables_give_is_read_back_from_a_written_config(monkeypatch):
    """So that `verl eval RUN` finds checkpoints below ${oc.env:SCRATCH}."""
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    written = {"a": ["${oc.env:SCRATCH}/runs"], "b": "${oc.env:NOT_SET,/tmp}/x", "c": "${oc.env:NOT_SET}", "d": "***"}
    assert masking.from_environment(written) == {
        "a": ["/scratch/me/runs"],
        "b": "/tmp/x",
        "c": written["c"],
        "d": "***",
    }
    override = "trainer.default_local_dir=${oc.env:SCRATCH}/runs"
    values = config.load(config.Request("justrl_tiny", overrides=(override,))).values
    shown, hidden = masking.masked_config(values)
    assert hidden and masking.from_environment(shown) == values
