"""models: pack and install trained models.

    skinkit models list
    skinkit models pack NAME --output FILE [--card FILE.toml] [--no-replay]
    skinkit models install FILE [--name NAME] [--sha256 HEX] [--replace]
    skinkit models verify [NAME or FILE]
    skinkit models export NAME --to onnx [--int8] [--output FILE] [--card FILE.toml]

The file holds the classifier, the segmentation network of its masks, and all settings between photo and prediction; no
photos and no ids of cases, lesions or patients. Of a classifier that reads photos through a backbone it also holds
replay features: what its last, linear step reads of at most --replay-cases training cases of each class (numbers of the
backbone, and the encoded metadata where that step reads them), their classes and the model's answers, so that it can be
adapted to other photos without forgetting these. --no-replay leaves them out.

'pack' prints its SHA-256: send it over another channel and pass it to 'install' or 'verify', which read every byte. An
installed model is frozen: never stale, never retrained. In a workspace without development cohorts the first installed
model becomes the default of 'skinkit predict'.

'export' writes a network of one photo, or of one photo and attributes, for programs without skinkit and torch: an ONNX
file that answers calibrated probabilities of every task, malignancy and the call, as the mean over all folds. Its
metadata say how to prepare photo and attributes (skinkit.contract), and hold the model card. --int8 also writes a
smaller file, NAME.int8.onnx. A table says how far the files answer from the network on photos of the workspace, and how
fast. 'skinkit predict --onnx FILE' predicts by such a file.

What a model card leaves to a person is written in a TOML file, with the names that stand in model_card.json, and goes
into the pack, or the exported file, by --card:

    ethics = "..."
    [model]
    licence = "CC BY 4.0"
    contact = "..."
    [training_data]
    sources = ["photos: PAD-UFES-20, CC BY 4.0", "..."]
    [segmenter.training_data]
    sources = ["844 masks: ..., MIT"]
    [replay_features]
    licence = "CC BY 4.0, as the photos"
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from skinkit.api import described_models
from skinkit.artifacts.artifact import exists, open_artifact
from skinkit.artifacts.files import write_atomic
from skinkit.commands import Context
from skinkit.commands._output import checked
from skinkit.commands.verify import changed_files, verdict
from skinkit.console import as_lines
from skinkit.errors import ConfigError, InputError, RefusedError
from skinkit.learning import pack as model_pack
from skinkit.options import MODEL, ONE_MODEL_ARGUMENT, Help, make_config
from skinkit.stages import MAKER, load_stage
from skinkit.workspace import SETTINGS_FILE, Ref, Workspace, with_defaults

PANEL = "Hand over", 3


@dataclass(frozen=True)
class Config:
    """Options of the command."""

    action: Annotated[
        Literal["list", "pack", "install", "verify", "export"],
        Help("list, pack, install, verify or export", positional=True, metavar="ACTION"),
    ] = "list"
    model: Annotated[
        str, replace(ONE_MODEL_ARGUMENT, text=f"{MODEL}; install, verify: a file", metavar="NAME|FILE")
    ] = ""
    output: Annotated[
        str,
        Help("pack, export: the file to write (default: NAME.skinkit, NAME.onnx)", metavar="FILE", writes="pack"),
    ] = ""
    card: Annotated[
        str,
        Help(
            "pack, export: TOML with what a person writes into the model card: licence, contact, sources",
            metavar="FILE",
        ),
    ] = ""
    replay: Annotated[bool, "pack: with replay features of training cases, to adapt the model later"] = True
    replay_cases: Annotated[int, "pack: replay features of at most so many training cases of a class, a fold"] = 20
    seed: Annotated[int, "pack: draws these cases"] = 0
    to: Annotated[Literal["", "onnx"], "export: the format"] = ""
    int8: Annotated[bool, "export: also write a smaller file whose weights are 8-bit integers"] = False
    cases: Annotated[
        int, Help("export: cases of the workspace that the files are compared on, at most", former="photos")
    ] = 100
    name: Annotated[str, "install: name of the model here (default: its name in the pack)"] = ""
    sha256: Annotated[str, Help("install, verify: expected SHA-256 of the file", metavar="HEX")] = ""
    replace: Annotated[bool, "replace an existing model (install) or file (pack, export)"] = False


def run(config: Config, context: Context) -> Mapping[str, Any]:
    """List, pack, install, verify or export."""
    if not config.model and config.action in ("pack", "install", "export"):
        what = "a file" if config.action == "install" else "the name of a model"
        raise ConfigError(f"'skinkit models {config.action}' alone", what, f"skinkit models {config.action} ...")
    if config.card and config.action not in ("pack", "export"):
        found = f"--card {config.card} with 'skinkit models {config.action}'"
        raise ConfigError(found, "it with 'skinkit models pack' or 'export'", "leave it out")
    plain = Config()
    replay = [f"--{'' if config.replay else 'no-'}replay"] if config.replay != plain.replay else []
    replay += [f"--replay-cases {config.replay_cases}"] if config.replay_cases != plain.replay_cases else []
    replay += [f"--seed {config.seed}"] if config.seed != plain.seed else []
    if replay and config.action != "pack":
        found = f"{replay[0]} with 'skinkit models {config.action}'"
        raise ConfigError(found, "it with 'skinkit models pack' alone", "leave it out")
    if config.replay_cases < 1:
        raise ConfigError(f"--replay-cases {config.replay_cases}", "1 or more", "give --no-replay for none")
    if (config.to or config.int8) and config.action != "export":
        found = f"--to or --int8 with 'skinkit models {config.action}'"
        raise ConfigError(found, "them with 'skinkit models export' alone", "leave them out")
    actions = {"list": _list, "pack": _pack, "install": _install, "verify": _verify, "export": _export}
    return actions[config.action](config, context)


def _list(config: Config, context: Context) -> dict[str, Any]:
    workspace = context.workspace()
    rows = described_models(workspace)
    width = max((len(row["name"]) for row in rows), default=0)
    lines = [
        f"{row['name']:<{width}}  {row['kind']:<16} {row['task']:<9} {row['origin']:<9} {row['identity'][:12]}  "
        f"{row['mib']:.1f} MiB{'  (default)' if row['default'] else ''}"
        + (f"  (trained with the synthetic images {row['synthetic']})" if row["synthetic"] else "")
        + (f"  (replay features of {row['replay_cases']} cases)" if row["replay_cases"] else "")
        + (f"  (has learnt nothing: {row['untrained']})" if row["untrained"] else "")
        + (f"  (has learnt from {row['withdrawn_images']} withdrawn photos)" if row["withdrawn_images"] else "")
        for row in rows
    ]
    return {"models": rows, "text": as_lines(lines) or f"no model in {workspace.root}"}


def _pack(config: Config, context: Context) -> dict[str, Any]:
    output = checked("--output", "pack", config.output or f"{config.model}.skinkit", context)
    if output.exists() and not config.replace:
        raise RefusedError(f"{output} exists", "a new file", "give another --output, or --replace")
    from skinkit.commands import _packing  # it loads pandas

    workspace = context.workspace()
    by_person = _by_person(Path(config.card).expanduser()) if config.card else None
    cases = config.replay_cases if config.replay else 0
    replayed = _packing.replay_of(
        model_pack.trained(config.model, workspace), config.model, context, per_class=cases, seed=config.seed
    )
    changed = _packing.changes(config.model, replayed, by_person, config.card)
    pack, sha256 = model_pack.write(workspace, config.model, output, changed)
    size = output.stat().st_size
    lines = [f"{output}: {_parts(pack)}, {size / 2**20:.1f} MiB", replayed.sentence, f"sha256 {sha256}"]
    about = {"file": str(output), "bytes": size, "sha256": sha256, "replay": replayed.rows or None}
    about["replay_note"] = replayed.sentence
    return {**_answer(pack), **about, "text": as_lines(lines)}


def _export(config: Config, context: Context) -> dict[str, Any]:
    if not config.to:
        raise ConfigError("export without --to", "a format: onnx", f"skinkit models export {config.model} --to onnx")
    from skinkit.commands import _onnx_export
    from skinkit.reporting import model_card

    card = model_pack.trained(config.model, context.workspace()).json(model_card.FILES[1])
    if config.card:
        file = Path(config.card).expanduser()
        written = _by_person(file)
        written.pop(model_pack.SEGMENTER, None)
        card = json.loads(model_card.filled(card, written, str(file))[model_card.FILES[1]])
    return _onnx_export.run(
        config.model,
        config.output,
        card,
        context,
        int8=config.int8,
        photos=config.cases,
        replace=config.replace,
    )


def _by_person(file: Path) -> dict[str, Any]:
    """What a person wrote for model cards."""
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"--card {file}: {error.strerror}", "a TOML file", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: {error}", "a valid UTF-8 TOML file", "correct the file") from None


def _install(config: Config, context: Context) -> dict[str, Any]:
    from skinkit.learning import untrained
    from skinkit.learning.trained import open_whole  # it loads pandas

    workspace = context.workspace()
    path = Path(config.model).expanduser()
    _check_settings(model_pack.verify(path, config.sha256), path)  # every byte, before anything is touched
    pack, names = model_pack.install(
        workspace, path, open_whole, name=config.name, sha256=config.sha256, replace=config.replace
    )
    lines = [f"installed {part} {name} in {workspace.root}" for part, name in names.items()]
    name = names.get(model_pack.CLASSIFIER, "")
    if name and (found := untrained.of_artifact(open_artifact(workspace.path(Ref("models", name=name))))) is not None:
        context.console.warn(f"{name} {untrained.sentence(found)}")
    default = bool(name) and _make_default(workspace, name)
    if default:
        lines.append(f"{workspace.root / SETTINGS_FILE}: {name} is the model that is used where none is named")
    elif name:
        lines.append(f"next: skinkit predict --model {name}")
    return {**_answer(pack), "installed": names, "default": default, "text": as_lines(lines)}


def _check_settings(pack: model_pack.Pack, path: Path) -> None:
    """Refuse settings unknown to this version's stages now rather than in a later, unattended run."""
    for kind, request in pack.asks_for.items():
        make_config(load_stage(MAKER[kind]).Config, request["config"], where=str(path))


