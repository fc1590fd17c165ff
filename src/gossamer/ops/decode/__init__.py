"""decode: one token at a time through a whole decoder, without a dispatch between products."""

from gossamer.ops.decode.decoder import Decoder
from gossamer.ops.decode.plan import Plan, plan_of

__all__ = ["Decoder", "Plan", "plan_of"]
