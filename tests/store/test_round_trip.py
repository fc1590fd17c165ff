"""What is saved comes back bit by bit: every architecture, every way of saving."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gossamer import store
from gossamer.core import (
    ConfigError,
    StoreError,
    Support,
    SupportError,
    UnsupportedError,
    sites,
)
from gossamer.layout import support_of
from gossamer.ops import PackedLinear
from tests.held import EXACT, held
from tests.store.pruned import dense_tensors, logits, mlp, prune, same, zoo
from tests.zoo import ZOO, tiny_tokenizer


@pytest.mark.parametrize("name", ZOO)
def test_packed(name: str, tmp_path: Path) -> None:
    model, supports = zoo(name)
    store.save(model, tmp_path / "m", supports)
    loaded = store.load(tmp_path / "m")
    assert type(loaded) is type(model)
    assert not loaded.training
    assert same(model, loaded)
    torch.testing.assert_close(logits(name, loaded), logits(name, model))
    packed = {f"{n}.weight" for n, m in loaded.named_modules() if isinstance(m, PackedLinear)}
    linear = {s.name for s in sites(model) if s.kind == "linear"}
    assert packed == linear


@pytest.mark.parametrize("name", ZOO)
def test_dense_is_a_plain_hugging_face_folder(name: str, tmp_path: Path) -> None:
    model, supports = zoo(name)
    store.save(model, tmp_path / "m", supports, layout="dense")
    plain = type(model).from_pretrained(tmp_path / "m")
    assert same(model, plain)
    assert torch.equal(logits(name, plain), logits(name, model))
    assert same(model, store.load(tmp_path / "m"))


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "bert"])
def test_packed_models_are_saved_again_and_unpacked(name: str, tmp_path: Path) -> None:
    model, supports = zoo(name)
    store.save(model, tmp_path / "first", supports, layout="bitmask")
    packed = store.load(tmp_path / "first")
    store.save(packed, tmp_path / "again", layout="bitmask")
    first, again = tmp_path / "first", tmp_path / "again"
    assert (first / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    store.save(packed, tmp_path / "plain", layout="dense")
    assert same(model, type(model).from_pretrained(tmp_path / "plain"))


def test_a_dense_folder_needs_no_gossamer(tmp_path: Path) -> None:
    model, supports = zoo("mixtral")
    store.save(model, tmp_path / "m", supports, layout="dense", tokenizer=tiny_tokenizer())
    code = (
        "import sys; sys.modules['gossamer'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n"
        "m, info = AutoModelForCausalLM.from_pretrained(sys.argv[1], output_loading_info=True)\n"
        "AutoTokenizer.from_pretrained(sys.argv[1])\n"
        "print(sum(p.double().abs().sum().item() for p in m.parameters()),"
        " len(info['missing_keys']), len(info['unexpected_keys']))"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True,
                         text=True, check=True)
    total, missing, unexpected = run.stdout.split()
    wanted = sum(p.double().abs().sum().item() for p in model.parameters())
    assert float(total) == pytest.approx(wanted, rel=1e-12)
    assert (missing, unexpected) == ("0", "0")


def even() -> nn.Sequential:
    """Two Linear layers with sides that every pattern tiles."""
    return nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 8, bias=False))


@pytest.mark.parametrize("layout", [*EXACT, "auto"])
def test_every_layout_of_a_plain_module(layout: str, tmp_path: Path) -> None:
    model, supports = even(), dict[str, Support]()
    for site in sites(model):
        supports[site.name] = held(layout, site.view().abs())
        site.write(supports[site.name].apply(site.view()))
    store.save(model, tmp_path / "m", supports, layout=layout)
    loaded = store.load(tmp_path / "m", into=even())
    assert same(model, loaded)
    assert layout in ("auto", "dense") or loaded[0].packed.layout == layout
    with torch.device("meta"):
        blank = even()
    assert same(model, store.load(tmp_path / "m", into=blank))


def test_zeros_inside_a_support_are_kept(tmp_path: Path) -> None:
    model = mlp()
    supports = prune(model, "rows")
    site = sites(model)[0]
    row, column = supports[site.name].indices()[0].tolist()
    with torch.no_grad():
        site.view()[row, column] = 0
    store.save(model, tmp_path / "m", supports, layout="bitmask")
    loaded = store.load(tmp_path / "m", into=mlp())
    assert support_of(loaded[0].packed) == supports[site.name]
    assert same(model, loaded)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("layout", ["auto", "dense"])
def test_dtype_of_everything(dtype: torch.dtype, layout: str, tmp_path: Path) -> None:
    model, supports = zoo("qwen2")
    store.save(model, tmp_path / "m", supports, dtype=dtype, layout=layout)
    loaded = store.load(tmp_path / "m")
    assert json.loads((tmp_path / "m" / "config.json").read_text())["dtype"] in str(dtype)
    assert same(model.to(dtype), loaded)


def test_a_model_that_was_cast_says_so(tmp_path: Path) -> None:
    model, supports = zoo("llama")
    model.bfloat16()
    store.save(model, tmp_path / "m", supports)
    loaded = store.load(tmp_path / "m")
    assert loaded.config.dtype == torch.bfloat16
    assert same(model, loaded)
    # Buffers that are computed, such as rotary frequencies, stay as precise as in transformers.
    store.save(model, tmp_path / "plain", supports, layout="dense")
    plain = type(model).from_pretrained(tmp_path / "plain")
    assert torch.equal(logits("llama", loaded), logits("llama", plain))


def test_a_compiled_model_is_saved_as_the_model_itself(tmp_path: Path) -> None:
    model, supports = zoo("llama")
    store.save(torch.compile(model, backend="eager"), tmp_path / "m", supports)
    assert same(model, store.load(tmp_path / "m"))


def test_nan_and_infinity_survive(tmp_path: Path) -> None:
    model = mlp()
    prune(model, "rows")
    with torch.no_grad():
        model[0].weight[0, :2] = torch.tensor([torch.nan, -torch.inf])
    store.save(model, tmp_path / "m")
    weight = dense_tensors(store.load(tmp_path / "m", into=mlp()))["0.weight"]
    assert torch.equal(weight.view(torch.int32), model[0].weight.view(torch.int32))


@pytest.mark.parametrize("name", ["qwen2", "gemma", "opt", "bert"])
def test_tied_weights_are_saved_once_and_stay_tied(name: str, tmp_path: Path) -> None:
    model, supports = zoo(name)
    store.save(model, tmp_path / "m", supports)
    manifest = json.loads((tmp_path / "m" / "gossamer.json").read_text())
    assert manifest["tied"]
    stored = load_file(tmp_path / "m" / "model.safetensors")
    state = store.load(tmp_path / "m").state_dict(keep_vars=True)
    for alias, first in manifest["tied"].items():
        assert alias not in stored
        assert state[alias] is state[first]


class Shared(nn.Module):
    """One Linear in two places, and two Linears that share a weight but not a bias."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(16, 16)
        self.same = self.one
        self.twin = nn.Linear(16, 16)
        self.twin.weight = self.one.weight


