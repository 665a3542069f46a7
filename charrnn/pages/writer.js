// Prompt and settings -> what `charrnn sample` writes to stdout; text -> what the network expected of it.

const END = "\u{10ffff}", SENTENCE_ENDS = ".。।۔።", USUAL = 0.03, SLICE = 30;
const MOST_LENGTH = 1e9, MOST_SHOWN = 8, MOST_PLACES = 20000, UNKNOWN_BITS = 32;

class Writer {
  constructor(model, weights, wasm) {
    const memory = new Memory(model, weights, roomOf(model));
    this.kernels = "plain JavaScript";
    let kernels = null;
    if (wasm && memory.wasm)
      try {
        const env = { memory: memory.wasm };
        kernels = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env }).exports;
        this.kernels = "WebAssembly";
      } catch {} // no vectors here
    kernels ??= plainKernels(memory.buffer);
    const counts = model.counts && new Counts(model, weights);
    this.model = model;
    this.network = new Network(model, memory, kernels, counts);
    this.led = model.columns.length ? new Network(model, memory, kernels, counts) : null;
    this.points = Array.from(model.characters);
    this.ids = new Map(this.points.map((character, id) => [character, id]));
  }

  // The network of texts with these labels, led away from one without any by a strength other than 1.
  of(label, strength) {
    const { columns } = this.model;
    if (label === undefined || label === null || label === "") return this.network;
    if (!columns.length) throw new Error("the model has no labels");
    const given = typeof label === "string" ? { [columns[0].name]: label } : label;
    for (const name of Object.keys(given))
      if (!columns.some((column) => column.name === name)) throw new Error(`the model has no labels named ${name}`);
    const ids = columns.map(({ name, labels }) => {
      if (!given[name]) return labels.length;
      if (!labels.includes(given[name])) throw new Error(`the model has never seen the label ${given[name]}`);
      return labels.indexOf(given[name]);
    });
    this.led.label(ids);
    if (strength === 1) return this.led;
    const led = new Led(this.led, this.network);
    led.strength = strength;
    return led;
  }

  // A user's text in the model's own form and characters.
  form(text) {
    const { model } = this;
    if (model.bytes) return String.fromCharCode(...new TextEncoder().encode(text));
    if (model.split) text = text.replaceAll(END, "\ufffd");
    if (model.lowercase) text = text.replaceAll("\u03a3", "\u03c3").toLowerCase();
    return model.normal ? text.normalize(model.normal) : text;
  }

  encode(text, rare) {
    return Array.from(text, (character, at) => {
      const id = this.ids.get(character) ?? rare;
      if (id >= 0) return id;
      const point = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      throw new Error(`the model has never seen the character ${JSON.stringify(character)} (U+${point}), at position ${at}`);
    });
  }

  // What is read before anything is written: the prompt's last text or, without one, what begins a sentence.
  opening(network, prompt) {
    const end = this.ids.get(this.model.end);
    if (this.model.end) return prompt.slice(prompt.lastIndexOf(end) + 1);
    return prompt.length ? prompt : this.lead(network);
  }

  lead(network) {
    const newline = this.ids.get("\n"), p = new Float64Array(network.vocabSize);
    if (newline === undefined) return [];
    const after = (character) => {
      probabilities(p, network.step(character), 1);
      return p[newline];
    };
    network.begin();
    network.step(network.vocabSize);
    const start = network.save();
    let best = { probability: 0 };
    for (const character of Array.from(SENTENCE_ENDS)) {
      const read = this.ids.get(character);
      if (read === undefined) continue;
      network.restore(start);
      const probability = after(read);
      if (!("read" in best) || probability > best.probability) best = { probability, read, state: network.save() };
    }
    if (best.probability < USUAL) return [newline];
    network.restore(best.state);
    return after(newline) >= USUAL ? [best.read, newline, newline] : [best.read, newline];
  }

  // Hands `out` what stdout would get, piece by piece, and yields now and then. Of the first characters, as
  // many as there is room for, it also says what was expected, in `places`.
  *write(options, out, places = null) {
    const { model } = this, asked = settings(model, options), network = this.of(asked.label, asked.strength);
    const rare = network instanceof Led ? -1 : model.rare;
    const prompt = this.opening(network, this.encode(this.form(asked.prompt), rare));
    const end = this.ids.get(model.end) ?? -1, V = network.vocabSize;
    const sampler = new Sampler(V, asked), bytes = model.bytes ? new Bytes() : null;
    const before = prompt.map((id) => this.points[id]).join("");
    const expected = places && !bytes && new Float64Array(V);
    network.begin();
    this.written = 0; // characters
    let last = V, due = Date.now() + SLICE;
    for (const id of prompt) {
      network.step(last);
      last = id;
      if (Date.now() > due) { yield; due = Date.now() + SLICE; }
    }
    const start = network.save(), first = last;
    for (let number = 0; number < asked.count; number++) {
      const random = new Random(asked.seed, asked.index + BigInt(number));
      network.restore(start);
      last = first;
      let left = asked.length + (model.end === END), tail = "", piece = "";
      if (number && !model.separator && model.end !== "\n") out("\n");
      const text = bytes && bytes.text(options.prompt ? before.slice(before.lastIndexOf(model.end || "\n") + 1) : "");
      const put = (more) => {
        if (text) more = text(more);
        if (!more) return;
        tail = more;
        out(more);
      };
      for (; left > 0; left--) {
        const logits = network.step(last);
        let chosen = logits;
        if (end >= 0 && last === V) {
          chosen = logits.slice();
          chosen[end] = -Infinity;
        }
        last = sampler.sample(chosen, random.next());
        if (last === end && model.end === END) break;
        if (left === 1 && model.end === END) break;
        piece += this.points[last];
        this.written++;
        if (expected && places.length < MOST_PLACES) {
          probabilities(expected, chosen, 1);
          places.push(this.place(expected, last));
        }
        if (last === end) break;
        if ((left & 15) === 0 && Date.now() > due) {
          put(piece);
          piece = "";
          yield;
          due = Date.now() + SLICE;
        }
      }
      put(piece);
      if (text) {
        const rest = text(null);
        if (rest) out((tail = rest));
      }
      if (model.separator) out(model.separator);
      else if (!tail.endsWith("\n")) out("\n");
    }
  }

  // The character that came, its bits, and the most probable ones with their probabilities.
  place(p, id) {
    const next = [];
    for (let i = 0; i < p.length; i++) {
      if (next.length === MOST_SHOWN && p[i] <= p[next[MOST_SHOWN - 1]]) continue;
      let at = Math.min(next.length, MOST_SHOWN - 1);
      for (; at > 0 && p[i] > p[next[at - 1]]; at--) next[at] = next[at - 1];
      next[at] = i;
    }
    return { character: this.points[id], bits: -Math.log2(p[id]), next: next.map((n) => [this.points[n], p[n]]) };
  }

  // The places of a text that was not written here; of a model of bytes, each stands for a character's first.
  *read({ text, label, strength = 1 }, places) {
    const { model } = this, network = this.of(label, strength), p = new Float64Array(network.vocabSize);
    const end = this.ids.get(model.end) ?? -1, V = network.vocabSize;
    const texts = model.bytes ? Array.from(text) : Array.from(this.form(text));
    let last = V, due = Date.now() + SLICE;
    network.begin();
    for (const character of texts) {
      const place = { character, bits: 0, next: null };
      for (const one of model.bytes ? this.form(character) : [character]) {
        const id = this.ids.get(one) ?? model.rare;
        if (id < 0) {
          place.bits += UNKNOWN_BITS;
          continue;
        }
        probabilities(p, network.step(last), 1);
        const { bits, next } = this.place(p, id);
        place.bits += bits;
        place.next ??= next;
        last = id;
        if (id === end) {
          network.begin();
          last = V;
        }
      }
      places.push({ ...place, next: place.next ?? [] });
      if (Date.now() > due) { yield; due = Date.now() + SLICE; }
    }
  }
}

