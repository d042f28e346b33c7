"""Epochs of RecBole's MultiVAE; its environment runs it. Arguments: the folder of the data, width, epochs, batch."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time

import torch
from benchmarks.peer import peak_mib
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

torch.set_num_threads(1)
folder, dim, epochs, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
sys.argv = sys.argv[:1]
os.chdir(tempfile.mkdtemp())  # where it leaves logs
config = Config(
    model="MultiVAE",
    dataset="bench",
    config_dict={
        "data_path": folder,
        "load_col": {"inter": ["user_id", "item_id"]},
        "mlp_hidden_dimension": [],
        "latent_dimension": 2 * dim,  # means and deviations: the code has half as many
        "dropout_prob": 0.5,
        "train_batch_size": batch,
        "epochs": epochs,
        "learning_rate": 1e-3,
        "use_gpu": False,
        "show_progress": False,
        "checkpoint_dir": tempfile.mkdtemp(),
        "eval_args": {"split": {"RS": [1.0, 0.0, 0.0]}, "order": "RO", "group_by": "user", "mode": "full"},
        "state": "ERROR",
    },
)
init_seed(0, True)
data = create_dataset(config)
train, _, _ = data_preparation(config, data)
model = get_model("MultiVAE")(config, train.dataset)
trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
trainer._train_epoch(train, 0, show_progress=False)  # warm
started = time.process_time()
for epoch in range(epochs):
    loss = trainer._train_epoch(train, epoch, show_progress=False)
print(
    json.dumps(
        {
            "seconds": time.process_time() - started,
            "parameters": sum(p.numel() for p in model.parameters()),
            "peak_mib": peak_mib(),
        }
    )
)
