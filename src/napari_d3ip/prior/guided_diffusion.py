"""Convert the U-Net of guided-diffusion (ADM; Dhariwal & Nichol, NeurIPS 2021) to a `diffusers` ``UNet2DModel``.

The architecture is inferred from the tensors' shapes alone, in the order of definition in the network, so that
weights with and without names are treated alike. No files, no schedules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from napari_d3ip.errors import PriorError

Shape = tuple[int, ...]
_NORM_GROUPS = 32  # Fixed in guided-diffusion; not stored in the weights.

# Kinds of layers by the shape of their weight, one letter each, and the letters of each kind of block.
_RESIDUAL, _ATTENTION, _RESAMPLING = "n3ln3", "naa", "3"
_BLOCKS = re.compile(f"{_RESIDUAL}1|{_RESIDUAL}|{_ATTENTION}|{_RESAMPLING}")
_NETWORK = re.compile(f"ll3(?:{_BLOCKS.pattern})+n3")

_CONV_BLOCKS = ("DownBlock2D", "UpBlock2D")
_RESBLOCK_BLOCKS = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")

_PARTS = (
    *("time_embed", "input_blocks", "middle_block", "output_blocks", "out"),
    *("in_layers", "emb_layers", "out_layers", "skip_connection"),
    *("norm", "qkv", "proj_out", "op", "conv", "weight", "bias"),
)


@dataclass(frozen=True)
class Layer:
    """Name of a layer in guided-diffusion and in `diffusers`, and the shape of its weight.

    In `diffusers`, queries, keys and values of attention are three layers; their name ends in ``qkv`` here.
    """

    name: str
    diffusers_name: str
    shape: Shape


@dataclass(frozen=True)
class GuidedDiffusionUNet:
    """Architecture of a guided-diffusion U-Net.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels of the image and of the prediction; twice as many if the variance is learned.
    widths : tuple of int
        Channels of every level, the finest first.
    base_width, time_channels : int
        Channels of the sinusoidal time embedding, and of its projection.
    num_res_blocks : int
        Residual blocks per level on the way down.
    attention : tuple of bool
        Whether a level has attention.
    use_scale_shift_norm : bool
        Whether the time embedding scales and shifts, instead of being added.
    resblock_updown : bool
        Whether residual blocks change the resolution, instead of convolutions.
    """

    in_channels: int
    out_channels: int
    widths: tuple[int, ...]
    base_width: int
    time_channels: int
    num_res_blocks: int
    attention: tuple[bool, ...]
    use_scale_shift_norm: bool
    resblock_updown: bool

    @classmethod
    def from_shapes(cls, shapes: Sequence[Shape]) -> GuidedDiffusionUNet:
        """Infer the architecture from the shapes of the parameters, in order of definition.

        Raises
        ------
        PriorError
            If they are not those of such a network, or `diffusers` cannot represent it.
        """
        weights = list(shapes[::2])
        letters = "".join(_letter(shape) for shape in weights)
        if _NETWORK.fullmatch(letters) is None or len(shapes) % 2:
            raise PriorError(_not_this_layout("its layers differ"))
        blocks = [(block.group(), block.start()) for block in _BLOCKS.finditer(letters, 3, len(letters) - 2)]
        levels: list[list[int]] = [[]]
        attention, resblock_updown = [False], False
        for kind, start in blocks[_way_up(blocks, weights) :]:
            if kind == f"{_RESIDUAL}1":
                levels[-1].append(weights[start + 1][0])
            elif kind == _ATTENTION:
                attention[-1] = True
            else:
                resblock_updown = kind == _RESIDUAL
                levels.append([])
                attention.append(False)
        if not all(levels):
            raise PriorError(_not_this_layout("its way up does not mirror its way down"))
        unet = cls(
            in_channels=weights[2][1],
            out_channels=weights[-1][0],
            widths=tuple(level[0] for level in reversed(levels)),
            base_width=weights[0][1],
            time_channels=weights[0][0],
            num_res_blocks=len(levels[0]) - 1,
            attention=tuple(reversed(attention)),
            use_scale_shift_norm=weights[5][0] == 2 * weights[4][0],
            resblock_updown=resblock_updown,
        )
        unet._check(shapes)
        return unet

    def _check(self, shapes: Sequence[Shape]) -> None:
        expected = [shape for layer in self.layers() for shape in (layer.shape, layer.shape[:1])]
        if list(shapes) != expected:
            raise PriorError(_not_this_layout("the shapes of its tensors do not fit together"))
        if self.base_width != self.widths[0]:
            raise PriorError(
                f"prior: the time embedding starts from {self.base_width} channels and the first level has "
                f"{self.widths[0]}; diffusers' UNet2DModel can represent only networks whose channel_mult begins "
                "with 1, so convert another checkpoint."
            )
        if self.out_channels not in (self.in_channels, 2 * self.in_channels):
            raise PriorError(
                f"prior: the network predicts {self.out_channels} channels from {self.in_channels}; only "
                "unconditional models, with or without learned variance, can be priors, so convert another checkpoint."
            )
        if any(width % _NORM_GROUPS for width in self.widths):
            raise PriorError(
                f"prior: levels of {', '.join(map(str, self.widths))} channels cannot be normalised in "
                f"{_NORM_GROUPS} groups as guided-diffusion does; convert a checkpoint of its own U-Net."
            )

    def layers(self) -> Iterator[Layer]:
        """Yield all layers, in order of definition."""
        levels, count = len(self.widths), self.num_res_blocks
        yield Layer("time_embed.0", "time_embedding.linear_1", (self.time_channels, self.base_width))
        yield Layer("time_embed.2", "time_embedding.linear_2", (self.time_channels, self.time_channels))
        yield Layer("input_blocks.0.0", "conv_in", (self.widths[0], self.in_channels, 3, 3))
        width = self.widths[0]
        skips, block = [width], 0
        for level in range(levels):
            ours = f"down_blocks.{level}"
            for index in range(count):
                block += 1
                name = f"input_blocks.{block}"
                yield from self._residual(f"{name}.0", f"{ours}.resnets.{index}", width, self.widths[level])
                width = self.widths[level]
                if self.attention[level]:
                    yield from _attention(f"{name}.1", f"{ours}.attentions.{index}", width)
                skips.append(width)
            if level < levels - 1:
                block += 1
                yield from self._resampling(f"input_blocks.{block}.0", "op", f"{ours}.downsamplers.0", width)
                skips.append(width)
        yield from self._residual("middle_block.0", "mid_block.resnets.0", width, width)
        yield from _attention("middle_block.1", "mid_block.attentions.0", width)
        yield from self._residual("middle_block.2", "mid_block.resnets.1", width, width)
        for up, level in enumerate(reversed(range(levels))):
            ours = f"up_blocks.{up}"
            for index in range(count + 1):
                name, part = f"output_blocks.{up * (count + 1) + index}", 1
                entering = width + skips.pop()
                yield from self._residual(f"{name}.0", f"{ours}.resnets.{index}", entering, self.widths[level])
                width = self.widths[level]
                if self.attention[level]:
                    yield from _attention(f"{name}.1", f"{ours}.attentions.{index}", width)
                    part = 2
                if level and index == count:
                    yield from self._resampling(f"{name}.{part}", "conv", f"{ours}.upsamplers.0", width)
        yield Layer("out.0", "conv_norm_out", (width,))
        yield Layer("out.2", "conv_out", (self.out_channels, width, 3, 3))

    def _residual(self, name: str, ours: str, entering: int, leaving: int) -> Iterator[Layer]:
        time_width = 2 * leaving if self.use_scale_shift_norm else leaving
        yield Layer(f"{name}.in_layers.0", f"{ours}.norm1", (entering,))
        yield Layer(f"{name}.in_layers.2", f"{ours}.conv1", (leaving, entering, 3, 3))
        yield Layer(f"{name}.emb_layers.1", f"{ours}.time_emb_proj", (time_width, self.time_channels))
        yield Layer(f"{name}.out_layers.0", f"{ours}.norm2", (leaving,))
        yield Layer(f"{name}.out_layers.3", f"{ours}.conv2", (leaving, leaving, 3, 3))
        if entering != leaving:
            yield Layer(f"{name}.skip_connection", f"{ours}.conv_shortcut", (leaving, entering, 1, 1))

    def _resampling(self, name: str, part: str, ours: str, width: int) -> Iterator[Layer]:
        if self.resblock_updown:
            yield from self._residual(name, ours, width, width)
        else:
            yield Layer(f"{name}.{part}", f"{ours}.conv", (width, width, 3, 3))

    def heads_for_diffusers(self, heads: AttentionHeads) -> tuple[int | None, int | None]:
        """Return the width of a head for ``UNet2DModel``, and the number of heads if it has no setting for that.

        It has one width for the heads of all levels, or one head everywhere (None), whereas guided-diffusion may have
        a fixed number of heads of any width.
        """
        widths = {self.widths[-1], *(width for width, has in zip(self.widths, self.attention, strict=True) if has)}
        counts = {heads.count(width) for width in widths}
        if counts == {1}:
            return None, None
        head_widths = {width // heads.count(width) for width in widths}
        return (head_widths.pop(), None) if len(head_widths) == 1 else (None, counts.pop())

    def build(self, image_size: int, head_width: int | None) -> Any:
        """Build an untrained ``UNet2DModel`` of this architecture.

        Parameters
        ----------
        image_size : int
            Height and width of the training images; only recorded.
        head_width : int or None
            Width from `heads_for_diffusers`.
        """
        from diffusers import UNet2DModel

        plain = _RESBLOCK_BLOCKS if self.resblock_updown else _CONV_BLOCKS
        resampling = "resnet" if self.resblock_updown else "conv"
        return UNet2DModel(
            sample_size=image_size,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            time_embedding_dim=self.time_channels,
            down_block_types=tuple("AttnDownBlock2D" if has else plain[0] for has in self.attention),
            up_block_types=tuple("AttnUpBlock2D" if has else plain[1] for has in reversed(self.attention)),
            block_out_channels=self.widths,
            layers_per_block=self.num_res_blocks,
            downsample_type=resampling,
            upsample_type=resampling,
            attention_head_dim=head_width,
            norm_num_groups=_NORM_GROUPS,
            attn_norm_num_groups=_NORM_GROUPS,
            norm_eps=1e-5,
            resnet_time_scale_shift="scale_shift" if self.use_scale_shift_norm else "default",
        )

    def convert(self, tensors: Sequence[Tensor], heads: AttentionHeads) -> dict[str, Tensor]:
        """Rename parameters in order of definition to the names of `diffusers`; float32."""
        converted = {}
        for layer, *parameters in zip(self.layers(), tensors[::2], tensors[1::2], strict=True):
            for part, tensor in zip(("weight", "bias"), parameters, strict=True):
                name, tensor = layer.diffusers_name, tensor.float()
                if len(layer.shape) == 3 and part == "weight":
                    tensor = tensor[..., 0]  # Convolutions of length 1 are linear layers there.
                if name.endswith("qkv"):
                    for letter, third in zip("qkv", heads.split(tensor), strict=True):
                        converted[f"{name.removesuffix('qkv')}to_{letter}.{part}"] = third
                else:
                    converted[f"{name}.{part}"] = tensor
        return converted


@dataclass(frozen=True)
class AttentionHeads:
    """Division of attention into heads, which is not stored in the weights.

    Parameters
    ----------
    num_heads : int
        Number of heads of every attention block.
    num_head_channels : int or None
        Width of a head, instead of the number.
    new_attention_order : bool
        Whether ``qkv`` holds the queries of all heads, then all keys, then all values, instead of these three per
        head.
    """

    num_heads: int = 4
    num_head_channels: int | None = None
    new_attention_order: bool = False

    def count(self, width: int) -> int:
        """Return the number of heads of an attention block of ``width`` channels.

        Raises
        ------
        PriorError
            If the channels cannot be divided by the heads.
        """
        by_width = self.num_head_channels is not None
        parts = self.num_head_channels or self.num_heads
        if width % parts:
            raise PriorError(
                f"{'num_head_channels' if by_width else 'num_heads'}: attention over {width} channels cannot be "
                f"divided by {parts}; give the value used in training."
            )
        return width // parts if by_width else parts

    def split(self, qkv: Tensor) -> Iterator[Tensor]:
        """Yield queries, keys and values, heads in order, of a weight or bias of shape (3 * width, ...)."""
        width = len(qkv) // 3
        count = self.count(width)
        order = (3, count) if self.new_attention_order else (count, 3)
        divided = qkv.reshape(*order, width // count, *qkv.shape[1:])
        for third in range(3):
            yield divided.select(0 if self.new_attention_order else 1, third).reshape(width, *qkv.shape[1:])


def in_order(state: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the parameters of a state dict in order of definition.

    Raises
    ------
    PriorError
        If the names are not those of such a network.
    """
    if "label_emb.weight" in state:
        raise PriorError("prior: the network is conditioned on classes; convert an unconditional model.")
    strange = [
        name
        for name, tensor in state.items()
        if not all(part.isdigit() or part in _PARTS for part in name.split(".")) or not isinstance(tensor, Tensor)
    ]
    if strange:
        raise PriorError(_not_this_layout(f"unknown name {strange[0]}"))

    def place(name: str) -> list[int]:
        return [int(part) if part.isdigit() else _PARTS.index(part) for part in name.split(".")]

    names = sorted(state, key=place)
    tensors = [state[name] for name in names]
    unet = GuidedDiffusionUNet.from_shapes([tuple(tensor.shape) for tensor in tensors])
    for given, layer in zip(names[::2], unet.layers(), strict=True):
        if given != f"{layer.name}.weight":
            raise PriorError(_not_this_layout(f"{given} in place of {layer.name}.weight"))
    return tensors