@pytest.mark.parametrize("again", [False, True])
def test_shared_layers(again: bool, tmp_path: Path) -> None:
    model = Shared()
    prune(model, "rows")
    store.save(model, tmp_path / "m", layout="bitmask")
    loaded = store.load(tmp_path / "m", into=Shared())
    if again:
        store.save(loaded, tmp_path / "n", layout="csr")
        loaded = store.load(tmp_path / "n", into=Shared())
    assert same(model, loaded)
    assert loaded.one is loaded.same
    assert loaded.one.values.data_ptr() == loaded.twin.values.data_ptr()
    assert not torch.equal(loaded.one.bias, loaded.twin.bias)


def test_layers_that_torch_reads_instead_of_calling_stay_dense(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True).eval()

    model = build()
    prune(model, "rows")
    store.save(model, tmp_path / "m")
    loaded = store.load(tmp_path / "m", into=build())
    x = torch.randn(2, 5, 16)
    assert same(model, loaded)
    with torch.inference_mode():
        torch.testing.assert_close(loaded(x), model(x))


def test_a_single_layer_is_filled_in_place(tmp_path: Path) -> None:
    model = nn.Linear(16, 16)
    prune(model, "rows")
    store.save(model, tmp_path / "m", layout="bitmask")
    loaded = store.load(tmp_path / "m", into=nn.Linear(16, 16))
    assert torch.equal(loaded.weight, model.weight)


