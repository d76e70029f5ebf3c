"""The coverage: which libraries fail an engine, which never matter on a card, and what its owner misses."""

from __future__ import annotations

import json
import random
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.kernels import catalogue
from fixtures.kernels.coverage import Coverage, coverage
from fixtures.kernels.image import Library, Module
from fixtures.kernels.row import Row
from fixtures.kernels.rules import Fate, Target
from tests.modules import compiler, library, module, reading

RTX5090, H200, A100, GB10 = (Target(number) for number in ((12, 0), (9, 0), (8, 0), (12, 1)))
TORCH, VLLM, FA3 = "torch/lib/libtorch_cuda.so", "vllm/_C.abi3.so", "vllm/vllm_flash_attn/_vllm_fa3_C.abi3.so"
CUBLAS, SGLANG = "nvidia/cublas/lib/libcublasLt.so.12", "sgl_kernel/common_ops.abi3.so"
PTXAS = "triton/backends/nvidia/bin/ptxas"
OLDER = ("sm_70", "sm_80", "sm_90")
WITH = (*OLDER, "sm_120")


def of(*found: Library, target: Target = RTX5090) -> Coverage:
    """The coverage of these libraries."""
    return coverage(reading(*found), target)


def row(*found: Library, target: Target = RTX5090) -> Row:
    """The only row."""
    (only,) = of(*found, target=target).rows
    return only


# --- what fails -----------------------------------------------------------------------------------------------------------

def test_pytorch_without_code_for_the_card_fails() -> None:
    """The library that all engines need, none of whose modules runs: a certain failure, told with its figures."""
    found = of(library(TORCH, module(*OLDER), module(*OLDER)))
    (failed,) = found.fails
    assert (failed.path, failed.fate, failed.counts.gap) == (TORCH, Fate.GAP, 2)
    assert "of 2 modules 2 have no image" in failed.sentence
    assert "sm_90" in failed.sentence


@pytest.mark.parametrize("path", [TORCH, VLLM, "vllm/_C_stable_libtorch.abi3.so", SGLANG, CUBLAS,
                                  "sgl_kernel/sm100/common_ops.abi3.so", "build/bin/libggml-cuda.so",
                                  "lib/ollama/cuda_v12/libggml-cuda.so"])
def test_every_library_that_is_always_used_can_fail(path: str) -> None:
    """Nothing runs: it fails. One module runs, by whichever way: it does not."""
    assert row(library(path, module(*OLDER))).fails
    assert not row(library(path, module(*OLDER), module(*WITH))).fails
    assert not row(library(path, module(*OLDER), module("compute_90"))).fails


def test_code_for_other_cards_only_is_a_failure_too() -> None:
    """SGLang's kernels of 0.3.9.post2 are for 12.0 alone, not for its family: a DGX Spark has nothing."""
    kernels = library(SGLANG, module("sm_80", "sm_90a", "sm_120a"), module("sm_120a"))
    assert not row(kernels).fails
    assert row(kernels, target=GB10).fails
    assert row(library(SGLANG, module("sm_90a")), target=RTX5090).fate is Fate.GATED
    assert row(library(SGLANG, module("sm_90a"))).fails


@pytest.mark.parametrize("path", [FA3, "vllm/_flashmla_C.abi3.so", "vllm/_moe_C.abi3.so", "xformers/_C.so", "libmine.so",
                                  "sgl_kernel/flash_ops.abi3.so", "nvidia/nccl/lib/libnccl.so.2"])
def test_an_optional_library_never_fails(path: str) -> None:
    """Nor does one that nobody has described; what is missed is told."""
    found = of(library(path, module(*OLDER)))
    assert not found.fails
    assert [one.paths for one in found.losses] == [(path,)]


def test_a_library_that_picks_by_device_is_judged_by_whether_anything_runs() -> None:
    """One module of many for the card is enough for cuBLAS, and the others are no loss."""
    found = of(library(CUBLAS, *[module(*OLDER)] * 99, module("sm_120")))
    assert (found.fails, found.losses) == ((), ())
    assert found.rows[0].fate is Fate.RUNS


