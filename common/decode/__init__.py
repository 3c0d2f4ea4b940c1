"""The one safe decode of untrusted images: what they announce, the limits on them, and their upright pixels."""

from common.decode.decoding import DECODE_VERSION, as_jpeg, decode, memory_of
from common.decode.formats import sniff
from common.decode.limits import ImageLimits, Undecodable
from common.decode.picture import Picture, upright_box, upright_boxes

__all__ = [
    "DECODE_VERSION",
    "ImageLimits",
    "Picture",
    "Undecodable",
    "as_jpeg",
    "decode",
    "memory_of",
    "sniff",
    "upright_box",
    "upright_boxes",
]
