"""A checkpoint of a run -> a model folder in Hugging Face's format, whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from justrl_recipe import files
from justrl_recipe.checkpoints import seal, step_of
from justrl_recipe.errors import UserError, first_line
from justrl_recipe.evaluation import checkpoints, models
from justrl_recipe.evaluation.models import Model
from justrl_recipe.evaluation.sampling import PAPER, Sampling
from justrl_recipe.export import base_model, card, evaluations
from justrl_recipe.export.choice import choose
from justrl_recipe.metrics import validation_accuracy
from justrl_recipe.planning.cost import readable
from justrl_recipe.report import runs
from justrl_recipe.run.folder import RunFolder

INDEX = "model.safetensors.index.json"
CONFIG, TOKENIZER, GENERATION = "config.json", "tokenizer_config.json", "generation_config.json"
TEMPLATE = "chat_template.jinja"
ADAPTER_CONFIG = "adapter_config.json"
NOT_COPIED = (INDEX, GENERATION, checkpoints.LORA_RECORD)
COPIED = (".json", ".model", ".jinja", ".txt", ".py")
PLACES = ("_name_or_path", "name_or_path")  # where transformers found what it saves
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Request:
    """What `verl export` is asked for; its help describes it. `name` is the model's in its card."""

    run: Path
    out: Path
    name: str
    step: str
    adapter: bool
    evaluation: Path | None
    trust: bool


def export(request: Request) -> int:
    """Write the folder `request.out`; the step of its checkpoint.

    Raises:
        UserError: there is no such checkpoint or it is not whole, `out` is not empty or cannot be written, or the
            disk has too little space.
    """
    _require_new(request.out)
    run = runs.load(request.run)
    saved = models.checkpoint_folder(request.run)
    if run.manifest is None or saved is None:
        raise UserError(f"{request.run} is not the folder of a run with checkpoints (manifest.json, checkpoints/)")
    validated = ((step, validation_accuracy(data)) for step, data in RunFolder(request.run).steps())
    accuracies = {step: accuracy for step, accuracy in validated if accuracy is not None}
    checkpoint = choose(saved, request.step, accuracies)
    with_adapter = models.require_plain_lora(request.run) or checkpoints.has_adapter(checkpoint)
    if request.adapter and not with_adapter:
        raise UserError(f"{request.run} trained no LoRA adapter: leave out --adapter")
    _require_space(checkpoint, request.out)
    model = models.of_checkpoint(checkpoint, request.run, request.trust)
    evaluation = evaluations.find(model, request.evaluation)
    base = base_model.find(models.base_of(request.run))
    sampling = evaluations.sampling(evaluation) if evaluation else PAPER
    with new_folder(request.out) as folder:
        if request.adapter:
            write_adapter(checkpoint, folder, base.name, request.trust)
        else:
            write_weights(model.folder, folder)
        write_tokenizer(model, folder, whole=not request.adapter)
        sampling = limited(sampling, model.folder)
        write_generation_config(model.folder, folder, sampling)
        card.draw(run, folder)
        hashes = {file.name: seal(file) for file in sorted(folder.iterdir())}
        about = card.About(request.name, model, run, step_of(checkpoint) or 0, base, evaluation, sampling, hashes)
        files.write_text(folder / base_model.CARD, card.render(about, request.adapter))
    return about.step


def _require_new(out: Path) -> None:
    if out.is_symlink():
        raise UserError(f"{out} is a link: give a new folder")
    if os.path.lexists(out) and not out.is_dir():
        raise UserError(f"{out} is a file: give a new folder")
    if os.path.ismount(out) or out.absolute() == Path.cwd():
        raise UserError(f"{out} is a mount or the current folder, which cannot be replaced: give a new folder in it")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out} is not empty: give a new folder")