def test_stubs_are_not_counted() -> None:
    """What a device link leaves behind does not save a library: one that is always used and has no kernel at all fails."""
    stub = module("sm_120", empty=True)
    only = row(library(TORCH, module(*OLDER), stub, stub))
    assert (only.counts.total, only.fails) == (1, True)
    nothing = row(library(TORCH, stub))
    assert (nothing.counts.total, nothing.fate, nothing.fails) == (0, None, True)
    assert "no kernels" in nothing.sentence


def test_what_was_not_read_leaves_the_answer_open() -> None:
    """A truncated library may hold the module that is missed, and is not loaded as it is: neither a fail nor fine."""
    cut = library(TORCH, module(*OLDER), left_out=("the file ends within a module",))
    assert (row(cut).fails, row(cut).in_doubt) == (False, True)
    whole = library(TORCH, module(*WITH), left_out=("the file ends within a module",))
    assert (row(whole).fails, row(whole).in_doubt) == (False, True)


def test_one_module_is_not_the_library() -> None:
    """Where most of what is always used is missing, what is left runs and nobody can tell how far that goes."""
    most = row(library(TORCH, *[module(*OLDER)] * 3, module(*WITH)))
    assert (most.fails, most.in_doubt) == (False, True)
    assert "most of it is missing" in most.doubt
    assert not row(library(TORCH, module(*OLDER), *[module(*WITH)] * 3)).in_doubt
    assert not row(library(CUBLAS, *[module(*OLDER)] * 3, module(*WITH))).in_doubt


def test_of_two_copies_one_may_be_loaded() -> None:
    """One that runs and one that does not: neither a fail nor a pass; of what picks by device any one is enough."""
    found = of(library("old/" + TORCH, module(*OLDER)), library("new/" + TORCH, module(*WITH)))
    assert (len(found.fails), [one.path for one in found.rows if one.in_doubt]) == (0, ["old/" + TORCH])
    either = of(library("old/" + CUBLAS, module(*OLDER)), library("new/" + CUBLAS, module(*WITH)))
    assert (either.fails, [one for one in either.rows if one.in_doubt]) == ((), [])
    assert len(of(library("old/" + TORCH, module(*OLDER)), library("new/" + TORCH, module(*OLDER))).fails) == 2


def test_what_lies_beside_a_variant_is_loaded_with_it() -> None:
    """Of Ollama's folders by CUDA release one is taken, cuBLAS and all."""
    found = of(library("cuda_v12/libggml-cuda.so", module(*WITH)), library("cuda_v12/libcublas.so.12", module(*WITH)),
               library("cuda_v13/libggml-cuda.so", module(*OLDER)), library("cuda_v13/libcublas.so.13", module(*OLDER)))
    assert {one.path: one.loaded for one in found.rows} == {
        "cuda_v12/libggml-cuda.so": True, "cuda_v12/libcublas.so.12": True,
        "cuda_v13/libggml-cuda.so": False, "cuda_v13/libcublas.so.13": False}
    assert not found.fails


def test_a_removed_library_is_listed_apart() -> None:
    """A later layer hides it: no program loads it, so it has no row and fails nothing."""
    found = of(library(TORCH, module(*WITH)), library("old/" + TORCH, module(*OLDER), removed_by="sha256:1"))
    assert [one.path for one in found.rows] == [TORCH]
    assert (found.removed, found.fails) == (("old/" + TORCH,), ())


def test_code_to_be_linked_is_no_loss() -> None:
    """A static library is not loaded: it has a row, and nobody misses it."""
    found = of(library("nvidia/cu13/lib/libcudadevrt.a", module("sm_80", relocatable=True)))
    assert (found.rows[0].loaded, found.losses) == (False, ())


# --- drivers --------------------------------------------------------------------------------------------------------------

