// A pipeline's stages: which batch each of them ran when, and the bubbles between.

const MOST = 256; // batches kept

export class Pipeline {
  constructor() {
    this.batches = new Map(); // batch -> runs by stage ({ began, ended }), complete or not
    this.stages = 0;
  }

  // `runs`: [{ batch, stage, began, ended }], in seconds; those of one batch may come apart.
  add(runs) {
    for (const { batch, stage, began, ended } of runs) {
      this.stages = Math.max(this.stages, stage + 1);
      if (!this.batches.has(batch)) this.batches.set(batch, []);
      this.batches.get(batch)[stage] = { began, ended };
    }
    for (const batch of this.batches.keys()) {
      if (this.batches.size <= MOST) break;
      this.batches.delete(batch);
    }
  }

  // The newest batches whose runs are known of all stages, in order: [{ batch, runs }].
  complete() {
    const found = [];
    for (const [batch, runs] of this.batches) {
      let known = 0;
      for (const run of runs) known += run ? 1 : 0;
      if (known === this.stages) found.push({ batch, runs });
    }
    return found.sort((one, other) => one.runs[0].began - other.runs[0].began);
  }
}

// Seconds that each stage worked, and the times at which it waited although a batch was in flight (SARATHI, 3.3).
// Waiting while the pipeline is empty is no bubble.
export function stageUse(batches, stages) {
  const use = Array.from({ length: stages }, () => ({ busy: 0, bubbles: [] }));
  const free = Array(stages).fill(0);
  batches.forEach(({ runs }, at) => {
    const launched = runs[0].began;
    const empty = at === 0 || batches[at - 1].runs.at(-1).ended <= launched;
    runs.forEach(({ began, ended }, stage) => {
      const since = empty ? Math.max(launched, free[stage]) : free[stage];
      if (began > since) use[stage].bubbles.push({ began: since, ended: began });
      use[stage].busy += ended - began;
      free[stage] = ended;
    });
  });
  return use;
}

// The share of bubbles in a stage's time with batches in flight.
export function bubbleShare({ busy, bubbles }) {
  const waited = bubbles.reduce((total, { began, ended }) => total + ended - began, 0);
  return waited / Math.max(busy + waited, 1e-9);
}
