"use strict";
// The page itself. Whatever comes from the model, from users or from the address becomes text content alone.

const of = (id) => document.getElementById(id);
const data = JSON.parse(of("data").textContent), { model } = data;
const FIELDS = ["prompt", "length", "temperature", "top_k", "top_p", "min_p", "seed"];
const SLICE = 50; // milliseconds after which the page shows what has come
const SHOWN = 20000; // characters of a text that are kept on the page
const BOUNDS = [1, 2, 3, 4, 6, 8, 12]; // bits from which on a character has the next colour
const SAFE = /^[\w@%+=:,./-]+$/;

function bytesOf(id) {
  const text = atob(of(id).textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  of(id).textContent = "";
  return bytes.buffer;
}

function inflated(id) {
  const packed = new Blob([bytesOf(id)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(packed).arrayBuffer();
}

// The worker, as a function: request -> its last answer; pieces on the way go to `heard`.
async function start() {
  const source = await inflated("worker");
  const worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  const waiting = new Map();
  let asked = 0;
  worker.onmessage = ({ data: answer }) => {
    const { heard, resolve, reject } = waiting.get(answer.id);
    if (answer.problem) reject(new Error(answer.problem));
    else heard(answer);
    if (answer.done) {
      resolve(answer);
      waiting.delete(answer.id);
    }
  };
  worker.onerror = (event) => waiting.forEach(({ reject }) => reject(new Error(event.message)));
  return (request, heard = () => {}, signal = null, given = []) =>
    new Promise((resolve, reject) => {
      const id = ++asked;
      waiting.set(id, { heard, resolve, reject });
      worker.postMessage({ ...request, id }, given);
      signal?.addEventListener("abort", () => worker.postMessage({ kind: "stop", id }));
    });
}

const started = start(), ask = async (...words) => (await started)(...words);
const weights = bytesOf("weights");
const ready = inflated("kernel").then((wasm) =>
  ask({ kind: "begin", model, weights, wasm }, undefined, null, [weights]));

window.charrnn = {
  ready: ready.then(({ kernels }) => ({ kernels })),
  // What `charrnn sample` writes to stdout with these settings, as a promise. `signal` may stop it.
  async write({ signal = null, ...options } = {}) {
    const pieces = [];
    await ask({ kind: "write", options }, ({ piece }) => pieces.push(piece), signal);
    return pieces.join("");
  },
};

// A text on the page, and what was expected at each of its characters.
class Text {
  constructor(element) {
    this.element = element;
    this.clear();
    element.addEventListener("mousemove", (event) => this.point(event.clientX, event.clientY));
    element.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
      if (!move || !this.places.length) return;
      event.preventDefault();
      this.show(Math.max(0, Math.min(this.places.length - 1, this.here + move)));
    });
  }

  clear() {
    this.element.textContent = "";
    Object.assign(this, { places: [], starts: [], nodes: [], length: 0, here: -1 });
    if (of("expected").previousElementSibling === this.element) of("expected").hidden = true;
  }

  // Append a text of one colour, with the places of its characters. Each line is a block, so that browsers
  // lay out the last one alone.
  add(text, name, places) {
    let at = this.length;
    for (const place of places) {
      this.starts.push(at);
      this.places.push(place);
      at += place.character.length;
    }
    for (const line of text.split(/(?<=\n)/)) {
      const [, last] = this.nodes.at(-1) ?? [], ended = !last || last.data.endsWith("\n");
      if (!ended && last.parentNode.className === name) last.appendData(line);
      else {
        const block = ended ? this.element.appendChild(document.createElement("div")) : last.parentNode.parentNode;
        const span = block.appendChild(document.createElement("span"));
        span.className = name;
        span.append(line);
        this.nodes.push([this.length, span.firstChild]);
      }
      this.length += line.length;
    }
  }

  // Of a text that has grown too long, keep the end alone.
  trim() {
    if (this.length < 2 * SHOWN) return;
    let cut = this.length - SHOWN;
    const [start, node] = this.nodes.findLast(([begin]) => begin <= cut);
    if (/[\udc00-\udfff]/.test(node.data[cut - start])) cut++; // no half of a character
    for (const [begin, other] of this.nodes)
      if (begin < start) {
        const block = other.parentNode.parentNode;
        other.parentNode.remove();
        if (!block.firstChild) block.remove();
      }
    node.deleteData(0, cut - start);
    this.nodes = this.nodes.filter(([begin]) => begin >= start).map(([begin, other]) => [Math.max(0, begin - cut), other]);
    const first = this.starts.findIndex((at) => at >= cut);
    this.places = first < 0 ? [] : this.places.slice(first);
    this.starts = first < 0 ? [] : this.starts.slice(first).map((at) => at - cut);
    this.length -= cut;
    this.here = -1;
  }

  point(x, y) {
    const found = document.caretPositionFromPoint?.(x, y), range = found ? null : document.caretRangeFromPoint?.(x, y);
    const node = found?.offsetNode ?? range?.startContainer, known = this.nodes.find(([, one]) => one === node);
    if (!known) return;
    const offset = known[0] + (found?.offset ?? range.startOffset);
    const near = this.starts.findLastIndex((start) => start <= offset);
    const hit = [near, near - 1].find((n) => n >= 0 && this.box(n)?.some((b) => x >= b.left && x < b.right && y >= b.top && y < b.bottom));
    if (hit !== undefined) this.show(hit);
  }

  range(n) {
    const start = this.starts[n], [first, node] = this.nodes.findLast(([begin]) => begin <= start), range = new Range();
    range.setStart(node, start - first);
    range.setEnd(node, Math.min(node.length, start - first + this.places[n].character.length));
    return range;
  }

  box(n) {
    return this.places[n] && [...this.range(n).getClientRects()];
  }

  show(n) {
    if (n === this.here) return;
    this.here = n;
    const { character, bits, next } = this.places[n];
    if (globalThis.Highlight) CSS.highlights.set("here", new Highlight(this.range(n)));
    this.element.after(of("expected"));
    of("expected").hidden = false;
    of("where").textContent = next.length
      ? `${named(character)} came, which took ${bits.toFixed(2)} bits. Expected were:`
      : `${named(character)} came, which the model did not choose.`;
    of("bars").replaceChildren(...next.map(([one, p]) => {
      const row = document.createElement("tr"), cells = ["th", "td", "td"].map((name) => row.appendChild(document.createElement(name)));
      const bar = document.createElement("span");
      cells[0].scope = "row";
      cells[0].textContent = named(one);
      cells[1].textContent = `${(100 * p).toFixed(1)} %`;
      bar.className = "bar";
      bar.style.width = `${100 * p}%`;
      cells[2].append(bar);
      return row;
    }));
  }
}

function named(character) {
  const names = { " ": "space", "\n": "new line", "\t": "tab", "\u{10ffff}": "the end" };
  if (names[character]) return names[character];
  if (/[\p{C}\p{Z}]/u.test(character)) return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
  return /\p{M}/u.test(character) ? `◌${character}` : character;
}

const shown = new Text(of("text")), heat = new Text(of("heat"));
let stopping = null;

function asked() {
  const given = {};
  for (const name of FIELDS) if (of(name).value !== "") given[name] = of(name).value;
  const labels = {};
  for (const column of model.columns) {
    const value = of(`label-${model.columns.indexOf(column)}`).value;
    if (value !== "") labels[column.name] = value;
  }
  if (Object.keys(labels).length) given.label = labels;
  return given;
}

function quoted(word) {
  return SAFE.test(word) ? word : `'${word.replaceAll("'", `'"'"'`)}'`;
}

// The command that writes the same.
function command({ label = {}, ...given }) {
  const words = ["charrnn", "sample", "-m", `${data.name}.safetensors`];
  if (model.precision !== "float32") words.push("--precision", model.precision);
  for (const [name, label_] of Object.entries(label)) {
    const one = JSON.stringify(label_);
    words.push("--label", name ? `${/^[\w ]+$/.test(name) ? name : JSON.stringify(name)}=${one}` : one);
  }
  const options = { temperature: "temp", top_k: "top-k", top_p: "top-p", min_p: "min-p" };
  for (const [name, value] of Object.entries(given)) words.push(`--${options[name] ?? name}`, value);
  return words.map(quoted).join(" ");
}

function fragment({ label = {}, ...given }) {
  const found = new URLSearchParams(given);
  for (const [name, value] of Object.entries(label)) found.append("label", name ? `${name}=${value}` : value);
  return found.toString();
}

function readFragment() {
  const found = new URLSearchParams(location.hash.slice(1));
  for (const name of FIELDS) of(name).value = found.get(name) ?? "";
  model.columns.forEach(({ name, labels }, n) => {
    const values = found.getAll("label").map((value) => (name && value.startsWith(`${name}=`) ? value.slice(name.length + 1) : value));
    of(`label-${n}`).value = values.find((value) => labels.includes(value)) ?? "";
  });
  return found.has("seed");
}

async function write() {
  const given = asked();
  if (of("seed").value === "") given.seed = String(crypto.getRandomValues(new Uint32Array(1))[0]);
  shown.clear();
  if (given.prompt) shown.add(given.prompt, "given", Array.from(given.prompt, (character) => ({ character, next: [] })));
  of("command").textContent = command(given);
  history.replaceState(null, "", `#${fragment(given)}`);
  stopping = new AbortController();
  of("write").disabled = true;
  of("stop").disabled = false;
  of("text").setAttribute("aria-busy", "true");
  of("said").textContent = "Writing";
  const waiting = [];
  const began = performance.now();
  const show = () => {
    for (const { piece, places } of waiting.splice(0)) shown.add(piece, "", places ?? []);
    shown.trim();
  };
  try {
    const { written } = await ask({ kind: "write", options: given, places: true }, (answer) => {
      if (!answer.piece) return;
      if (waiting.push(answer) === 1) setTimeout(show, SLICE);
    }, stopping.signal);
    show();
    const seconds = (performance.now() - began) / 1000;
    of("said").textContent = `${written.toLocaleString("en")} characters, seed ${given.seed}, ${seconds.toFixed(2)} s`;
  } catch (problem) {
    of("said").textContent = problem.message;
  }
  of("text").removeAttribute("aria-busy");
  of("write").disabled = false;
  of("stop").disabled = true;
  of("copy").disabled = !shown.length;
}

async function read() {
  const given = asked();
  heat.clear();
  of("heat-said").textContent = "Reading";
  try {
    const { found } = await ask({ kind: "read", options: { text: of("pasted").value.slice(0, SHOWN), label: given.label } });
    let bits = 0;
    for (const place of found) {
      const level = BOUNDS.filter((bound) => place.bits >= bound).length;
      heat.add(place.character, level ? `h${level}` : "", [place]);
      bits += place.bits;
    }
    of("heat-said").textContent = found.length ? `${(bits / found.length).toFixed(3)} bits a character` : "";
  } catch (problem) {
    of("heat-said").textContent = problem.message;
  }
}

async function copy() {
  const text = of("text").textContent;
  try {
    await navigator.clipboard.writeText(text);
    of("said").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(of("text"));
    of("said").textContent = document.execCommand("copy") ? "Copied" : "Selected: copy it with the keyboard";
  }
}

document.title = of("name").textContent = data.name;
of("about").textContent = data.about;
of("note").textContent = data.note;
of("length").placeholder = model.end ? "a text" : "500";
of("command").textContent = command({});
model.columns.forEach(({ name, labels }, n) => {
  const field = of("labels").appendChild(document.createElement("p")), select = document.createElement("select");
  const label = field.appendChild(document.createElement("label"));
  label.htmlFor = select.id = `label-${n}`;
  label.textContent = name || "Label";
  select.append(new Option("any", ""), ...labels.map((one) => new Option(one, one)));
  field.append(select);
});
["0", ...BOUNDS].forEach((bound, level) => {
  const mark = of("legend").appendChild(document.createElement("span"));
  mark.className = `level h${level}`;
  mark.textContent = bound;
});
of("legend").append("bits and more");
of("form").addEventListener("submit", (event) => { event.preventDefault(); if (!of("write").disabled) write(); });
of("heat-form").addEventListener("submit", (event) => { event.preventDefault(); read(); });
of("stop").addEventListener("click", () => stopping.abort());
of("copy").addEventListener("click", copy);
addEventListener("hashchange", readFragment);

const seeded = readFragment();
ready.then(() => {
  of("write").disabled = false;
  of("said").textContent = "";
  if (seeded) write();
}, (problem) => { of("said").textContent = problem.message; });
