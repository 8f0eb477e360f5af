"""`resume=DIRECTORY` becomes the command line of the run to resume."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tpt.cli.command_line import parsed, swept_values
from tpt.cli.quoting import for_hydra, setting
from tpt.cli.resume import Start, continued, is_taken, keep_start, read_start
from tpt.errors import UserError
from tpt.files import dotted_values

NEEDS_WORD = "was not started by you on this machine"


def run(folder: Path, *settings: str, program: str = "test_time", sweep: bool = False, **more: Any) -> Path:
    """Creates a run's directory with this user's signature."""
    folder.mkdir(parents=True, exist_ok=True)
    keep_start(folder, Start(program=program, settings=list(settings or ("seed=1",)), sweep=sweep, **more))
    return folder


def theirs(folder: Path, *settings: str, **more: Any) -> Path:
    """Creates a run's directory without this user's signature, as anybody could."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"program": "test_time", "settings": list(settings), "sweep": False, **more}
    (folder / "start.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("name", ["a", "a b", "it's", 'say "x"', "a=b,c", "données", "[x]", "back\\slash", "#1", "~"])
def test_a_run_is_resumed_from_any_path(name: str, tmp_path: Path) -> None:
    folder = run(tmp_path / name)
    for given_as in (str(folder), for_hydra(str(folder)), f"'{folder}'" if "'" not in name else str(folder)):
        first, added, where, resume = continued([f"resume={given_as}", "data.num_workers=2"], "test_time")
        assert (first, added, resume) == ("seed=1", "data.num_workers=2", "resume=auto")
        assert OverridesParser.create().parse_override(where).value() == str(folder)


def test_a_sweep_is_resumed(tmp_path: Path) -> None:
    run(tmp_path, "seed=1,2", sweep=True)
    assert continued([f"resume={tmp_path}"], "test_time")[:2] == ["--multirun", "seed=1,2"]


@pytest.mark.parametrize("value", ["auto", "null", "a/last.ckpt"])
def test_other_values_of_resume_stay_unchanged(value: str) -> None:
    assert continued([f"resume={value}", "seed=1"], "train_coop") == [f"resume={value}", "seed=1"]
    assert continued(["seed=1"], "test_time") == ["seed=1"]


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", '{"program": "test_time"}', '{"settings": [1]}', "\udce9", "[" * 10**5]
)
def test_a_damaged_start_is_reported(damage: str, tmp_path: Path) -> None:
    (tmp_path / "start.json").write_bytes(damage.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match="or are damaged"):
        continued([f"resume={tmp_path}"], "test_time")


@pytest.mark.parametrize("file", [".hydra/overrides.yaml", "multirun.yaml", ".hydra/hydra.yaml"])
def test_hydras_files_are_not_read(file: str, tmp_path: Path) -> None:
    """Hydra rewrites them at every start, even of a run that is then refused."""
    run(tmp_path)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / file).write_text("- seed=5\n- [")
    assert continued([f"resume={tmp_path}"], "test_time")[0] == "seed=1"


@pytest.mark.parametrize("manifest", ["run.json", "training_run.json"])
def test_a_run_without_start_json_is_refused(manifest: str, tmp_path: Path) -> None:
    (tmp_path / manifest).write_text("{}")
    with pytest.raises(UserError, match=rf"has {manifest} but no start.json, .*; give the run's settings"):
        continued([f"resume={tmp_path}"], "test_time")


def test_the_start_is_kept_once_there_are_results(tmp_path: Path) -> None:
    run(tmp_path, "seed=1")
    run(tmp_path, "seed=2", "resume=auto", "trust=true")  # replaces a start without results
    (tmp_path / "run.json").write_text("{}")
    run(tmp_path, "seed=3")
    begun = read_start(tmp_path)
    assert begun is not None and begun.settings == ["seed=2"]


def test_other_programs_runs_and_interpolations_are_refused(tmp_path: Path) -> None:
    folder = run(tmp_path / "a", program="train_coop")
    with pytest.raises(UserError, match=r"got .*, a run of train_coop.py; use that"):
        continued([f"resume={folder}"], "test_time")
    assert "resume=auto" in continued([f"resume={folder}"], "train_coop")
    with pytest.raises(UserError, match="Expected a directory without"):
        continued([f"resume={tmp_path}/${{x}}"], "test_time")
    with pytest.raises(UserError, match="There is no run or sweep of"):
        continued([f"resume={tmp_path}/nowhere"], "test_time")