def test_a_driver_that_is_too_old_fails_what_it_cannot_compile() -> None:
    """PTX of CUDA 13.0 alone: it runs on 580 and not on 575, and the row tells which is needed."""
    only = library(VLLM, module("compute_80", isa=(9, 0)))
    assert row(only, target=Target((12, 0), 580)).fate is Fate.JIT
    short = row(only, target=Target((12, 0), 575))
    assert short.fails
    assert any("580" in reason and "575" in reason for reason in short.reasons)


def test_pytorch_needs_the_driver_of_the_cuda_release_it_was_built_with() -> None:
    """Its images do not say so, torch/version.py does."""
    found = replace(reading(library(TORCH, module(*WITH))), cuda="13.0")
    assert coverage(found, Target((12, 0), 575)).fails
    assert not coverage(found, Target((12, 0), 580)).fails
    assert coverage(found, RTX5090).needs_driver == 580


def test_the_driver_that_is_needed_is_the_cards_at_least() -> None:
    """No driver before 570 knows a 5090, whatever was built; what is not always used does not raise it."""
    assert of(library(VLLM, module("compute_80", isa=(8, 0)))).needs_driver == 570
    optional = library("xformers/_C.so", module("compute_80", isa=(9, 0)))
    assert of(library(VLLM, module("sm_120")), optional).needs_driver == 570
    assert of(library(VLLM, module("compute_80", isa=(9, 0)))).needs_driver == 580


# --- variants -------------------------------------------------------------------------------------------------------------

def test_sglang_loads_the_build_for_the_card() -> None:
    """sm90/ on Hopper, sm100/ elsewhere: the other one neither fails nor is missed."""
    hopper = library("sgl_kernel/sm90/common_ops.abi3.so", module("sm_90"))
    others = library("sgl_kernel/sm100/common_ops.abi3.so", module("sm_120a"))
    for target, loaded in ((H200, hopper.path), (RTX5090, others.path)):
        found = of(hopper, others, target=target)
        assert [one.path for one in found.rows if one.loaded] == [loaded]
        assert (found.fails, found.losses) == ((), ())
    assert [one.path for one in of(hopper, library(others.path, module("sm_90"))).fails] == [others.path]


@pytest.mark.parametrize(("cuda", "loaded"), [
    ("12.8", "128"), ("12.9", "128"), ("12.6", "126"), ("12.0", "121"), ("11.8", "118"), ("13.0", None), (None, None),
])
def test_bitsandbytes_is_picked_by_the_cuda_release_of_pytorch(cuda: str | None, loaded: str | None) -> None:
    """The same release, else the newest older one, else the oldest newer one; never across a major number."""
    paths = {name: f"bitsandbytes/libbitsandbytes_cuda{name}.so" for name in ("118", "121", "126", "128")}
    found = coverage(reading(*(library(path, module("sm_90")) for path in paths.values()), cuda=cuda), H200)
    assert [one.path for one in found.rows if one.loaded] == ([paths[loaded]] if loaded else [])


def test_ollama_takes_the_newest_library_that_runs() -> None:
    """An old card is served by the library of CUDA 12; if none runs the failure is told once."""
    newer = library("cuda_v13/libggml-cuda.so", module("sm_75", "sm_120"))
    older = library("cuda_v12/libggml-cuda.so", module("sm_50", "sm_70"))
    for target, loaded in ((RTX5090, newer), (Target((7, 0)), older)):
        found = of(newer, older, target=target)
        assert [one.path for one in found.rows if one.loaded] == [loaded.path]
        assert (found.fails, found.losses) == ((), ())
    assert [one.path for one in of(newer, older, target=Target((6, 1))).fails] == [newer.path]


# --- families and losses --------------------------------------------------------------------------------------------------