def _require_space(checkpoint: Path, out: Path) -> None:
    there = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.exists(path))
    need, free = checkpoints.weights_bytes(checkpoint), shutil.disk_usage(there).free
    if need > free:
        raise UserError(f"the model takes up to {readable(need)}, and {readable(free)} are free for {out}: free some")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A scratch folder beside `out` that becomes it when the block ends well, and goes away when not.

    Raises:
        UserError: it cannot be written, e.g. since the disk is full.
    """
    from safetensors import SafetensorError

    out = Path(os.path.abspath(out))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as scratch:
            made = Path(scratch, out.name)
            made.mkdir()
            yield made
            os.replace(made, out)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {out}: {getattr(error, 'strerror', None) or first_line(error)}") from error


def write_weights(source: Path, folder: Path) -> None:
    """The weights of a model folder in bfloat16, file by file, with their index where there are several."""
    import torch
    from safetensors.torch import load_file, save_file

    total = 0
    for file in sorted(source.glob("*.safetensors")):
        weights = {
            name: weight.to(torch.bfloat16) if weight.is_floating_point() else weight
            for name, weight in load_file(file).items()
        }
        total += sum(weight.nbytes for weight in weights.values())
        save_file(weights, folder / file.name, metadata={"format": "pt"})
        (folder / file.name).chmod(0o644)  # safetensors makes it the user's alone
    if (source / INDEX).is_file():
        index = files.read_json_object(source / INDEX)
        files.write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": index["weight_map"]})


def write_adapter(checkpoint: Path, folder: Path, base: str | None, trust: bool) -> None:
    """The LoRA adapter of a checkpoint as PEFT loads it; it names its base where that is on the hub."""
    with checkpoints.unfolded(checkpoint, with_adapter=True, trust=trust) as made:
        write_weights(made / checkpoints.ADAPTER, folder)
        config = files.read_json_object(made / checkpoints.ADAPTER / ADAPTER_CONFIG)
    files.write_json(folder / ADAPTER_CONFIG, {**config, "base_model_name_or_path": base})


def write_tokenizer(model: Model, folder: Path, whole: bool) -> None:
    """The tokenizer with the chat template of the training, and for a `whole` model its config and its code."""
    for file in sorted(model.folder.iterdir()):
        if file.suffix not in COPIED or file.name in NOT_COPIED or (file.name == CONFIG and not whole):
            continue
        if file.name not in (CONFIG, TOKENIZER):
            shutil.copyfile(file, folder / file.name)
            continue
        content = {name: value for name, value in files.read_json_object(file).items() if name not in PLACES}
        if file.name == CONFIG:
            content.pop("torch_dtype", None)  # the name of `dtype` before transformers 4.56
            content["dtype"] = "bfloat16"
        elif model.template.custom:
            content.pop("chat_template", None)
        files.write_json(folder / file.name, content)
    if model.template.custom:
        files.write_text(folder / TEMPLATE, model.template.custom)


def limited(sampling: Sampling, source: Path) -> Sampling:
    """The sampling with no more tokens than the model's context holds."""
    context = files.read_json_object(source / CONFIG).get("max_position_embeddings")
    return replace(sampling, max_tokens=min(sampling.max_tokens, context)) if isinstance(context, int) else sampling


def write_generation_config(source: Path, folder: Path, sampling: Sampling) -> None:
    """The evaluation's sampling, with the model's own special tokens; all else that it might say is left out.

    transformers and vLLM take it as their default. `top_k` 0 is none, where transformers' default is 50.
    """
    before = files.read_json_object(source / GENERATION) if (source / GENERATION).is_file() else {}
    config = files.read_json_object(source / CONFIG)
    tokens = {name: before.get(name, config.get(name)) for name in TOKENS}
    sampled = sampling.temperature > 0
    content = {
        **{name: token for name, token in tokens.items() if token is not None},
        "do_sample": sampled,
        **({"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0} if sampled else {}),
        "max_new_tokens": sampling.max_tokens,
    }
    files.write_json(folder / GENERATION, content)