PLAIN = (
    "method=zero_shot", "method=tpt,zero", "method.steps=3", "method.steps=1,2", "method.lr=interval(0.1,1)",
    "seed=5", "method.templates=imagenet_80", "method.templates=['a {}.','the {}, a pet']",
    "backbone@method.reward=rn50", "backbone=vit_b16", "backbone.name=RN50", "backbone.pretrained=openai",
    "data=folder", "data.keys=[dtd,eurosat]", "data.limit=null", "data.class_names=[cat,'hot air balloon']",
    "context.ctx_init='a/b: ~ a photo of a [CLS].'", "context.path=emoji-mini/coop", "learned.coop=emoji-mini/coop",
    "experiment=[table1,smoke]", "row=null", "tags=[http://a]", "notes='see ../paper'", "name=x", "debug=limit",
    "trainer.limit_test_batches=2", "threads=1", "trainer.devices=2", "trainer.precision=bf16-mixed", "cache=off",
    "cache=on", "logger=none", "logger=csv", "logger=[csv]", "callbacks=default", "trainer=default",
    "callbacks.records.logits=true", "learner.epochs=3", "shots.k=4", "data.orientation=ignore",
    "views.augmix.severity=2", "optimizer=sgd", "data.split=test", "+trainer.max_steps=2",
    "+trainer.limit_val_batches=1",
)  # fmt: skip
BEYOND = (
    "logger=mlflow", "logger=[wandb]", "logger=[csv,wandb]", "logger=csv,mlflow", "logger=../logger/wandb",
    "logger.x=1", "logger.mlflow.tracking_uri=' http://a'", "logger.wandb.offline=false", "logger={a: 1}",
    "cache.folder=x", "cache.max_gb=0", "cache=other", "callbacks=mine", "callbacks.x=1",
    "callbacks.records.folder=x", "trainer=mine", "trainer.profiler.dirpath=/tmp", "trainer.profiler=simple",
    "trainer.default_root_dir=x", "trainer.plugins=[a]", "trainer.logger=true", "trainer.callbacks=[a]",
    "trainer.strategy=deepspeed", "hydra.run.dir=x", "hydra=x", "hydra/launcher=joblib", "hydra.searchpath=[a]",
    "hydra.job.env_set.A=b", "search=optuna", "trust=true", "resume=x", "+seed=5", "++seed=5", "~logger",
    "+method.x=1", "+logger=csv", "~method.lr", "--config-dir=/tmp", "--multirun", "notes=${oc.env:X}",
    "notes='${oc.env:X}'", 'notes="\\${oc.env:X}"', "tags=[a,[b,'x ${oc.env:X}']]", "seed=${seed}",
    "method.steps=choice(1,'${oc.env:X}')", "context.ctx_init='a ${oc.env:X}'", "tags=[{a: '${oc.env:X}'}]",
    "method._target_=os.system", "method={_target_: os.system}", "data.keys=[[{_target_: x}]]",
    "seed={a: {_args_: 1}}", "method.optimizer._partial_=false", "tags=[{_target_: x}]",
    "data.module.datasets.0._target_=x", "views._target_=a,b", "data.root=x", "data.root=/etc", "data.root=[a]",
    "data.path=x", "data.shards=x", "shots.root=x", "context.path=x", "data.module.datasets.0.root=x",
    "learned.coop=x", "learned.coop=emoji-mini/../x", "learned.folder=x", "data={root: x}",
    "data.class_names=/etc/passwd", "method.templates=names.txt", "data.class_names=names.txt",
    "method.templates=../t", "backbone.pretrained=~/a", "backbone.pretrained=./a", "backbone.name=local-dir:x",
    "backbone.name=hf-hub:a/b", "backbone.name='C:\\x'", "data.name=' //host/x'", "data.name=file:x",
    "data.name=sqlite:///x", "data.name=' ~/x'", "experiment=../../elsewhere/evil", "experiment=/tmp/evil",
    "method=['/tmp/x']", "method=glob(*)", "method=~/x", "backbone@logger.x=rn50", "backbone@_global_=rn50",
    "+trainer.precision=16-mixed", "+trainer.devices=2", "+trainer.strategy=ddp",
    "data@callbacks=folder", "x=1", "method.ste", "", "=", "a=b=[",
)  # fmt: skip


@pytest.mark.parametrize("setting", PLAIN)
def test_options_and_numbers_are_accepted_from_any_directory(setting: str, tmp_path: Path) -> None:
    assert is_taken(setting)
    assert setting in continued([f"resume={theirs(tmp_path / 'a', setting)}"], "test_time")