// The settings of a text, those that are not given as `charrnn sample` has them.
function settings(model, options) {
  const defaults = { prompt: "", temperature: 0.8, top_k: 0, top_p: 1, min_p: 0, strength: 2 };
  const asked = { ...defaults, ...Object.fromEntries(Object.entries(options).filter(([, value]) => value != null)) };
  const known = [...Object.keys(defaults), "length", "seed", "index", "count", "label"];
  for (const name of Object.keys(asked)) if (!known.includes(name)) throw new Error(`there is no setting ${name}`);
  const alone = asked.prompt !== "" || asked.index !== undefined;
  asked.length ??= model.end ? 10000 : 500;
  asked.count ??= model.end && !alone ? 10 : 1;
  const number = (name, low, high, isWhole) => {
    const value = Number(asked[name]);
    if (!(value >= low && value <= high) || (isWhole && !Number.isInteger(value)))
      throw new Error(`${name} is ${asked[name]}: give a ${isWhole ? "whole " : ""}number from ${low} to ${high}`);
    asked[name] = value;
  };
  number("temperature", 0, 1e6);
  number("top_k", 0, 0x110000, true);
  number("top_p", 5e-324, 1);
  number("min_p", 0, 1);
  number("strength", 0, 100);
  number("length", 0, MOST_LENGTH, true);
  number("count", 1, 1e6, true);
  for (const [name, most] of [["seed", 2n ** 63n - 1n], ["index", 10n ** 12n]]) {
    const value = asked[name] ?? 0;
    if (!/^\d+$/.test(String(value)) || BigInt(value) > most)
      throw new Error(`${name} is ${value}: give a whole number from 0 to ${most}`);
    asked[name] = BigInt(value);
  }
  return asked;
}

