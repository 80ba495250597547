"""The class embedder of a scumble model: a label becomes a context of one token."""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config


class ClassEmbedder(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(self, entries: int, channels: int):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(entries, channels))

    def forward(self, labels):
        return self.weight[labels][:, None, :]
