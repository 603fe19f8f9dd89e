"""Looks into GGUF model files: what is stored, what is only computed, and what it weighs.

::

    import ggufscope

    with ggufscope.open_gguf("model.gguf") as file:
        print(file.metadata["general.architecture"])
        print(file.tensor("blk.0.attn_q.weight").shape)
"""

# Nothing is imported when this file is run: `python -m ggufscope` runs it while the working folder,
# where a stranger's model may lie, is still first on Python's path.
TYPE_CHECKING = False  # as type checkers know it from `typing`
if TYPE_CHECKING:
    from ggufscope.blocks.codec import dequantize as dequantize
    from ggufscope.blocks.codec import quantize as quantize
    from ggufscope.blocks.layouts import Layout as Layout
    from ggufscope.blocks.layouts import layout_named as layout_named
    from ggufscope.checking.check import CheckOptions as CheckOptions
    from ggufscope.checking.check import check as check
    from ggufscope.checking.findings import Checked as Checked
    from ggufscope.checking.findings import Finding as Finding
    from ggufscope.container.file import GGUFFile as GGUFFile
    from ggufscope.container.file import Tensor as Tensor
    from ggufscope.container.file import open_gguf as open_gguf
    from ggufscope.container.value_types import ValueType as ValueType
    from ggufscope.container.values import Value as Value
    from ggufscope.container.writer import GGUFWriter as GGUFWriter
    from ggufscope.container.writer import TensorSpec as TensorSpec
    from ggufscope.errors import GGUFScopeError as GGUFScopeError
    from ggufscope.forward.backward import Backward as Backward
    from ggufscope.forward.cache import KVCache as KVCache
    from ggufscope.forward.held import LayerWeights as LayerWeights
    from ggufscope.forward.trace import Trace as Trace
    from ggufscope.forward.transformer import Transformer as Transformer
    from ggufscope.forward.weights import PlannedWeights as PlannedWeights
    from ggufscope.forward.weights import StoredWeights as StoredWeights
    from ggufscope.measure.calibrating import make_imatrix as make_imatrix
    from ggufscope.measure.compare import compare as compare
    from ggufscope.measure.comparison import Comparison as Comparison
    from ggufscope.measure.diff.diff import Diff as Diff
    from ggufscope.measure.diff.diff import diff as diff
    from ggufscope.measure.evaluate import evaluate as evaluate
    from ggufscope.measure.explaining import explain as explain
    from ggufscope.measure.gathering import Calibration as Calibration
    from ggufscope.measure.tailor import Wish as Wish
    from ggufscope.measure.tailor import tailor as tailor
    from ggufscope.measure.windows import halves as halves
    from ggufscope.model.anatomy.build import anatomy_of as anatomy_of
    from ggufscope.model.hparams import read_hparams as read_hparams
    from ggufscope.model.roles import role_of as role_of
    from ggufscope.model.summary import summarize as summarize
    from ggufscope.model.tokenizer.text import TextTokenizer as TextTokenizer
    from ggufscope.model.tokenizer.text import read_tokenizer as read_tokenizer
    from ggufscope.recipes.apply import quantize_model as quantize_model
    from ggufscope.recipes.changes import Edits as Edits
    from ggufscope.recipes.edits import PreparedEdit as PreparedEdit
    from ggufscope.recipes.edits import edit_model as edit_model
    from ggufscope.recipes.edits import prepare_edit as prepare_edit
    from ggufscope.recipes.edits import run_edit as run_edit
    from ggufscope.recipes.imatrix_file import read_imatrix as read_imatrix
    from ggufscope.recipes.imatrix_file import write_imatrix as write_imatrix
    from ggufscope.recipes.importance import ImportanceMatrix as ImportanceMatrix
    from ggufscope.recipes.options import PlanOptions as PlanOptions
    from ggufscope.recipes.plan import Plan as Plan
    from ggufscope.recipes.plan import plan as plan
    from ggufscope.recipes.request import Request as Request
    from ggufscope.recipes.request import prepare as prepare
    from ggufscope.recipes.sensitivities import Sensitivities as Sensitivities
    from ggufscope.recipes.sensitivities import read_sensitivities as read_sensitivities
    from ggufscope.sizing.budget import memory_of as memory_of
    from ggufscope.sizing.chosen import best_mixes as best_mixes
    from ggufscope.sizing.file_size import preset_sizes as preset_sizes
    from ggufscope.sizing.kv_cache import kv_cache_of as kv_cache_of
    from ggufscope.sizing.names import shape_named as shape_named
    from ggufscope.sizing.settings import RunSettings as RunSettings

__version__: str  # version.py has it

_HOMES = {
    "Backward": "forward.backward",
    "Calibration": "measure.gathering",
    "CheckOptions": "checking.check",
    "Checked": "checking.findings",
    "Comparison": "measure.comparison",
    "Diff": "measure.diff.diff",
    "Edits": "recipes.changes",
    "Finding": "checking.findings",
    "GGUFFile": "container.file",
    "GGUFScopeError": "errors",
    "GGUFWriter": "container.writer",
    "ImportanceMatrix": "recipes.importance",
    "KVCache": "forward.cache",
    "LayerWeights": "forward.held",
    "Layout": "blocks.layouts",
    "Plan": "recipes.plan",
    "PlanOptions": "recipes.options",
    "PlannedWeights": "forward.weights",
    "PreparedEdit": "recipes.edits",
    "Request": "recipes.request",
    "RunSettings": "sizing.settings",
    "Sensitivities": "recipes.sensitivities",
    "StoredWeights": "forward.weights",
    "Tensor": "container.file",
    "TensorSpec": "container.writer",
    "TextTokenizer": "model.tokenizer.text",
    "Trace": "forward.trace",
    "Transformer": "forward.transformer",
    "Value": "container.values",
    "ValueType": "container.value_types",
    "Wish": "measure.tailor",
    "anatomy_of": "model.anatomy.build",
    "best_mixes": "sizing.chosen",
    "check": "checking.check",
    "compare": "measure.compare",
    "dequantize": "blocks.codec",
    "diff": "measure.diff.diff",
    "edit_model": "recipes.edits",
    "evaluate": "measure.evaluate",
    "explain": "measure.explaining",
    "halves": "measure.windows",
    "kv_cache_of": "sizing.kv_cache",
    "layout_named": "blocks.layouts",
    "make_imatrix": "measure.calibrating",
    "memory_of": "sizing.budget",
    "open_gguf": "container.file",
    "plan": "recipes.plan",
    "prepare": "recipes.request",
    "prepare_edit": "recipes.edits",
    "preset_sizes": "sizing.file_size",
    "quantize": "blocks.codec",
    "quantize_model": "recipes.apply",
    "read_hparams": "model.hparams",
    "read_imatrix": "recipes.imatrix_file",
    "read_sensitivities": "recipes.sensitivities",
    "read_tokenizer": "model.tokenizer.text",
    "role_of": "model.roles",
    "run_edit": "recipes.edits",
    "shape_named": "sizing.names",
    "summarize": "model.summary",
    "tailor": "measure.tailor",
    "write_imatrix": "recipes.imatrix_file",
}

__all__ = [*_HOMES]  # a plain list of names; each is imported when it is asked for


if not TYPE_CHECKING:  # a type checker would take any misspelt name for one of these

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used: ``ggufscope --help`` waits for none."""
        from importlib import import_module

        home = "version" if name == "__version__" else _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module 'ggufscope' has no attribute {name!r}")
        return getattr(import_module(f"ggufscope.{home}"), name)
