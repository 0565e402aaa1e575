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

  colours(canvas) {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
  },

  focused: () => [...document.querySelectorAll("*")].indexOf(document.activeElement),

  tooWide: () => document.documentElement.scrollWidth - innerWidth,

  stored: () => [{ ...localStorage }, { ...sessionStorage }, document.cookie],
};