ALLSPARK = module("sm_80", "sm_89", kernels=["_ZN8allspark40rearrange_kn_weight_as_n32k16_order_ldg16_kernelEv"])
HELPERS = module("sm_90a", "sm_100a", kernels=["_Z21compute_problem_sizesPKi", "_Z22compute_expert_offsetsPKi"])
GROUPED = module("sm_90a", kernels=["_ZN7cutlass13device_kernelIN21cutlass_3x_group_gemmINS_12float_e4m3_tEEEvNT_6ParamsE"])
MARLIN_75 = module("sm_75", kernels=["_ZN6marlin6MarlinILl1EEEvPK4int4"])
MARLIN_80 = module("sm_80", "compute_80", kernels=["_ZN6marlin6MarlinILl2EEEvPK4int4"])
NORMS = module(*WITH, kernels=["_ZN4vllm15rms_norm_kernelIfEEvPT_"])


def test_what_an_owner_of_a_5090_misses_of_vllm_0_10() -> None:
    """The gaps of that release by name, each with its evidence; FP8 experts are taken over by Triton."""
    found = of(library(VLLM, ALLSPARK, HELPERS, GROUPED, MARLIN_75, MARLIN_80, NORMS))
    assert not found.fails
    titles = [one.title for one in found.losses]
    assert titles == ["AllSpark W8A16", "FP8 MoE through CUTLASS", "helpers of CUTLASS's experts"]
    experts = found.losses[1]
    assert (experts.family, experts.engine, experts.fate) == ("MoE", "vllm", Fate.GATED)
    assert "Triton" in experts.words
    assert experts.evidence == f"{VLLM}: 1 module, images for sm_90a"


def test_other_instantiations_of_a_family_are_no_loss() -> None:
    """Marlin for Turing does not run on a 5090, Marlin for Ampere does."""
    (marlin,) = row(library(VLLM, MARLIN_75, MARLIN_80)).families
    assert (marlin.title, marlin.counts.gap, marlin.counts.jit) == ("Marlin", 1, 1)
    assert of(library(VLLM, MARLIN_75, MARLIN_80)).losses == ()
    (alone,) = of(library(VLLM, MARLIN_75, NORMS)).losses
    assert (alone.title, alone.fate) == ("Marlin", Fate.GAP)


def test_an_image_is_no_promise_where_the_engine_refuses_the_card() -> None:
    """Machete of 0.33 has images for all cards and is for Hopper: gated, and the images are in the evidence."""
    machete = module(*WITH, kernels=["_ZN7machete16prepack_B_kernelILi128EEEvv"])
    (loss,) = of(library(VLLM, machete, NORMS)).losses
    assert (loss.title, loss.fate) == ("Machete", Fate.GATED)
    assert "sm_120" in loss.evidence
    assert of(library(VLLM, machete, NORMS), target=H200).losses == ()


def test_one_module_may_serve_two_families() -> None:
    """scaled_mm of CUTLASS 2 has INT8 and FP8: a 4090 has both, a 5090 is refused INT8."""
    both = module("sm_89", "compute_89", kernels=["_ZN7cutlass7Kernel2I19enable_sm80_to_sm89IaEEvT_",
                                                  "_ZN7cutlass7Kernel2I19enable_sm89_to_sm90IaEEvT_"])
    assert [one.title for one in of(library(VLLM, both)).losses] == ["INT8 W8A8 by CUTLASS"]
    assert of(library(VLLM, both), target=Target((8, 9))).losses == ()


def test_kernels_that_no_family_has_are_told_by_name() -> None:
    """A gap that the catalogue cannot explain is not swallowed."""
    strange = module("sm_80", kernels=["_ZN4vllm19brand_new_operationEv"])
    (loss,) = of(library(VLLM, strange, NORMS)).losses
    assert (loss.fate, loss.title) == (Fate.GAP, catalogue.OTHER)
    assert "brand_new_operation" in loss.words
    gated = module("sm_90a", kernels=["_ZN4vllm19brand_new_operationEv"])
    assert of(library(VLLM, gated, NORMS)).losses == ()


def test_modules_without_names_are_still_counted() -> None:
    """Names that could not be read: one family for all, and the gap is told."""
    found = of(library(VLLM, module(*OLDER), module(*WITH)))
    (family,) = found.rows[0].families
    assert (family.title, family.counts.total) == (catalogue.OTHER, 2)
    assert [one.modules for one in found.losses] == [1]