def _letter(shape: Shape) -> str:
    """Return the kind of a layer: norm, linear, attention's linear, or the size of a convolution."""
    if len(shape) == 4:
        return str(shape[-1])[0]
    return {1: "n", 2: "l", 3: "a"}.get(len(shape), "?")


def _way_up(blocks: Sequence[tuple[str, int]], weights: Sequence[Shape]) -> int:
    """Return the index of the first block with a wider input than the output below: it is joined by a skip."""
    width = weights[2][0]
    for index, (kind, start) in enumerate(blocks):
        if kind.startswith(_RESIDUAL):
            leaving, entering = weights[start + 1][:2]
            if entering != width:
                return index
            width = leaving
    return len(blocks)


def _not_this_layout(difference: str) -> str:
    return (
        f"prior: the checkpoint must be of guided-diffusion's unconditional U-Net ({difference}); convert another "
        "one, "
        "or save the network as a diffusers UNet2DModel."
    )


def _attention(name: str, ours: str, width: int) -> Iterator[Layer]:
    yield Layer(f"{name}.norm", f"{ours}.group_norm", (width,))
    yield Layer(f"{name}.qkv", f"{ours}.qkv", (3 * width, width, 1))
    yield Layer(f"{name}.proj_out", f"{ours}.to_out.0", (width, width, 1))
