"""Updates as tools/demo.yaml describes them, by PyTorch's own AdamW and clipping."""
import torch


class Trainer:
    """Updates of a model; `forward` may be a compiled form of it."""

    def __init__(self, model, recipe, forward=None):
        self.model, self.recipe, self.forward = model, recipe, model if forward is None else forward
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.lr, betas=recipe.betas, eps=recipe.eps, weight_decay=recipe.weight_decay,
            fused=True,
        )  # fmt: skip
        self.done = 0

    def gradients(self, ids, labels):
        """Loss (a tensor, nats, gate loss included) of one batch; leaves its gradients in the parameters."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        inner, gate = self.forward(ids, labels)
        loss = inner + self.model.config.gate_loss * gate
        loss.backward()
        return loss

    def update(self, ids, labels):
        """(loss, gradient norm before clipping) as tensors."""
        loss = self.gradients(ids, labels)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate(self.done)
        self.optimizer.step()
        self.done += 1
        return loss.detach(), norm


@torch.no_grad()
def evaluate(model, batches):
    """(mean loss with the gate loss, mean cross entropy), nats per counted label, over batches of numpy arrays."""
    model.eval()
    total, inner_total, counted = 0.0, 0.0, 0
    for ids, labels in batches:
        ids, labels = torch.from_numpy(ids), torch.from_numpy(labels)
        weight = int((labels != model.config.pad).sum())
        inner, gate = model(ids, labels, has_padding=bool((ids == model.config.pad).any()))
        total += float(inner + model.config.gate_loss * gate) * weight
        inner_total += float(inner) * weight
        counted += weight
    return total / counted, inner_total / counted