def test_a_partial_gap_of_a_library_without_families_is_told() -> None:
    """Two of three modules of PyTorch: it does not fail, and it is no secret."""
    (loss,) = of(library(TORCH, module(*OLDER), module(*OLDER), module(*WITH))).losses
    assert (loss.fate, loss.modules) == (Fate.GAP, 2)
    assert "2 of 3" in loss.words


def test_a_library_that_is_never_called_on_the_card_is_gated() -> None:
    """FlashAttention 3 has plain sm_80 code as well, and vLLM asks for it on Hopper only."""
    flash = library(FA3, module("sm_80", "sm_90a"))
    (loss,) = of(flash).losses
    assert (loss.fate, loss.family) == (Fate.GATED, "attention")
    assert of(flash).rows[0].loaded is False
    assert of(flash, target=H200).losses == ()


def test_the_same_loss_of_several_libraries_is_told_once() -> None:
    """cuDNN has many parts; its owner misses one thing."""
    parts = [library(f"nvidia/cudnn/lib/libcudnn_{name}.so.9", module(*OLDER)) for name in ("adv", "cnn", "ops")]
    (loss,) = of(*parts).losses
    assert (len(loss.paths), loss.modules) == (3, 3)
    assert "and 2 more: 3 modules" in loss.evidence


def test_many_small_files_are_one_row() -> None:
    """FlashInfer's thousands of cubins are told of together, wherever they lie."""
    cubins = [library(f"lib/flashinfer_cubin/cubins/x/{number}.cubin", module("sm_100a")) for number in range(50)]
    found = of(*cubins, library("flashinfer_cubin/cubins/one.cubin", module("sm_100f")))
    assert [(one.path, one.files, one.counts.total) for one in found.rows] == [
        ("flashinfer_cubin", 1, 1), ("lib/flashinfer_cubin", 50, 50)]
    assert found.rows[1].size == 50_000_000


# --- compilers and packages -----------------------------------------------------------------------------------------------

def test_a_compiler_that_does_not_know_the_card_is_a_loss() -> None:
    """Triton 3.0's ptxas of CUDA 12.4: no kernel of Triton's on a 5090; it fails no library."""
    found = coverage(reading(library(TORCH, module(*WITH)), compilers=[compiler(PTXAS, "sm_80", "sm_90a")]), RTX5090)
    (loss,) = found.losses
    assert (loss.title, loss.fate, loss.paths) == ("Triton", Fate.GAP, (PTXAS,))
    assert "torch.compile" in loss.words
    assert "sm_90a" in loss.evidence
    assert not found.fails


def test_a_compiler_that_does_not_say_is_no_loss() -> None:
    """Unknown is not missing."""
    assert coverage(reading(compilers=[compiler(PTXAS)]), RTX5090).losses == ()


def test_a_build_for_cpus_is_missing_its_gpu_library() -> None:
    """PyTorch without libtorch_cuda fails nothing that was read, and yet nothing runs."""
    packages = {"torch": "2.13.0+cpu", "numpy": "2.3.5"}
    missing = ("pytorch", "torch 2.13.0+cpu is here without its GPU library")
    assert coverage(reading(packages=packages), RTX5090).missing == (missing,)
    assert coverage(reading(library(TORCH, module(*WITH)), packages=packages), RTX5090).missing == ()


# --- form -----------------------------------------------------------------------------------------------------------------

LIBRARIES = st.lists(st.builds(
    lambda path, modules: Library(path, 1, tuple(modules)),
    st.sampled_from([TORCH, VLLM, FA3, CUBLAS, SGLANG, "mine.so", "cuda_v12/libggml-cuda.so", "flashinfer_cubin/a.cubin"]),
    st.lists(st.sampled_from([ALLSPARK, GROUPED, MARLIN_80, module(*OLDER), module(*WITH), module("sm_120", empty=True)]),
             max_size=4)), max_size=6, unique_by=lambda one: one.path)