// What a model of bytes writes, as text: no maximum length cuts a UTF-8 character in two.
class Bytes {
  // A function that takes pieces of bytes, or null at the end, and returns what can be shown.
  text(before) {
    const shown = new TextDecoder("utf-8", { ignoreBOM: true });
    let strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }), held = 0;
    const bytesOf = (text) => Uint8Array.from(text, (character) => character.charCodeAt(0));
    const check = (bytes) => {
      if (!strict) return;
      try {
        const read = new TextEncoder().encode(strict.decode(bytes, { stream: true })).length;
        held += bytes.length - read;
      } catch {
        strict = null;
      }
    };
    check(bytesOf(before));
    return (piece) => {
      if (piece === null) return strict && held ? "" : shown.decode();
      const bytes = bytesOf(piece);
      check(bytes);
      return shown.decode(bytes, { stream: true });
    };
  }
}

// The worker's side of the page: requests {id, kind, ...} are answered one after the other by {id, ...}.
const channel = new MessageChannel(); // a timer would wait for four milliseconds
const pause = () =>
  new Promise((resolve) => {
    channel.port1.onmessage = resolve;
    channel.port2.postMessage(null);
  });

function serve(scope) {
  const stopped = new Set();
  let writer = null, turn = Promise.resolve();

  async function write(id, options, wanted) {
    const places = wanted ? [] : null;
    let waiting = "", told = 0;
    const send = (more) => {
      const some = places?.slice(told);
      told = places?.length;
      scope.postMessage({ id, piece: waiting, places: some, ...more });
      waiting = "";
    };
    for (const _ of writer.write(options, (piece) => { waiting += piece; }, places)) {
      if (stopped.has(id)) break;
      if (waiting) send();
      await pause();
    }
    send({ done: true, written: writer.written });
  }

  async function read(id, request) {
    const found = [];
    for (const _ of writer.read(request, found)) {
      if (stopped.has(id)) break;
      await pause();
    }
    scope.postMessage({ id, found, done: true });
  }

  async function answer({ id, kind, model, weights, wasm, options, places }) {
    try {
      if (kind === "begin") {
        writer = new Writer(model, weights, wasm);
        scope.postMessage({ id, kernels: writer.kernels, done: true });
      } else await (kind === "write" ? write : read)(id, options, places);
    } catch (problem) {
      scope.postMessage({ id, problem: problem.message, done: true });
    }
    stopped.delete(id);
  }

  scope.onmessage = ({ data }) => {
    if (data.kind === "stop") stopped.add(data.id);
    else turn = turn.then(() => answer(data));
  };
}

serve(self);
