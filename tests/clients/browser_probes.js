// What the checks of use_browser.py ask inside the page.

const rgb = (text) => text.match(/[\d.]+/g).map(Number);

function luminance([red, green, blue]) {
  const linear = (part) => (part / 255 <= 0.03928 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
}

function ground(element) {
  for (let one = element; one; one = one.parentElement) {
    const colour = rgb(getComputedStyle(one).backgroundColor);
    if (colour.length < 4 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
}

const readers = new Set(); // of streams that the page reads
const getReader = ReadableStream.prototype.getReader;
ReadableStream.prototype.getReader = function (...options) {
  const reader = getReader.apply(this, options);
  readers.add(reader);
  return reader;
};

// An iteration of decodes, as the server tells it.
function iteration(batch, ids) {
  const chunks = ids.map((id) => ({ id, start: 0, tokens: 1, prefill: false }));
  const counts = { budget: 9, waiting: 0, running: ids.length, free_blocks: 1 };
  return { replica: 0, batch, chunks, removed: [], reasons: {}, others: "", ...counts, at: batch, seconds: 1, ttft: {}, tbt: {} };
}

window.probes = {
  // Texts whose contrast to their ground is below WCAG's AA.
  contrast() {
    const poor = [];
    for (const element of document.querySelectorAll("body *")) {
      const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
      if (!own || !element.checkVisibility() || element.closest(":disabled, noscript, option, script")) continue;
      const [one, other] = [luminance(rgb(getComputedStyle(element).color)), luminance(ground(element))];
      const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      if (ratio < 4.5) poor.push(`${element.tagName} "${element.textContent.trim().slice(0, 30)}" ${ratio.toFixed(2)}`);
    }
    return poor;
  },

  // Controls and pictures without a name for a reader of the screen.
  unnamed() {
    return [...document.querySelectorAll("button, input, select, textarea, canvas, [role=img], meter, progress")]
      .filter((element) => element.checkVisibility() && !element.closest("[aria-label][role=img]"))
      .filter((element) => !(element.ariaLabel || element.textContent.trim() || element.labels?.length || element.title))
      .map((element) => element.outerHTML.slice(0, 80));
  },

  // Elements with their attributes that the page makes of a model's text; null if it shows the text as it is.
  async elements(text) {
    const { render } = await import("orcinus/markdown.js");
    const safe = render(text);
    if (safe === null) return null;
    const template = document.createElement("template");
    template.innerHTML = safe;
    const attributes = (element) => [...element.attributes].map(({ name, value }) => `${name}=${value}`);
    return { text: safe, elements: [...template.content.querySelectorAll("*")].map((one) => [one.tagName, ...attributes(one)].join(" ")) };
  },

  // What is kept of a run after so many more iterations, in which requests of 50 tokens follow each other.
  async grow(count) {
    const { Run } = await import("orcinus/run.js");
    this.run ??= new Run();
    for (let made = 0; made < count; made++) {
      const batch = this.run.iterations + 1;
      const number = Math.floor(batch / 50);
      const chunks = [{ id: `r${number}`, start: 0, tokens: 1, prefill: false }];
      const removed = batch % 50 ? [] : [`r${number - 1}`];
      const counts = { budget: 9, waiting: 0, running: 1, free_blocks: 1 };
      const times = { at: batch, seconds: 1, ttft: {}, tbt: { [`r${number}`]: [1] } };
      this.run.add({ replica: 0, batch, chunks, removed, reasons: {}, others: "", ...counts, ...times });
    }
    const lane = this.run.lanes.get(0);
    return { columns: lane.columns.length, slots: lane.slots.size, latencies: this.run.tbt.length, live: this.run.soFar.size };
  },

  // Three iterations of which one was not heard: which are marked, and who holds a slot.
  async gap() {
    const { Run } = await import("orcinus/run.js");
    const run = new Run();
    const gaps = [];
    for (const [batch, ids] of [[1, ["a", "b"]], [2, ["a", "b"]], [9, ["c"]]]) gaps.push(run.add(iteration(batch, ids)).gap);
    return { gaps, slots: [...run.lanes.get(0).slots.keys()] };
  },

  // Slots that a static batch of three keeps in each iteration, until the next batch begins.
  async padding() {
    const { Run } = await import("orcinus/run.js");
    const run = new Run();
    const told = [[["a", "b", "c"], []], [["a", "b", "c"], []], [["a", "b"], ["c"]], [["a"], ["b"]], [["d"], ["a"]]];
    return told.map(([ids, removed], at) => run.add({ ...iteration(at + 1, ids), removed, policy: "request-level" }).padding.length);
  },

  // Bubbles and work of two stages: three batches, the second one short, and a pause that is no bubble.
  async bubbles() {
    const { Pipeline, stageUse } = await import("orcinus/pipeline.js");
    const pipeline = new Pipeline();
    const runs = (batch, ...times) => times.map(([began, ended], stage) => ({ batch, stage, began, ended }));
    pipeline.add(runs(1, [0, 2], [2, 3]));
    pipeline.add(runs(2, [2, 3]));
    pipeline.add([{ batch: 2, stage: 1, began: 4, ended: 5 }]);
    pipeline.add(runs(3, [20, 21], [22, 23]));
    const use = stageUse(pipeline.complete(), pipeline.stages);
    return use.map(({ busy, bubbles }) => [bubbles.reduce((total, { began, ended }) => total + ended - began, 0), busy]);
  },

  // Pixels of a colour.
  pixels(canvas, red, green, blue) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let at = 0; at < data.length; at += 4) {
      if (data[at] === red && data[at + 1] === green && data[at + 2] === blue) found += 1;
    }
    return found;
  },

  // Pixels of the colour that marks the longest stall, in both themes.
  red(canvas) {
    return this.pixels(canvas, 0xb9, 0x1c, 0x1c) + this.pixels(canvas, 0xf8, 0x71, 0x71);
  },

  // Brightness (0 to 255) of a PNG, in 24 columns and 16 rows.
  async brightness(picture) {
    const bytes = Uint8Array.from(atob(picture), (one) => one.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
    const canvas = Object.assign(document.createElement("canvas"), { width: 24, height: 16 });
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, 24, 16);
    const { data } = context.getImageData(0, 0, 24, 16);
    return Array.from({ length: 24 * 16 }, (_, at) => Math.round((data[4 * at] + data[4 * at + 1] + data[4 * at + 2]) / 3));
  },

  // Break the streams that are being read, as a network does.
  disconnect() {
    for (const reader of readers) reader.cancel();
  },

  colours(canvas) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  },

  focused: () => [...document.querySelectorAll("*")].indexOf(document.activeElement),

  tooWide: () => document.documentElement.scrollWidth - innerWidth,

  stored: () => [{ ...localStorage }, { ...sessionStorage }, document.cookie],
};