@given(LIBRARIES, st.sampled_from([RTX5090, H200, A100, GB10]), st.randoms(use_true_random=False))
def test_the_answer_does_not_depend_on_the_order(found: list[Library], target: Target, luck: random.Random) -> None:
    """Rows, losses and JSON are the same however the files were come by, and JSON holds them all."""
    shuffled = luck.sample(found, len(found))
    one, other = coverage(reading(*found), target), coverage(reading(*shuffled), target)
    assert json.dumps(one.as_json()) == json.dumps(other.as_json())
    assert json.loads(json.dumps(one.as_json()))["fails"] == [each.path for each in one.fails]
    assert sum(each.files for each in one.rows) == len(found)


@given(LIBRARIES, st.sampled_from([RTX5090, H200, A100, GB10]))
def test_every_module_is_counted_once(found: list[Library], target: Target) -> None:
    """Counts are of the modules with kernels; a failing row has none that runs; every loss has words."""
    result = coverage(reading(*found), target)
    assert sum(one.counts.total for one in result.rows) == sum(not each.empty for one in found for each in one.modules)
    assert all(one.counts.usable == 0 for one in result.fails)
    assert all(one.words and one.evidence for one in result.losses)


def test_every_failing_library_is_among_the_losses() -> None:
    """Whoever reads the losses alone learns of it."""
    found = of(library(TORCH, module(*OLDER)), library(VLLM, module(*OLDER)))
    assert {path for one in found.losses for path in one.paths} == {one.path for one in found.fails} == {TORCH, VLLM}


# --- the catalogue --------------------------------------------------------------------------------------------------------

def test_the_catalogue_has_no_field_that_is_not_read() -> None:
    """Every family that an entry names is there, none is without a user, and all consequences are in words."""
    libraries, families = (tomllib.loads(Path(catalogue.__file__).with_name(name).read_text(encoding="utf-8"))
                           for name in ("libraries.toml", "families.toml"))
    used = {name for one in libraries["library"] for name in one.get("kernels", ())}
    assert used == set(families["kernels"])
    assert all(one.loses for entry in catalogue.entries() for one in entry.kernels)
    assert all(entry.loses for entry in catalogue.entries() if entry.always or entry.cards)
    assert all(re.fullmatch(r"!?\d{1,2}(\.\d)?", card) for entry in catalogue.entries()
               for card in (*entry.cards, *(card for one in entry.kernels for card in one.cards)))


@pytest.mark.parametrize(("path", "wanted"), [
    (VLLM, True), ("vllm/_moe_C.abi3.so", True), (SGLANG, True), (TORCH, False), (CUBLAS, False), ("libmine.so", False),
])
def test_names_are_wanted_where_families_are_told_apart(path: str, wanted: bool) -> None:
    """Reading names costs time: only libraries whose kernels have families here."""
    assert catalogue.wants_names(path) is wanted


@pytest.mark.parametrize(("cards", "on"), [
    ((), {"8.6", "9.0", "12.0"}), (("9",), {"9.0"}), (("9.0",), {"9.0"}), (("!9.0",), {"8.6", "12.0"}),
    (("8", "9"), {"8.6", "9.0"}), (("1",), set()),
])
def test_conditions_on_cards(cards: tuple[str, ...], on: set[str]) -> None:
    """A number stands for a capability or for a whole major number, and a mark of exclamation for all others."""
    targets = [Target((8, 6)), Target((9, 0)), Target((12, 0))]
    assert {target.name for target in targets if catalogue.suits(cards, target)} == on


def test_a_module_has_at_most_one_family_beside_those_that_go_with_any() -> None:
    """The first that is found, in the order of the catalogue."""
    entry = catalogue.find(VLLM)
    for one in (ALLSPARK, HELPERS, GROUPED, MARLIN_75, NORMS, Module((), "", 0, names=("marlin", "rms_norm", "allspark"))):
        assert len([kernels for kernels in catalogue.families_of(entry, one) if not kernels.also]) == 1
    assert catalogue.families_of(None, NORMS) == []