@pytest.mark.parametrize("setting", BEYOND)
def test_all_other_settings_need_approval(setting: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes away with `trust=true`, or with the same setting on the command line, which takes precedence."""
    monkeypatch.chdir(tmp_path)
    Path("names.txt").touch()
    folder = theirs(tmp_path / "a", "seed=1", setting)
    for sweep in (False, True):
        theirs(folder, "seed=1", setting, sweep=sweep)
        with pytest.raises(UserError, match=f"{NEEDS_WORD}.* add trust=true if") as error:
            continued([f"resume={folder}"], "test_time")
        assert repr(setting) in str(error.value) and "seed=1" not in str(error.value)
    assert setting in continued([f"resume={folder}", "trust=true"], "test_time")
    key = setting.partition("=")[0]
    if key and not key.startswith(("--", "resume")):
        line = continued([f"resume={folder}", f"{key}=given"], "test_time")
        assert setting not in line and f"{key}=given" in line


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(st.sampled_from(list("ab_./:~$\\{}[]'\" ,=+@")), max_size=12))
@example("\\=")  # Hydra drops the backslash of an escaped character
@example("{a:b}")
def test_accepted_values_name_no_code_and_no_path(value: str) -> None:
    for key in ("method.x", "data.y", "seed"):
        if is_taken(f"{key}={value}"):
            read = [str(leaf) for one in swept_values(parsed(f"{key}={value}")) for _, leaf in dotted_values(one)]
            assert not any({"/", ":", "\\"} & {*text} or text.startswith("~") for text in read) and "${" not in value


def test_the_users_own_runs_need_no_approval(tmp_path: Path) -> None:
    """A moved run is still trusted; a run whose settings or signature were changed is not."""
    own = run(tmp_path / "a", "logger=wandb", "+callbacks.x._target_=x").rename(tmp_path / "b")
    assert "logger=wandb" in continued([f"resume={own}"], "test_time")
    before = json.loads((own / "start.json").read_text())
    for change in (
        {"settings": [*before["settings"], "logger=mlflow"]},
        {"sweep": True},
        {"cwd": "/"},
        {"folders": ["/a"]},
    ):
        (own / "start.json").write_text(json.dumps({**before, **change}))
        with pytest.raises(UserError, match=NEEDS_WORD):
            continued([f"resume={own}"], "test_time")
    for signature in ("", "0" * 64, "é", "\udce9"):
        (own / "start.json").write_text(json.dumps({**before, "signature": signature}))
        with pytest.raises(UserError, match=NEEDS_WORD):
            continued([f"resume={own}"], "test_time")


def test_the_key_is_readable_only_by_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    own = run(tmp_path / "a", "logger=wandb")
    key = tmp_path / "config" / "tpt" / "key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600 and len(key.read_bytes()) == 32
    assert key.read_bytes() not in (own / "start.json").read_bytes()
    continued([f"resume={own}"], "test_time")
    key.chmod(0o644)  # others could have read it and signed
    with pytest.raises(UserError, match=NEEDS_WORD):
        continued([f"resume={own}"], "test_time")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "b"))
    with pytest.raises(UserError, match=NEEDS_WORD):
        continued([f"resume={own}"], "test_time")


def test_runs_are_unsigned_if_no_key_can_be_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    assert json.loads((run(tmp_path / "a") / "start.json").read_text())["signature"] == ""
    assert "seed=1" in continued([f"resume={tmp_path / 'a'}"], "test_time")


@pytest.mark.parametrize("what", ["pipe", "device", "link out", "folder out", "loop"])
def test_special_files_and_outward_links_need_approval(what: str, tmp_path: Path) -> None:
    folder = theirs(tmp_path / "a", "seed=1")
    path = folder / "csv" / "metrics.csv"
    path.parent.mkdir()
    if what == "pipe":
        os.mkfifo(path)
    else:
        to = {"device": "/dev/zero", "link out": tmp_path / "new", "folder out": tmp_path, "loop": path}
        path.symlink_to(to[what])
    with pytest.raises(UserError, match=f"{NEEDS_WORD}.*metrics.csv, which is not a file or folder inside it"):
        continued([f"resume={folder}"], "test_time")
    continued([f"resume={folder}", "trust=true"], "test_time")
    path.unlink()
    path.symlink_to(folder / "start.json")
    continued([f"resume={folder}"], "test_time")


def test_a_run_resumes_in_its_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its working directory and option folders; paths given now are relative to the current directory."""
    began, here = tmp_path / "began", tmp_path / "here"
    for folder in (began, here / "pictures", here / "conf"):
        folder.mkdir(parents=True)
    own = run(tmp_path / "a", "data.root=p", cwd=str(began), folders=["/their/conf"])
    monkeypatch.chdir(here)
    line = continued(["resume=../a", "data.num_workers=2"], "test_time")
    assert Path.cwd() == began and {"data.root=p", "hydra.searchpath=[file:///their/conf]"} <= {*line}
    monkeypatch.chdir(here)
    line = continued(["--config-dir", "conf", f"resume={own}", "data.root=pictures", "data.split=conf"], "test_time")
    given = [
        f"--config-dir={here}/conf",
        "--config-dir",
        f"{here}/conf",
        f"data.root={here}/pictures",
        "data.split=conf",
    ]
    assert {*given[1:]} <= {*line} and "data.root=p" not in line and not any("searchpath" in text for text in line)
    monkeypatch.chdir(here)
    assert f"--config-dir={here}/conf" in continued(["--config-dir=conf", f"resume={own}"], "test_time")
    monkeypatch.chdir(here)
    theirs(own, "seed=1", cwd=str(began))
    continued([f"resume={own}"], "test_time")
    assert Path.cwd() == here


ALPHABET = st.sampled_from(list("a1.-\\\"'${}() ,=[]~#é\n\t:/"))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text(ALPHABET, max_size=12))
@example("\\${a}")
@example('\\"')
@example("null")
def test_hydra_reads_back_quoted_text(text: str) -> None:
    value = OverridesParser.create().parse_override(f"a={for_hydra(text)}").value()
    assert OmegaConf.create({"a": value}).a == text


def test_a_plain_path_stays_plain() -> None:
    assert setting("data.root", "/a/b-c.zip") == "data.root=/a/b-c.zip"
    assert setting("data.root", "/a b") == """'data.root="/a b"'"""
