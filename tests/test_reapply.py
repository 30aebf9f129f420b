"""`reapply`: the same design on new weights, and whether its limits still hold."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from transformers import BertConfig

from evaluators.base import Train, trained
from evaluators.models import architecture, load_classifier, save
from evaluators.tasks.base import encode
from evaluators.tasks.files import FileTask
from evaluators.training.finetune import FinetuneSettings, finetune
from evaluators.transformer import unpacked
from search import front_file, run
from search.certificate import Certificate, Test, non_inferiority_of_counts
from search.config import RunConfig, read_yaml
from search.figures import MemberFigures, Pick
from search.front_file import FrontFile, SplitRecord
from search.reapplied import shown
from search.reapply import Reapplied, chosen, missed, trainings
from search.record import Record
from search.so_far import read_config
from spaces.axes.pruning import Pruning
from spaces.axes.quantization import Quantization
from spaces.design import Member, content_key
from spaces.errors import RunError
from spaces.objectives import KL
from spaces.shape import ModelShape
from tests.example_run import write_run
from tests.made_members import member
from tests.test_cli import call, exit_code, refused
from tests.tiny_task import SHORT, write_encoder, write_rows

FAIR = replace(member("fair", 0.0, 4.5, 90.0), decoded=None)
ROWS = {name: SplitRecord(1500, name) for name in ("search", "confirm", "test")}


def front(drop: float, *, ms: float = 2.0, certificate: Certificate | None = None) -> FrontFile:
    """A verified run of one member under limits on accuracy and latency."""
    one = replace(member("1" * 16, drop, ms, 20.0), decoded=None)
    return FrontFile(
        "run",
        0,
        limits={"accuracy_drop": "1pt", "latency": "50%"},
        splits=ROWS,
        baselines={"fair": FAIR},
        members=(one,),
        picks=(Pick("limits", one.key, False, "why"), Pick("knee", one.key, False, "why")),
        certificate=certificate,
    )


def certificate_of(lost: int) -> Certificate:
    test = non_inferiority_of_counts(lost, 0, 1500, 0.01)
    return Certificate({"1" * 16: test})


def test_limits_that_no_longer_hold_are_named_with_what_is_found() -> None:
    assert missed(front(0.004), front(0.009), "1" * 16) == []
    assert missed(front(0.004), front(0.013), "1" * 16) == ["accuracy drop <= 1pt: now 1.30 pt, 0.30 pt short"]
    (slow,) = missed(front(0.004), front(0.004, ms=2.7), "1" * 16)  # 50 % of the new original's 4.5 ms is 2.25
    assert slow == "latency <= 50%: now 2.7 ms, 20.0% over"


def test_a_certificate_that_was_given_must_be_given_again() -> None:
    sure, unsure = front(0.002, certificate=certificate_of(3)), front(0.008, certificate=certificate_of(12))
    assert isinstance(unsure.certificate, Certificate)
    assert isinstance(unsure.certificate.tests["1" * 16], Test)
    assert missed(sure, sure, "1" * 16) == missed(unsure, unsure, "1" * 16) == missed(unsure, sure, "1" * 16) == []
    (phrase,) = missed(sure, unsure, "1" * 16)
    assert "certified within 1pt before, and no longer on 1,500 confirm rows" in phrase


def test_a_model_that_must_not_be_picked_holds_nothing() -> None:
    bad = front(0.0)
    bad = replace(bad, members=(replace(bad.members[0], note="collapsed: it predicts one class only"),))
    assert missed(front(0.0), bad, "1" * 16) == ["collapsed: it predicts one class only"]


def test_a_member_is_meant_by_its_key_its_beginning_or_a_pick(tmp_path: Path) -> None:
    write_run(tmp_path)
    found = front_file.read(tmp_path)
    picks = {pick.name: pick.key for pick in found.picks}
    assert chosen(found, None).key == picks["limits"]
    assert chosen(found, "fastest").key == picks["fastest"]
    key = str(picks["knee"])
    assert chosen(found, key).key == chosen(found, key[:8]).key == key
    empty = replace(found, picks=(Pick("limits", None, False, "no member meets it"), *found.picks[1:]))
    assert chosen(empty, None).key == picks["knee"]
    with pytest.raises(RunError, match="The pick limits of example is empty: no member meets it"):
        chosen(empty, "limits")
    with pytest.raises(RunError, match=r"has no members 'fastets'\. Give a key of .* a pick: limits, knee"):
        chosen(found, "fastets")
    one = found.members[0]
    for changed, why in (({"kind": "cascade", "parents": ("a", "b")}, "cascade of a, b"), ({"weights": "x:1"}, "x:1")):
        with pytest.raises(RunError, match=why):
            chosen(replace(found, members=(replace(one, **changed),)), one.key)


def test_both_runs_stand_beside_each_other() -> None:
    done = Reapplied("1" * 16, front(0.004), front(0.013), Path("results/second"), ("accuracy drop <= 1pt: ...",))
    table = shown(done, "table", None)
    assert "0.40 [-0.40, 1.20]" in table
    assert "1.30 [0.50, 2.10]" in table
    assert table.index("before") < table.index("now")
    assert done.held
    assert not replace(done, before=front(0.02)).held
    document = json.loads(shown(done, "json", None))
    assert (document["holds"], document["same_rows"], document["exported"]) == (False, True, None)
    pair = document["models"]["1" * 16]
    assert (pair["before"]["drop"]["value"], pair["now"]["drop"]["value"]) == (0.004, 0.013)
    other = replace(done.now, splits={**ROWS, "confirm": SplitRecord(1500, "others")})
    assert "not those of the run before" in shown(replace(done, now=other), "table", None)
    here = {"label": "here", "device": "cpu", "processor": "a", "runtime": "onnxruntime", "runtime_version": "1"}
    here |= {"threads": 1, "batch_size": 1, "lengths": "real"}
    moved = (
        replace(each, targets=({**here, "processor": name},)) for each, name in ((done.before, "a"), (done.now, "b"))
    )
    before, now = moved
    assert "timed on another machine" in shown(replace(done, before=before, now=now), "table", None)
    assert "timed on another machine" not in table


def test_a_shape_is_known_without_weights(tmp_path: Path) -> None:
    BertConfig(
        hidden_size=32, num_attention_heads=4, intermediate_size=48, num_hidden_layers=3, vocab_size=99
    ).save_pretrained(tmp_path)
    assert architecture(str(tmp_path)) == ("bert", ModelShape(3, 4, 8, 48, 32, 99))


def test_the_ids_of_weights_say_how_they_were_trained(tmp_path: Path) -> None:
    shape = ModelShape(2, 2, 4, 8, 8, 20)
    cut = Member((Pruning.identity(shape), Quantization.uniform(shape)))
    chain = [cut]
    for epochs in (0, 1, 3):
        chain.append(replace(cut, weights=Train(chain[-1], epochs).weights))
    narrow = Member((Pruning.identity(shape), Quantization.uniform(shape, 8)), chain[-1].weights)
    record = Record.create(tmp_path, objectives=[KL], bounds=[])
    for each in (*chain, narrow):
        record.start(None, each)
    known = MemberFigures(narrow.key, "single", narrow.decoded, weights=narrow.weights)
    steps = trainings(tmp_path, RunConfig(), known)
    assert [(each.weights, each.epochs) for each in steps] == [
        ("finetuned", 0),
        (chain[1].weights, 1),
        (chain[2].weights, 3),
    ]
    assert {str(each.decoded) for each in steps} == {str(cut.decoded)}
    assert trainings(tmp_path, RunConfig(), replace(known, weights="finetuned")) == ()
    with pytest.raises(RunError, match="does not say how"):
        trainings(tmp_path, RunConfig(), replace(known, weights="recovered:0123456789abcdef"))


def test_what_cannot_be_reapplied_is_refused_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder, other = tmp_path / "run", write_encoder(tmp_path / "encoder")
    found = write_run(folder)
    for baseline in found["baselines"].values():
        baseline["artifact"] = f"baseline/{baseline['key']}"
    (folder / "front.json").write_text(json.dumps(found))
    config = json.loads((other / "config.json").read_text())
    (folder / "baseline" / "fair").mkdir(parents=True)
    (folder / "baseline" / "fair" / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    out = tmp_path / "second"
    message = refused(capsys, "reapply", folder, "--model", other, "--out", out)
    assert "is another architecture than the run's original: layers 2 instead of 3" in message
    assert "Unknown model 'minilmm'" in refused(capsys, "reapply", folder, "--model", "minilmm", "--out", out)
    assert "no members 'abc'" in refused(capsys, "reapply", folder, "--model", other, "--key", "abc", "--out", out)
    assert "is not empty" in refused(capsys, "reapply", folder, "--model", other, "--export", folder)
    assert "front.json" in refused(capsys, "reapply", tmp_path, "--model", other)
    assert not out.exists()


def test_a_checkpoint_says_which_rows_it_was_trained_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARETOFORMER_CACHE", str(tmp_path / "cache"))
    rows, encoder = write_rows(tmp_path / "rows.csv", rows=80), write_encoder(tmp_path / "encoder")
    asked = ("finetune", "--model", encoder, "--task", rows, "--epochs", 1, "--seed", 1)
    for split_seed, further in ((1, ()), (0, ("--split-seed", 0))):
        out = tmp_path / f"of-{split_seed}"
        code, _, err = call(capsys, *asked, *further, "--out", out)
        assert code == 0, err
        assert (
            json.loads((out / "trained_on.json").read_text())["train"] == FileTask(rows).splits(split_seed).train.sha256
        )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of a tiny encoder with a distilled member, under a limit that all keep."""
    folder = tmp_path_factory.mktemp("searched")
    rows, encoder = write_rows(folder / "rows.csv", rows=600), write_encoder(folder / "encoder")
    (folder / "run.yaml").write_text(
        f"model: {encoder}\ntask: {{file: {rows}}}\nspace: {{pruning: {{ffn_group: 16}}}}\n"
        "limits: {accuracy_drop: 60pt}\nsearch: {trials: 8, rows: 60, workers: 1}\nrecover: {members: 1, epochs: 2}\n"
        f"{SHORT}"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARETOFORMER_CACHE", str(folder / "cache"))
        assert exit_code("search", folder / "run.yaml", "--out", folder / "run") == 0
        yield folder / "run"


@pytest.mark.slow
def test_a_checkpoint_like_a_run_s_is_trained_on_the_run_s_rows(
    searched: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ("finetune", "--like", searched, "--epochs", 1, "--seed", 7, "--out", tmp_path / "out")
    code, _, err = call(capsys, *asked)
    assert code == 0, err
    trained = json.loads((tmp_path / "out" / "trained_on.json").read_text())
    assert trained["train"] == FileTask(searched.parent / "rows.csv").splits(0).train.sha256
    assert "Leave --task" in refused(capsys, *asked, "--task", "x.csv")


def test_a_checkpoint_is_of_a_model_and_a_task(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--model and --task, or --like" in refused(capsys, "finetune", "--model", "minilm", "--out", tmp_path / "a")


@pytest.fixture(scope="module")
def retrained(searched: Path) -> Path:
    """Its encoder fine-tuned anew, from another seed and for longer, on the run's train rows."""
    task, out = FileTask(searched.parent / "rows.csv"), searched.parent / "retrained"
    model, tokenizer = load_classifier(str(searched.parent / "encoder"), task.classes, task.problem, seed=3)
    train = encode(task.splits(0).train, tokenizer, task.max_length)
    save(finetune(model, train, FinetuneSettings(epochs=8, learning_rate=3e-3), seed=3), tokenizer, out)
    return out


def units(figures: MemberFigures) -> int:
    """How many heads and neurons a member has; of those in few bits, the most make the safest of a tiny model."""
    layers = [layer for layer in (figures.decoded or {})["layers"] if layer is not None]
    few = all(layer["bits"]["attention"] < 32 for layer in layers)
    return sum(len(layer["heads"]) + int(layer["ffn"]) for layer in layers) if few else 0


@pytest.fixture(scope="module")
def safe(searched: Path) -> str:
    """Key of a member in few bits that other weights do not harm."""
    return max(front_file.read(searched).members, key=units).key


@pytest.mark.slow
def test_a_design_is_made_measured_and_exported_of_new_weights(
    capsys: pytest.CaptureFixture[str], searched: Path, retrained: Path, safe: str, tmp_path: Path
) -> None:
    before, key = front_file.read(searched), safe
    out = tmp_path / "second"
    asked = ("--model", retrained, "--key", key, "--out", out)
    code, printed, err = call(capsys, "reapply", searched, *asked, "--export", tmp_path / "model")
    assert code == 0, err
    assert "latency model" not in err  # which is of the sizes and the machine
    assert "importance" not in err  # which units go is known
    now = front_file.read(out)
    (only,) = now.members
    assert (only.key, only.verified, only.fidelity["agreement"]) == (key, True, 1.0)
    assert only.decoded == chosen(before, key).decoded
    assert now.limits == before.limits
    assert now.picks[0].key == key
    assert now.splits["test"].reads == 1
    assert now.splits["confirm"].sha256 == before.splits["confirm"].sha256
    assert set(now.baselines) == set(before.baselines)
    assert now.trials["complete"] == 1
    logits = [unpacked(folder / "predictions" / f"{key}.npz")["search"] for folder in (searched, out)]
    assert not np.allclose(*logits, atol=0.05)
    assert (out / "report.html").exists()
    assert str(tmp_path / "model") in printed
    assert call(capsys, "predict", tmp_path / "model", "--text", "a fine warm film")[0] == 0
    rows = searched.parent / "rows.csv"
    compared = ("diff", searched / "baseline" / "fair", tmp_path / "model", "--task", rows, "--format", "json")
    code, printed, err = call(capsys, *compared)
    assert code == 0, err
    assert json.loads(printed)["rows"] == "90 test rows of rows (splits of seed 0)"


@pytest.mark.slow
def test_a_distilled_member_is_distilled_again(
    capsys: pytest.CaptureFixture[str], searched: Path, retrained: Path, tmp_path: Path
) -> None:
    member = next(each for each in front_file.read(searched).members if each.weights.startswith("recovered:"))
    out = tmp_path / "second"
    code, printed, err = call(
        capsys, "reapply", searched, "--model", retrained, "--key", member.key, "--out", out, "--format", "json"
    )
    assert code in (0, 3), err
    assert json.loads(printed)["holds"] == (code == 0)
    now = front_file.read(out)
    assert [(each.key, each.weights) for each in now.members] == [(member.key, member.weights)]
    name = f"{member.weights.partition(':')[2]}.safetensors"
    assert (out / "weights" / name).read_bytes() != (searched / "weights" / name).read_bytes()
    made = {path.name for path in (out / "weights").iterdir()}
    assert made <= {path.name for path in (searched / "weights").iterdir()}
    assert len(made) == len(trainings(searched, read_config(searched), member))


@pytest.mark.slow
def test_a_chain_of_trainings_ends_in_the_weights_that_its_id_names(
    searched: Path, retrained: Path, safe: str, tmp_path: Path
) -> None:
    whole = chosen(front_file.read(searched), safe)
    assert whole.decoded is not None
    steps, weights = list[run.Training](), "finetuned"
    config = read_config(searched).model_copy(update={"model": str(retrained)})
    for epochs in (0, 1):
        steps.append(run.Training(whole.decoded, weights, epochs))
        key = content_key({"decoded": whole.decoded, "weights": weights})
        weights = trained(key, epochs)
    front = run.given(config, tmp_path / "out", run.Given(whole.decoded, weights, tuple(steps)))
    assert [(each.weights, each.fidelity["agreement"]) for each in front.members] == [(weights, 1.0)]
    assert {path.stem for path in (tmp_path / "out" / "weights").iterdir()} == {
        each.partition(":")[2] for each in (weights, steps[1].weights)
    }


@pytest.mark.slow
def test_limits_that_no_longer_hold_exit_3_and_export_nothing(
    capsys: pytest.CaptureFixture[str], searched: Path, retrained: Path, safe: str, tmp_path: Path
) -> None:
    copy, model = tmp_path / "run", tmp_path / "model"
    shutil.copytree(searched, copy)
    resolved = read_yaml(copy / "config.resolved.yaml")
    resolved["limits"]["size"] = "1%"
    (copy / "config.resolved.yaml").write_text(yaml.safe_dump(resolved))
    leaky = tmp_path / "leaky"
    shutil.copytree(retrained, leaky)
    (leaky / "trained_on.json").write_text(json.dumps({"train": "other rows"}))
    asked = ("--model", leaky, "--key", safe, "--out", tmp_path / "second", "--export", model)
    code, printed, err = call(capsys, "reapply", copy, *asked)
    assert code == 3
    assert "before" in printed
    assert "no longer holds: size <= 1%: now 0.0" in err.strip().splitlines()[-1]
    assert "Fine-tune it with --split-seed 0" in err
    assert not model.exists()
