"""What is said about the machine, and which of it decides a target's key."""

import json
import subprocess
from pathlib import Path

from evaluators.metrics.host import describe_host, git_commit, parse_cpuinfo, processor_name, this_target, vector_flags

X86 = """processor\t: 0
model name\t: Intel(R) Xeon(R) Processor
cpu family\t: 6
model\t\t: 143
flags\t\t: fpu sse2 avx512_vnni amx_int8 hypervisor

processor\t: 1
model name\t: another one
"""
ARM = """processor\t: 0
Features\t: fp asimd asimddp i8mm bf16
CPU implementer\t: 0x41
CPU part\t: 0xd4f
"""


def test_an_x86_processor_is_named_with_its_model_number_and_relevant_flags() -> None:
    cpu = parse_cpuinfo(X86)
    assert processor_name(cpu) == "Intel(R) Xeon(R) Processor (cpu family 6, model 143)"
    assert vector_flags(cpu) == ["amx_int8", "avx512_vnni"]


def test_an_arm_processor_has_features_and_a_part_number() -> None:
    cpu = parse_cpuinfo(ARM)
    assert processor_name(cpu).endswith("(CPU implementer 0x41, CPU part 0xd4f)")
    assert vector_flags(cpu) == ["asimd", "asimddp", "bf16", "i8mm"]


def test_the_host_is_described_in_json() -> None:
    host = json.loads(json.dumps(describe_host()))
    assert host["cores"] >= 1
    assert host["processor"]
    assert "numpy" in host["libraries"]


def test_targets_on_one_machine_differ_by_what_changes_a_figure() -> None:
    one, two = (this_target("onnxruntime", "1.31", threads, 1, "real") for threads in (1, 2))
    assert one == this_target("onnxruntime", "1.31", 1, 1, "real")
    assert one.processor
    assert one.key != two.key


def test_a_commit_says_when_files_differ_from_it(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        subprocess.run(("git", "-C", str(tmp_path), *identity, *arguments), check=True, capture_output=True)

    assert git_commit(tmp_path) is None
    git("init")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "-m", "first")
    commit = git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{commit}-dirty"