def _make_default(workspace: Workspace, name: str) -> bool:
    """Make this model the workspace's default if the default model does not exist; returns whether it is."""
    if workspace.with_role("development"):
        return False
    now = workspace.defaults["model"]
    if now != name and exists(workspace.path(Ref("models", name=now))):
        return False
    fused = model_pack.fused_name(open_artifact(workspace.path(Ref("models", name=name))))
    file = workspace.root / SETTINGS_FILE
    text = with_defaults(file.read_text(encoding="utf-8"), {"model": name, "segmenter": fused}, file)
    write_atomic(file, text.encode())
    return True


def _verify(config: Config, context: Context) -> dict[str, Any]:
    if config.model and (config.sha256 or "/" in config.model or Path(config.model).is_file()):
        pack = model_pack.verify(Path(config.model).expanduser(), config.sha256)
        text = f"{config.model}: {_parts(pack)}; {len(pack.files)} files verified"
        return {**_answer(pack), "verified": len(pack.files), "changed": {}, "text": text}
    workspace = context.workspace()
    if config.model:
        model_pack.trained(config.model, workspace)
    names = [config.model] if config.model else model_pack.models_of(workspace)
    changed = {name: changed_files(workspace, Ref("models", name=name)) for name in names}
    again = " and ".join(f"'skinkit train --name {name} --replace'" for name, files in changed.items() if files)
    return verdict("models", changed, f"install the file they came in with --replace, or run {again}")


def _parts(pack: model_pack.Pack) -> str:
    return ", ".join(
        f"{part} {content['name']} ({content['manifest']['identity'][:12]})" for part, content in pack.parts.items()
    )


def _answer(pack: model_pack.Pack) -> dict[str, Any]:
    return {
        "name": pack.name,
        "identity": pack.identity,
        "parts": {part: {"name": t["name"], "identity": t["manifest"]["identity"]} for part, t in pack.parts.items()},
    }