def test_generation_settings_and_tokenizer_travel(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    model, supports = zoo("llama")
    model.generation_config.max_new_tokens = 7
    store.save(model, tmp_path / "m", supports, tokenizer=tiny_tokenizer())
    assert store.load(tmp_path / "m").generation_config.max_new_tokens == 7
    text = "gossamer, thin as air"
    ids = AutoTokenizer.from_pretrained(tmp_path / "m")(text)["input_ids"]
    assert ids == tiny_tokenizer()(text)["input_ids"]


def test_system_and_report_are_kept(tmp_path: Path) -> None:
    system = {"id": "wanda", "density": 0.5, "pattern": (1, 2)}
    report = {"perplexity": float("inf"), "sites": [{"name": "a"}]}
    model = mlp()
    store.save(model, tmp_path / "m", system=system, report=report)
    found = store.inspect(tmp_path / "m")
    assert found.system == {"id": "wanda", "density": 0.5, "pattern": [1, 2]}
    assert found.report == {"perplexity": None, "sites": [{"name": "a"}]}


class TestRefused:
    """Bad input to save and load: one sentence, and nothing written."""

    def test_weights_outside_the_support(self, tmp_path: Path) -> None:
        model = mlp()
        empty = Support.of(torch.zeros(17, 24, dtype=torch.bool))
        for layout in ("auto", "dense"):
            with pytest.raises(SupportError, match=r"0\.weight has 408 non-zero weights outside"):
                store.save(model, tmp_path / "m", {"0.weight": empty}, layout=layout)
        assert not any(tmp_path.iterdir())

    def test_hugging_face_weights_outside_the_support(self, tmp_path: Path) -> None:
        model, supports = zoo("llama")
        prune(model, "rows", 1.0)
        name = next(iter(supports))
        sites(model)[0].view().fill_(1.0)
        with pytest.raises(SupportError, match=name):
            store.save(model, tmp_path / "m", supports, layout="dense")
        assert not any(tmp_path.iterdir())

    def test_unknown_site(self, tmp_path: Path) -> None:
        full = Support.full(17, 24)
        with pytest.raises(SupportError, match=r"did you mean '0\.weight'"):
            store.save(mlp(), tmp_path / "m", {"0.weigth": full})
        with pytest.raises(SupportError, match=r"0\.weight has shape \(17, 24\)"):
            store.save(mlp(), tmp_path / "m", {"0.weight": Support.full(3, 3)})

    def test_unknown_layout_and_dtype(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="did you mean 'bitmask'"):
            store.save(mlp(), tmp_path / "m", layout="bitmsk")
        with pytest.raises(ConfigError, match="floating-point"):
            store.save(mlp(), tmp_path / "m", dtype=torch.int8)

    def test_nothing_prunable(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedError, match="no prunable site"):
            store.save(nn.LayerNorm(4), tmp_path / "m")

    def test_report_that_json_cannot_hold(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"report\.x is a Tensor"):
            store.save(mlp(), tmp_path / "m", report={"x": torch.ones(1)})
        with pytest.raises(ConfigError, match="text keys"):
            store.save(mlp(), tmp_path / "m", report={"x": {1: 2}})
        assert not any(tmp_path.iterdir())

    def test_masked_parameters(self, tmp_path: Path) -> None:
        from torch.nn.utils import prune as torch_prune

        model = mlp()
        torch_prune.l1_unstructured(model[0], "weight", amount=0.5)
        with pytest.raises(UnsupportedError, match=r"0\.weight is computed from a mask"):
            store.save(model, tmp_path / "m")
        torch_prune.remove(model[0], "weight")
        store.save(model, tmp_path / "m")

    def test_weights_on_the_meta_device(self, tmp_path: Path) -> None:
        with pytest.raises(UnsupportedError, match="meta device"):
            store.save(mlp(meta=True), tmp_path / "m", layout="dense")
        assert not any(tmp_path.iterdir())

    def test_a_folder_of_another_kind(self, tmp_path: Path) -> None:
        (tmp_path / "m").mkdir()
        (tmp_path / "m" / "thesis.txt").write_text("years of work")
        with pytest.raises(StoreError, match=r"already holds thesis\.txt"):
            store.save(mlp(), tmp_path / "m", overwrite=True)
        (tmp_path / "file").write_text("")
        with pytest.raises(StoreError, match="is a file"):
            store.save(mlp(), tmp_path / "file")

    def test_overwriting_is_asked_for_and_spares_other_files(self, tmp_path: Path) -> None:
        store.save(mlp(), tmp_path / "m")
        with pytest.raises(StoreError, match="overwrite=True"):
            store.save(mlp(), tmp_path / "m")
        other = mlp(seed=5)
        store.save(other, tmp_path / "m", overwrite=True)
        assert same(other, store.load(tmp_path / "m", into=mlp()))
        (tmp_path / "m" / "notes.md").write_text("mine")
        with pytest.raises(StoreError, match=r"also holds notes\.md"):
            store.save(mlp(), tmp_path / "m", overwrite=True)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]

    def test_no_folder_and_no_manifest(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError, match="There is no folder"):
            store.load(tmp_path / "m")
        (tmp_path / "m").mkdir()
        with pytest.raises(StoreError, match=r"gossamer\.json cannot be read"):
            store.load(tmp_path / "m")

    def test_a_module_that_is_not_from_transformers_must_be_given(self, tmp_path: Path) -> None:
        store.save(mlp(), tmp_path / "m")
        with pytest.raises(StoreError, match="into="):
            store.load(tmp_path / "m")

    def test_another_module(self, tmp_path: Path) -> None:
        store.save(mlp(), tmp_path / "m")
        with pytest.raises(StoreError, match="has no place for"):
            store.load(tmp_path / "m", into=nn.Sequential(nn.Linear(24, 17)))
        with pytest.raises(StoreError, match="does not fit"):
            store.load(tmp_path / "m", into=nn.Sequential(nn.Linear(24, 18)))
        larger = mlp()
        larger.append(nn.Linear(3, 3))
        with pytest.raises(StoreError, match=r"lacks 4\.bias"):
            store.load(tmp_path / "m", into=larger)

    def test_a_class_that_transformers_does_not_have(self, tmp_path: Path) -> None:
        model, _ = zoo("llama")
        type(model).__name__, kept = "LlamaOfMine", type(model).__name__
        try:
            store.save(model, tmp_path / "m")
        finally:
            type(model).__name__ = kept
        with pytest.raises(UnsupportedError, match="'LlamaOfMine'"):
            store.load(tmp_path / "m")
