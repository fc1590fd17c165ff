"""PackedLayer: what layers on a packed weight have in common, buffers and state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from gossamer.layout import Packed, check_packed, layout_of
from gossamer.ops.linear.form import Parts, form_of


class PackedLayer(nn.Module):
    """A packed weight, its parts as buffers under their own names, and a bias that is frozen.

    Args:
        packed: the weight ``[rows, cols]``; its parts are checked and then shared, not copied.
        bias: ``[rows]`` or None.
        trainable: whether values and bias are parameters that want gradients; where the values
            stand does not change.

    Raises:
        SupportError: the parts contradict one another.
    """

    starts: Tensor | None

    def __init__(self, packed: Packed, bias: Tensor | None, trainable: bool = False) -> None:
        super().__init__()
        check_packed(packed)
        self.layout = packed.layout
        self._names = layout_of(packed.layout).parts
        for name in self._names:
            if trainable and name == "values":
                self.register_parameter(name, nn.Parameter(packed.values.detach()))
            else:
                self.register_buffer(name, packed.parts[name])
        self.register_buffer("starts", packed.starts, persistent=False)
        frozen = None if bias is None else nn.Parameter(bias.detach(), requires_grad=trainable)
        self.register_parameter("bias", frozen)
        starts = () if packed.starts is None else ("starts",)
        self._arguments = (*self._names, *starts)
        self._form = form_of(packed.values, packed.layout, packed.shape)

    @property
    def packed(self) -> Packed:
        """The weight as a Packed that shares this layer's tensors."""
        held: Any = {**self._parameters, **self._buffers}
        return self._with({name: held[name] for name in self._names})

    def _with(self, parts: dict[str, Tensor]) -> Packed:
        return Packed(self.layout, (self._form.rows, self._form.cols), parts)

    def _operands(self) -> tuple[Parts, Tensor | None]:
        """What an op is called with: parts and starts, and the bias."""
        # Attribute access on a Module costs a microsecond, so the buffers are read from their dict.
        buffers: Any = self._buffers
        parameters: Any = self._parameters
        if "values" in parameters:  # it is trained
            others = [buffers[name] for name in self._arguments[1:]]
            return (parameters["values"], *others), parameters["bias"]
        return tuple([buffers[name] for name in self._arguments]), parameters["bias"]

    def _shown(self) -> str:
        """Layout, dtype and bytes, for the layer's representation."""
        return (f"layout={self.layout!r}, dtype={self.packed.dtype}, bytes={self.packed.nbytes}, "
                f"bias={self.bias is not None}")

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> PackedLayer:
        """Only values follow a change of dtype: scales belong to their layout."""
        before: Any = [(name, self._buffers[name]) for name in self._names[1:]]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, part in before:
            now: Any = self._buffers[name]
            if now.dtype != part.dtype:
                self._buffers[name] = part.to(now.device)
        return self

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the parts of a state all together, once they are known to be whole, or none."""
        current = self.packed.parts
        parts = {name: state_dict.get(prefix + name, part) for name, part in current.items()}
        wrong = [
            f"size mismatch for {prefix}{name}: {tuple(part.shape)} in the state, "
            f"{tuple(current[name].shape)} in the layer."
            for name, part in parts.items() if part.shape != current[name].shape
        ]
        if wrong:
            args[-1].extend(wrong)  # the messages that load_state_dict raises in the end
            return
        device = parts["values"].device
        check_packed(self._with({name: part.to(device) if part is current[name] else part
                                 for name, part in parts.items()}))
        super()._load_from_state_dict(state_dict, prefix, *args)
        self.starts = self.packed.starts
