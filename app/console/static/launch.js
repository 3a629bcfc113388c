// The launch form: defaults that follow the kind of run, and what the run will cost, asked of the service.
"use strict";

const form = document.getElementById("launch");
if (form) {
  const lora = document.getElementById("lora");
  const rank = form.elements["trainer.model.lora.rank"];
  const rate = form.elements["trainer.optim.peak_lr"];
  const epochs = form.elements["trainer.run.epochs"];
  const steps = form.elements["trainer.run.max_steps"];
  let waiting;
  let newest = 0;

  function follow() {
    const kind = form.elements.model.selectedOptions[0].dataset.kind;
    document.getElementById("lora-choice").hidden = kind === "scratch";
    const withLora = lora.checked && kind !== "scratch";
    rank.disabled = !withLora;
    document.getElementById("rank-choice").hidden = !withLora;
    rate.placeholder = JSON.parse(rate.dataset.lr)[withLora ? "lora" : kind];
    epochs.disabled = steps.value !== "";
  }

  async function estimate() {
    const mine = ++newest;
    const put = (name, text) => (form.querySelector(`[data-cost=${name}]`).textContent = text);
    const values = valuesOf(form);
    const query = new URLSearchParams({ version: values.training_file, model: values.model });
    if (values.trainer?.batch?.tokens) query.set("batch_tokens", values.trainer.batch.tokens);
    if (values.trainer?.run?.max_steps) query.set("max_steps", values.trainer.run.max_steps);
    else if (values.trainer?.run?.epochs) query.set("epochs", values.trainer.run.epochs);
    if (values.trainer?.model?.lora) query.set("lora", "true");
    try {
      const cost = await api("GET", `/console/training/cost?${query}`);
      if (mine !== newest) return;
      put("tokens", say("cost_tokens", { all: cost.tokens.toLocaleString(), epoch: cost.epoch_tokens.toLocaleString() }));
      put("steps", say("cost_steps", { steps: cost.steps.toLocaleString(), batch: cost.batch_tokens.toLocaleString() }));
      put("memory", cost.memory_bytes === null ? say("unknown") : say("cost_memory", { size: (cost.memory_bytes / 1e9).toFixed(1), parameters: (cost.parameters / 1e6).toFixed(1) }));
    } catch (error) {
      for (const name of ["tokens", "steps", "memory"]) put(name, error.message);
    }
  }

  form.addEventListener("input", () => {
    follow();
    clearTimeout(waiting);
    waiting = setTimeout(estimate, 400);
  });
  follow();
  estimate();
}
